"""The world of the fault tests on virtual time: workflows, an outside that remembers, and a client that insists."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import trio

from actors import messages as m
from actors.errors import ActorRestarted, Draining, MailboxFull
from actors.fork_desk import fork_of
from runtimed import App, Context, Failure, Retry, Transaction, current_step
from runtimed.virtual import VirtualRuntime
from wal import records as r
from wal.errors import JournalError

T = TypeVar("T")
TRIES_MAX = 1_000
PAUSE_SECONDS = 0.05
AWAY = (ActorRestarted, Draining, MailboxFull, JournalError)
QUICK = Retry(max_attempts=20, initial_interval=0.1, max_interval=1.0)


class Outside:
    """What steps did: (idempotency key, attempt), in order. A seed, if given, makes attempts slow or fail besides."""

    def __init__(self, seed: int | None = None) -> None:
        self.effects: list[tuple[str, int]] = []
        self._seed = seed

    def _luck(self, key: str, attempt: int) -> float:
        """By the key and never by the moment, so that it is the same whatever else happens."""
        if self._seed is None:
            return 1.0
        return random.Random(f"{self._seed} {key} {attempt}").random()

    async def act(self, seconds: float, *, fails_first: bool) -> str:
        step = current_step()
        luck = self._luck(step.idempotency_key, step.attempt)
        await trio.sleep(seconds if luck > 0.2 else seconds * 100)
        self.effects.append((step.idempotency_key, step.attempt))
        if (fails_first and step.attempt == 1) or 0.2 < luck < 0.4:
            raise OSError("not at the first attempt")
        return step.idempotency_key


outside = Outside()
app = App("world")


class Enough(Failure):
    """Why a trip is over."""


@app.step(retry=QUICK)
async def work(tag: str, seconds: float = 0.01) -> str:
    """Do something that takes a moment."""
    return await outside.act(seconds, fails_first=False)


@work.compensation(retry=QUICK)
async def unwork(value: str, tag: str, seconds: float = 0.01) -> None:
    """Undo it, at the second attempt."""
    await outside.act(0.01, fails_first=True)


@app.step(retry=QUICK, timeout=5.0)
async def flaky(tag: str) -> str:
    """Fail once."""
    return await outside.act(0.02, fails_first=True)


@app.transaction
def count(tx: Transaction) -> int:
    """Number what comes by, without a gap."""
    number: int = tx.global_state.get("counted", int, 0) + 1
    tx.global_state.put("counted", number)
    tx.state.put("number", number)
    return number


@app.workflow(signals={"go": str})
async def trip(ctx: Context, number: int) -> list[Any]:
    """Steps, a rest, a person, a group, state and output."""
    done: list[Any] = [await ctx.step(work, "a")]
    await ctx.sleep(5.0 if number == 3 else 0.1)
    done.append(await ctx.signal("go", timeout=3600.0 if number % 2 else None))  # half of them nothing else would wake
    done += await ctx.gather(ctx.step(work, "b"), ctx.step(flaky, "c"))
    await ctx.state.put("done", len(done))
    await ctx.step(count)
    await ctx.emit(number)
    return [*done, (await ctx.race(quick=ctx.step(work, "d"), slow=ctx.sleep(60.0)))[0]]


@app.workflow
async def doomed(ctx: Context, steps: int) -> None:
    """Steps that are all undone."""
    for number in range(steps):
        await ctx.step(work, f"step-{number}")
    raise Enough("and back again")


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """What a client does: whoever is told that an actor restarted asks again, under the same id."""
    for _ in range(TRIES_MAX):
        try:
            return await ask()
        except AWAY:
            await trio.sleep(PAUSE_SECONDS)
    raise AssertionError(f"refused {TRIES_MAX} times")


class Client:
    """Asks for things by ids of its own, and keeps what was acknowledged, as (kind, subject)."""

    def __init__(self, runtime: VirtualRuntime, acknowledged: list[tuple[str, str]] | None = None) -> None:
        self.runtime = runtime
        self.acknowledged = [] if acknowledged is None else acknowledged

    async def start(self, workflow: str, value: Any, run_id: str, **options: Any) -> None:
        await insist(lambda: self.runtime.start(workflow, value, id=run_id, **options))
        self.acknowledged.append(("run_started", run_id))

    async def signal(self, run_id: str, value: str) -> None:
        await insist(lambda: self.runtime.signal(run_id, "go", value, signal_id=f"go-{run_id}"))
        self.acknowledged.append(("signal_received", run_id))

    async def cancel(self, run_id: str) -> None:
        await insist(lambda: self.runtime.cancel(run_id))
        self.acknowledged.append(("run_cancel_requested", run_id))

    async def fork(self, run_id: str, at_seq: int, fork_id: str) -> None:
        asked = {"id": fork_id, "origin": _origin(f"fork-{fork_id}")}

        async def ask() -> None:
            await self.runtime.ask(await self.runtime.read(lambda reader: fork_of(reader, run_id, at_seq, **asked)))

        await insist(ask)
        self.acknowledged.append(("run_forked", fork_id))

    async def put(self, key: str, value: bytes, scope: str = "global") -> int:
        command = m.PutState(scope=scope, key=key, value=msgspec.Raw(value), origin=_origin(f"put-{key}-{value!r}"))
        reply: m.StateReply = await insist(lambda: self.runtime.ask(command))
        self.acknowledged.append(("state_written", f"{key}@{reply.state.version}"))
        return reply.state.version

    async def open_session(self, session_id: str, **options: Any) -> None:
        command = m.OpenSession(id=session_id, on_close="cancel", origin=_origin(f"open-{session_id}"), **options)
        await insist(lambda: self.runtime.ask(command))
        self.acknowledged.append(("session_opened", session_id))

    async def close_session(self, session_id: str) -> None:
        command = m.CloseSession(id=session_id, origin=_origin(f"close-{session_id}"))
        await insist(lambda: self.runtime.ask(command))
        self.acknowledged.append(("session_closed", session_id))


def _origin(key: str) -> m.Origin:
    return m.Origin(by="client", request=m.RequestKey(principal="client", key=key, digest=key))


def problems(runtime: VirtualRuntime, client: Client) -> list[str]:
    """What the journal and the outside say against the runtime: nothing, if it kept its promises."""
    names: dict[int, str] = {}
    there: list[tuple[str, str]] = []
    completed: dict[str, int] = {}
    counted: list[int] = []
    recalled: set[str] = set()
    for entry in runtime.disk.entries:
        record = entry.record
        match record:
            case r.RunStarted():
                names[entry.run_key] = record.id
            case r.RunForked():
                done = [one.record for one in record.past if isinstance(one.record, r.StepCompleted)]
                recalled |= {f"{names[entry.run_key]}/0/{one.key}/{one.name}" for one in done}
            case r.StepCompleted(name="count"):
                counted.append(msgspec.json.decode(record.result))
            case r.StepCompleted() | r.CompensationCompleted():
                completed[f"{names[entry.run_key]}/0/{record.key}/{record.name}"] = record.attempt
        there.append((record.kind, _subject(record, names.get(entry.run_key, ""))))
    found = [f"{ack} is {there.count(ack)} times in the journal" for ack in client.acknowledged if ack not in there]
    once = [ack for ack in client.acknowledged if ack[0] != "run_cancel_requested"]
    found += [f"{ack} is {there.count(ack)} times in the journal" for ack in once if there.count(ack) > 1]
    effects = outside.effects
    found += [
        f"{effect} happened {effects.count(effect)} times" for effect in set(effects) if effects.count(effect) > 1
    ]
    found += [f"{key} ran again after attempt {completed[key]}" for key, n in effects if n > completed.get(key, n)]
    found += [] if counted == [*range(1, len(counted) + 1)] else [f"transactions counted {counted}"]
    found += [f"{key} is of the past, and ran again" for key, _ in effects if key in recalled]
    found += [f"{key} has no effect" for key, attempt in completed.items() if (key, attempt) not in effects]
    return found


def _subject(record: r.Fact, run_id: str) -> str:
    match record:
        case r.StateWritten():
            own = record.scope in ("global", f"run:{record.name.removeprefix('note-')}")
            return f"{record.name}@{record.version}" if own else ""  # a fork has taken it over
        case r.SessionOpened() | r.SessionClosed() | r.SessionExpired():
            return record.id
    return run_id
