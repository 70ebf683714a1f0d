"""The crash-point tester: runs a workflow once, then kills it after every record, recovers, and compares the ends.

For each number of records the journal is cut there, a fresh runtime starts on what is left, its clock where the cut
record stood, and people and programs send again what they had sent: the start and the signals under the same ids. Then
the run is to end as it did undisturbed: status, result, error, output, state, and what was compensated. What was in
flight at the cut is told, because it may act twice: give it an idempotency key.

Each play has a loop, a clock and a journal of its own, in a worker thread, so that all of them are alike whoever asks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import anyio.from_thread
import anyio.to_thread
import msgspec
import trio
import trio.testing
from trio._core import _run as trio_run

from actors import messages as m
from actors.clock import VIRTUAL_START_US
from actors.errors import AlreadyVoted, ApprovalClosed, RunEnded
from actors.flow.definitions import App, Workflow
from runtimed.opening import single
from runtimed.runtime import Runtime
from runtimed.settings import Settings
from runtimed.virtual import Executed, VirtualRuntime
from wal import records as r
from wal.records import Entry, Fact

RUN_ID = "crash-everywhere"
PATIENCE_S = 100 * 366 * 86_400.0
"""Virtual seconds until a run counts as one that never ends."""
PAIRS_MAX = 500
IN_DOUBT = "outcome_unknown"

Prepare = Callable[[Runtime], Awaitable[None]]


class SendSignal(msgspec.Struct, frozen=True):
    """A signal of the scenario, sent so many seconds after the run was first asked for, and again after each kill."""

    name: str
    value: Any = None
    after: float = 0.0


class SendDecision(msgspec.Struct, frozen=True):
    """A person's answer in the scenario, to the `nth` approval that the run asks for (counted from 0), as soon as it
    asks and `after` seconds have passed since the start; said again after each kill, when it may have been kept."""

    approve: bool = True
    by: str = "somebody"
    reason: str | None = "because"
    data: Any = None
    nth: int = 0
    after: float = 0.0


class Scenario(msgspec.Struct, frozen=True):
    """What is played: all that a client does. `prepare` runs before each start and must bear being repeated."""

    workflow: Workflow
    input: Any
    apps: tuple[App, ...]
    signals: tuple[SendSignal, ...] = ()
    decisions: tuple[SendDecision, ...] = ()
    cancel_after: float | None = None
    session_id: str | None = None
    prepare: Prepare | None = None
    settings: Settings = Settings()
    seed: int = 0


class Ending(msgspec.Struct, frozen=True):
    """How a run ended: what must be the same after any kill."""

    status: str
    result: str
    error: str
    output: tuple[str, ...]
    state: tuple[str, ...]
    compensated: tuple[str, ...]


class Cut(msgspec.Struct, frozen=True):
    """One kill (or two: `again_after` is the record of the second): what it cost.

    `twice` names steps that were in flight and ran again; `in_doubt` those of unknown outcome, which wait for a person;
    `differs` says how the end was another one, empty if it was the same.
    """

    records: int
    after: str
    again_after: str = ""
    twice: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()
    differs: str = ""

    def __str__(self) -> str:
        where = f"killed after record {self.records} ({self.after})" if self.records else "killed before any record"
        if self.again_after:
            where += f" and again after {self.again_after}"
        costs = [f"{step} can run twice if killed here" for step in self.twice]
        costs += [f"it is not known whether {step} happened; a person decides" for step in self.in_doubt]
        if self.differs:
            costs.append(f"DIFFERS: {self.differs}")
        return f"{where}: {'; '.join(costs) or 'nothing is repeated'}"


class CrashReport(msgspec.Struct, frozen=True):
    """What `crash_everywhere` found: the undisturbed end, and every cut."""

    workflow: str
    ending: Ending
    cuts: tuple[Cut, ...]

    @property
    def ok(self) -> bool:
        """Whether every kill led to the same end."""
        return not any(cut.differs for cut in self.cuts)

    @property
    def differing(self) -> tuple[Cut, ...]:
        """The kills after which the end was another one."""
        return tuple(cut for cut in self.cuts if cut.differs)

    @property
    def repeatable(self) -> tuple[str, ...]:
        """The steps that some kill can make run twice."""
        return tuple(sorted({step for cut in self.cuts for step in cut.twice}))

    def check(self) -> None:
        """Raise AssertionError with the differing kills, if there are any."""
        if not self.ok:
            raise AssertionError("\n".join([self._headline(), *map(str, self.differing)]))

    def _headline(self) -> str:
        return (
            f"{self.workflow} ends {self.ending.status}; {len(self.cuts)} kills tried, "
            f"{len(self.differing)} with another end"
        )

    def __str__(self) -> str:
        """Every single kill, and of the pairs those that led to another end."""
        told = [cut for cut in self.cuts if cut.differs or not cut.again_after]
        return "\n".join([self._headline(), *(f"  {cut}" for cut in told)])


class Play(msgspec.Struct, frozen=True):
    """One play of the scenario: how it ended, all its records, and what attempts it let go."""

    ending: Ending
    entries: list[Entry]
    executed: list[Executed]


async def crash_everywhere(
    workflow: Workflow, input: Any = None, *, app: App | Iterable[App] | None = None,
    signals: Sequence[SendSignal] = (), decisions: Sequence[SendDecision] = (), cancel_after: float | None = None,
    session_id: str | None = None, prepare: Prepare | None = None, settings: Settings | None = None,
    twice: bool = False, pairs_max: int | None = PAIRS_MAX, seed: int = 0,
) -> CrashReport:  # fmt: skip
    """Kill the run after every record, recover, compare; `twice` kills once more in each recovery.

    `app` is the workflow's own unless given. Of all pairs of kills `pairs_max` are tried, drawn by `seed` (None: every
    pair). `prepare(runtime)` may open sessions or put state before the start; it is repeated after each kill. Steps
    are really called, so let them be fakes. Runs in a thread of its own, on trio or asyncio; cancellation takes effect
    between two plays. Raises what the scenario itself is refused with (`InvalidInput`, ...).
    """
    apps = (workflow.app,) if app is None else (app,) if isinstance(app, App) else tuple(app)
    scenario = Scenario(
        workflow, input, apps, tuple(signals), tuple(decisions), cancel_after, session_id, prepare,
        settings or Settings(), seed,
    )  # fmt: skip
    return await anyio.to_thread.run_sync(partial(_everywhere, scenario, twice, pairs_max))


def _everywhere(scenario: Scenario, twice: bool, pairs_max: int | None) -> CrashReport:
    undisturbed = _play(scenario, [])
    cuts: list[Cut] = []
    recoveries: list[tuple[int, Play]] = []
    for count in _cuts(undisturbed.entries):
        anyio.from_thread.check_cancelled()
        kept = undisturbed.entries[:count]
        play = _play(scenario, kept)
        recoveries.append((count, play))
        cuts.append(_compare(undisturbed.ending, kept, play, count, _place(kept)))
    if twice:
        pairs = [(first, play, second) for first, play in recoveries for second in _cuts(play.entries, first + 1)]
        if pairs_max is not None and len(pairs) > pairs_max:
            pairs = random.Random(scenario.seed).sample(pairs, pairs_max)
        for first, before, second in pairs:
            anyio.from_thread.check_cancelled()
            kept = before.entries[:second]
            after = _place(before.entries[:first])
            cuts.append(_compare(undisturbed.ending, kept, _play(scenario, kept), first, after, _place(kept)))
    return CrashReport(scenario.workflow.name, undisturbed.ending, tuple(cuts))


def _cuts(entries: Sequence[Entry], first: int = 0) -> Iterator[int]:
    """After how many records a kill may come: anywhere, but not between a vote and what it decides, nor between what a
    transaction wrote and its end, which are always in one commit."""
    for count in range(first, len(entries) + 1):
        if not (0 < count < len(entries) and _in_one_commit(entries[count - 1], entries[count])):
            yield count


def _in_one_commit(before: Entry, after: Entry) -> bool:
    if isinstance(after.record, r.ApprovalDecided):
        return True
    wrote = isinstance(before.record, r.StateWritten) and not before.record.key
    ends = (r.StateWritten, r.StepCompleted, r.CompensationCompleted)
    return wrote and before.run_key > 0 and before.run_key == after.run_key and isinstance(after.record, ends)


# --- one play ---------------------------------------------------------------------------------------------------------


def _play(scenario: Scenario, kept: list[Entry]) -> Play:
    trio_run._r.seed(scenario.seed)  # trio draws the order within a batch of tasks; it is to be the same in each play
    clock = trio.testing.MockClock(autojump_threshold=0)
    try:
        return trio.run(_play_on, scenario, kept, clock=clock)
    except BaseExceptionGroup as group:
        raise single(group) from None  # what the scenario was refused with, as itself


async def _play_on(scenario: Scenario, kept: list[Entry]) -> Play:
    start_us = kept[-1].at if kept else VIRTUAL_START_US
    async with trio.open_nursery() as nursery:
        runtime = VirtualRuntime(
            nursery, scenario.apps, settings=scenario.settings, seed=scenario.seed, kept=kept, start_us=start_us
        )
        await runtime.open()
        if scenario.prepare is not None:
            await scenario.prepare(runtime)
        await runtime.start(scenario.workflow, scenario.input, id=RUN_ID, session_id=scenario.session_id)
        async with trio.open_nursery() as senders:
            senders.start_soon(_send_all, scenario, runtime)
            for decision in scenario.decisions:
                senders.start_soon(_send_decision, decision, runtime)
            found = await runtime.settled(RUN_ID, PATIENCE_S)
            senders.cancel_scope.cancel()
        entries = list(runtime.disk.entries)
        await runtime.stop()
    error = f"{found.error.type}: {found.error.message}" if found.error is not None else ""
    return Play(_ending(found.status, error, entries), entries, runtime.executed)


async def _send_all(scenario: Scenario, runtime: VirtualRuntime) -> None:
    """What the client sends after the start, each at its time, or at once if that has passed. Repeats do no harm."""
    sends: list[tuple[float, m.Message]] = []
    for index, signal in enumerate(scenario.signals):
        value = msgspec.Raw(msgspec.json.encode(signal.value))
        sends.append((signal.after, m.SignalRun(run_id=RUN_ID, name=signal.name, value=value, signal_id=f"{index}")))
    if scenario.cancel_after is not None:
        once = m.Origin(by="embedded", request=m.RequestKey(principal="crash-everywhere", key="cancel", digest=""))
        sends.append((scenario.cancel_after, m.CancelRun(run_id=RUN_ID, reason="asked for", origin=once)))
    for after, command in sorted(sends, key=lambda each: each[0]):
        await _reach(runtime, after)
        try:
            await runtime.ask(command)
        except RunEnded:
            return  # it has ended without what was still to be sent


async def _send_decision(decision: SendDecision, runtime: VirtualRuntime) -> None:
    await _reach(runtime, decision.after)
    try:
        asked = await runtime.asked(RUN_ID, decision.nth)
        await runtime.decide(
            asked.id, approve=decision.approve, by=decision.by, reason=decision.reason, data=decision.data
        )
    except (RunEnded, ApprovalClosed, AlreadyVoted):
        return  # it was decided before the kill, or the run has gone on without it


async def _reach(runtime: VirtualRuntime, after: float) -> None:
    """Sleep until so many seconds after the run was first asked for, kills included."""
    passed = (runtime.clock.now_us() - VIRTUAL_START_US) / 1e6
    await trio.sleep(max(0.0, after - passed))


# --- what a play left -------------------------------------------------------------------------------------------------


def _ending(status: str, error: str, entries: list[Entry]) -> Ending:
    """What counts: result and output of the run itself (children may end before it or after), all else of all runs."""
    result, output, state, compensated = "null", [], {}, []
    own = next((e.run_key for e in entries if isinstance(e.record, r.RunStarted) and e.record.id == RUN_ID), 0)
    for entry in entries:
        record = entry.record
        if isinstance(record, r.RunCompleted) and entry.run_key == own:
            result = bytes(record.result).decode()
        elif isinstance(record, r.OutputEmitted) and entry.run_key == own:
            output.append(bytes(record.value).decode())
        elif isinstance(record, r.StateWritten):
            text = "deleted" if record.deleted else bytes(record.value).decode()
            state[f"{record.scope}/{record.name}"] = f"{text} (version {record.version})"
        elif isinstance(record, r.CompensationCompleted):
            compensated.append(f"{record.name} (call {record.key})")
    return Ending(
        status=status, result=result, error=error, output=tuple(output),
        state=tuple(f"{name} = {text}" for name, text in sorted(state.items())), compensated=tuple(sorted(compensated)),
    )  # fmt: skip


def _compare(expected: Ending, kept: list[Entry], play: Play, records: int, after: str, again_after: str = "") -> Cut:
    recovered = [entry.record for entry in play.entries[len(kept) :]]
    unknown = tuple(_call(one) for one in recovered if isinstance(one, r.StepUnknown))
    blocked = play.ending.status == "blocked" and play.ending.error.startswith(IN_DOUBT)
    differs = "" if blocked and expected.status != "blocked" else _difference(expected, play.ending)
    return Cut(
        records=records, after=after, again_after=again_after,
        twice=tuple(_call(one) for one in recovered if isinstance(one, r.StepInterrupted)),
        in_doubt=unknown, differs="; ".join(filter(None, [differs, *_run_again(kept, play)])),
    )  # fmt: skip


def _difference(expected: Ending, found: Ending) -> str:
    return "; ".join(
        f"{name} is {getattr(found, name)!r}, undisturbed {getattr(expected, name)!r}"
        for name in Ending.__struct_fields__
        if getattr(found, name) != getattr(expected, name)
    )


def _run_again(kept: list[Entry], play: Play) -> Iterator[str]:
    """What no kill may do: an attempt of a step whose completion was on disk."""
    done: set[tuple[int, int, str]] = set()
    generations: Counter[int] = Counter()
    for entry in kept:
        if isinstance(entry.record, r.RunContinued):
            generations[entry.run_key] = entry.record.generation
        elif isinstance(entry.record, r.StepCompleted):
            done.add((entry.run_key, generations[entry.run_key], entry.record.key))
    for run_key, call, step, attempt, generation in play.executed:
        if (run_key, generation, call) in done:
            yield f"attempt {attempt} of {step} (call {call}) began after its completion was recorded"


def _call(record: r.StepInterrupted | r.StepUnknown) -> str:
    return f"{record.name} (call {record.key})"


def _place(kept: Sequence[Entry]) -> str:
    return _describe(kept[-1].record) if kept else "nothing"


def _describe(record: Fact) -> str:
    name, key = getattr(record, "name", ""), getattr(record, "key", "")
    return " ".join(filter(None, [record.kind, str(name or ""), f"call {key}" if key else ""]))
