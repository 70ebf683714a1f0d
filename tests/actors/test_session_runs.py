"""What the runtime promises about sessions: opened, touched, expired and closed, with their runs cancelled or left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from msgspec import Raw

from actors import messages as m
from actors import session_desk
from actors.errors import Conflict, InvalidInput, RunNotFound, SessionEnded, SessionNotFound
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds
from wal import records as r

app = App("sessions")


@app.step
async def work() -> None:
    await WORLD.act("work")


@work.compensation
async def undo(result: None) -> None:
    await WORLD.act("undo")


@app.workflow
async def serve(ctx: Context) -> str:
    await ctx.step(work)
    return f"{await ctx.signal('go')} {ctx.session_id} {ctx.tenant}"


async def open_session(runtime: VirtualRuntime, id: str = "s", **fields: Any) -> m.SessionReply:
    reply: m.SessionReply = await runtime.ask(m.OpenSession(id=id, **fields))
    return reply


async def status(runtime: VirtualRuntime, id: str = "s") -> str:
    found = await runtime.read(lambda reader: reader.session(id))
    assert found is not None
    return str(found.status)


@pytest.mark.trio
async def test_a_session_opens_once(runtime: VirtualRuntime) -> None:
    """Opening it again as it was finds it; with other properties it is a conflict."""
    first = await open_session(runtime, tenant="acme", subject="ann", ttl=60.0)
    again = await open_session(runtime, tenant="acme", subject="ann", ttl=60.0)
    assert (first.created, again.created, again.session) == (True, False, first.session)
    assert first.session.expires_at == "2026-01-01T00:01:00.000000Z"
    with pytest.raises(Conflict):
        await open_session(runtime, tenant="umbrella")
    await runtime.crash()
    assert not (await open_session(runtime, tenant="acme", subject="ann", ttl=60.0)).created


@pytest.mark.trio
@pytest.mark.parametrize("fields", [{"ttl": 0.0}, {"ttl": -1.0}, {"on_close": "shred"}, {"classification": "secret"}])
async def test_a_wrong_session_is_refused(runtime: VirtualRuntime, fields: dict[str, Any]) -> None:
    """What is out of range is named, and nothing is recorded."""
    before = runtime.actors.writer.seq
    with pytest.raises(InvalidInput, match=next(iter(fields))):
        await open_session(runtime, **fields)
    with pytest.raises(SessionNotFound):
        await runtime.ask(m.TouchSession(id="s"))
    assert runtime.actors.writer.seq == before


@pytest.mark.trio
@pytest.mark.parametrize("crashed", [False, True], ids=["live", "over a crash"])
async def test_a_session_expires_unless_it_is_touched(runtime: VirtualRuntime, crashed: bool) -> None:
    """A touch extends it by its time to live; left alone, it ends."""
    await open_session(runtime, ttl=60.0)
    await runtime.advance(50)
    await runtime.ask(m.TouchSession(id="s"))
    if crashed:
        await runtime.crash()
    await runtime.advance(50)
    assert await status(runtime) == "open"
    await runtime.advance(11)
    assert await status(runtime) == "expired"
    with pytest.raises(SessionEnded, match="expired"):
        await runtime.ask(m.TouchSession(id="s"))


@pytest.mark.trio
async def test_a_session_that_expired_while_we_were_down(runtime: VirtualRuntime) -> None:
    """It is found expired at the next start; whoever touches it is told so."""
    await open_session(runtime, ttl=60.0)
    await runtime.crash(downtime=120)
    with pytest.raises(SessionEnded):
        await runtime.ask(m.TouchSession(id="s"))
    await runtime.advance(0.1)
    assert await status(runtime) == "expired"


@pytest.mark.trio
@pytest.mark.parametrize("how", ["close", "expire"])
@pytest.mark.parametrize("on_close", ["cancel", "leave"])
async def test_the_runs_of_an_ended_session(runtime: VirtualRuntime, world: World, how: str, on_close: str) -> None:
    """With `cancel` they are cancelled and undone, wherever they are; with `leave` they go on."""
    await open_session(runtime, tenant="acme", ttl=3600.0, on_close=on_close)
    waiting = await runtime.start(serve, session_id="s")
    await runtime.advance(100)
    world.script["work"].append(HANG)
    working = await runtime.start(serve, session_id="s")
    queued = await runtime.start(serve, session_id="s", start_at=runtime.clock.now_us() + 86_400_000_000)
    stranger = await runtime.start(serve)
    await runtime.advance(1)
    if how == "close":
        assert (await runtime.ask(m.CloseSession(id="s", reason="bye"))).session.status == "closed"
    else:
        await runtime.advance(3600)
    await runtime.advance(10)
    statuses = [await handle.status() for handle in (waiting, working, queued, stranger)]
    if on_close == "cancel":
        assert statuses == ["cancelled", "cancelled", "cancelled", "waiting"]
        assert world.names.count("undo") == 1
    else:
        assert statuses == ["waiting", "running", "queued", "waiting"]
        await runtime.signal(waiting.id, "go", "on")
        assert await waiting.result() == "on s acme"


@pytest.mark.trio
async def test_a_run_belongs_to_its_session(runtime: VirtualRuntime) -> None:
    """It has the session's tenant, and another that was asked for is refused; of the classifications, the stricter."""
    await open_session(runtime, tenant="acme", classification="client")
    await open_session(runtime, "own", tenant=None, classification="platform")
    handle = await runtime.start(serve, session_id="s", tenant="acme", classification="platform")
    found = await runtime.run(handle.id)
    assert (found.session_id, found.tenant, found.classification) == ("s", "acme", "client")
    for session_id, whose in (("s", "tenant 'acme'"), ("own", "no tenant")):
        with pytest.raises(InvalidInput, match=rf"\$.tenant: session '{session_id}' is of {whose}"):
            await runtime.start(serve, session_id=session_id, tenant="umbrella")
    strict = await runtime.start(serve, session_id="own", classification="client")
    assert (await runtime.run(strict.id)).classification == "client"
    await runtime.start(serve)
    assert [run.id for run in (await runtime.runs(session_id="s")).items] == [handle.id]
    assert [run.id for run in (await runtime.runs(tenant="acme")).items] == [handle.id]


@pytest.mark.trio
async def test_nothing_starts_in_a_session_that_is_not_open(runtime: VirtualRuntime) -> None:
    """Unknown, closed or expired: refused, and no run is made."""
    await (await runtime.start(serve)).status()
    await open_session(runtime)
    await open_session(runtime, "brief", ttl=1.0)
    await runtime.ask(m.CloseSession(id="s"))
    await runtime.advance(2)
    total = (await runtime.runs()).total
    with pytest.raises(SessionNotFound):
        await runtime.start(serve, session_id="none")
    for session_id in ("s", "brief"):
        with pytest.raises(SessionEnded):
            await runtime.start(serve, session_id=session_id)
    with pytest.raises(SessionEnded):
        await runtime.ask(m.CloseSession(id="s"))
    assert (await runtime.runs()).total == total


@pytest.mark.trio
async def test_starts_beside_a_close_are_cancelled_or_refused(runtime: VirtualRuntime) -> None:
    """However they interleave, no run stays open in a session that ended with `cancel`."""
    await open_session(runtime, on_close="cancel")
    await runtime.start(serve)
    started: list[str] = []

    async def start() -> None:
        try:
            started.append((await runtime.start(serve, session_id="s")).id)
        except SessionEnded:
            started.append("refused")

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(start)
            if number == 20:
                nursery.start_soon(runtime.ask, m.CloseSession(id="s"))
    await runtime.advance(10)
    for run_id in set(started) - {"refused"}:
        assert await runtime.status(run_id) == "cancelled"


@pytest.mark.trio
async def test_a_crash_between_the_close_and_the_cancellations(runtime: VirtualRuntime, world: World) -> None:
    """That the session ended is on disk and nothing else: after the restart its runs are cancelled all the same."""
    await open_session(runtime, on_close="cancel")
    handles = [await runtime.start(serve, session_id="s") for _ in range(3)]
    await runtime.advance(1)
    await runtime.ask(m.CloseSession(id="s"))
    entries = runtime.disk.entries
    cut = next(i for i, entry in enumerate(entries) if isinstance(entry.record, r.SessionClosed))
    runtime.disk.entries = entries[: cut + 1]
    await runtime.crash()
    await runtime.advance(1)
    assert [await handle.status() for handle in handles] == ["cancelled"] * 3
    assert world.names.count("undo") >= 3


@pytest.mark.trio
async def test_a_key_repeats_the_first_answer(runtime: VirtualRuntime) -> None:
    """Opening and closing under an idempotency key is answered as the first time."""
    opening = m.Origin(request=m.RequestKey(principal="uid:1", key="o", digest="d"))
    first = await runtime.ask(m.OpenSession(origin=opening))
    assert await runtime.ask(m.OpenSession(origin=opening)) == first
    closing = m.Origin(request=m.RequestKey(principal="uid:1", key="c", digest="d"))
    closed = await runtime.ask(m.CloseSession(id=first.session.id, origin=closing))
    await runtime.crash()
    assert await runtime.ask(m.CloseSession(id=first.session.id, origin=closing)) == closed


@pytest.mark.trio
async def test_many_sessions_expire_in_pages(runtime: VirtualRuntime) -> None:
    """More sessions than one page that expire at one instant all end."""
    for number in range(250):
        await open_session(runtime, f"s{number}", ttl=60.0)
    await runtime.advance(61)
    page = await runtime.read(lambda reader: reader.sessions(status="expired"))
    assert page.total == 250


@pytest.mark.trio
async def test_a_coordinator_that_crashed_over_it_still_cancels(runtime: VirtualRuntime, world: World) -> None:
    """What the session manager told a coordinator that died is found in the journal by its next life."""
    await open_session(runtime, on_close="cancel")
    handle = await runtime.start(serve, session_id="s")
    await runtime.advance(1)
    runtime.actors.sessions._tell = lambda message: None
    await runtime.ask(m.CloseSession(id="s"))
    await runtime.restart_actor("root/engine/coordinator")
    assert (await runtime.settled(handle.id, 60)).status == "cancelled"
    assert world.names == ["work", "undo"]


@pytest.mark.trio
async def test_a_run_that_is_being_undone_is_not_cancelled_at_every_start(
    runtime: VirtualRuntime, world: World
) -> None:
    """A run of an ended session whose undoing is blocked waits for a person; restarts add nothing to it."""
    world.script["undo"].extend([OSError("no")] * 5)
    await open_session(runtime, on_close="cancel")
    handle = await runtime.start(serve, session_id="s")
    await runtime.advance(1)
    await runtime.ask(m.CloseSession(id="s"))
    assert (await runtime.settled(handle.id, None)).status == "blocked"
    before = await kinds(runtime, handle.id)
    for _ in range(3):
        await runtime.crash()
        await runtime.advance(10)
    assert await kinds(runtime, handle.id) == before
    await runtime.retry(handle.id)
    assert (await runtime.settled(handle.id, None)).status == "cancelled"


@app.workflow
async def spawns(ctx: Context) -> str:
    await ctx.signal("spawn")
    await ctx.start_child(serve)
    return "done"


Sliced = Callable[[m.CancelRuns], None]


def between_slices(runtime: VirtualRuntime, monkeypatch: pytest.MonkeyPatch, happens: Sliced) -> None:
    """Cancel twenty runs of a session in a turn, and have this happen after each such turn."""
    monkeypatch.setattr(session_desk, "CANCEL_SLICE", 20)
    handlers: dict[Any, Any] = runtime.actors.coordinator._commands.handlers
    some = handlers[m.CancelRuns]

    def sliced(command: m.CancelRuns, letter: Any) -> None:
        some(command, letter)
        happens(command)

    monkeypatch.setitem(handlers, m.CancelRuns, sliced)


@pytest.mark.trio
@pytest.mark.parametrize("crashed", [False, True], ids=["live", "over a crash of the coordinator"])
async def test_a_session_of_very_many_runs_ends_in_turns(
    runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch, crashed: bool
) -> None:
    """Its runs are cancelled some at a time, between which others have their turn; a crash in between leaves none, and
    cancels none twice."""
    await open_session(runtime, on_close="cancel")
    await runtime.start(serve, id="warm")
    items = [m.StartRun(workflow="serve", id=f"r{number}", session_id="s") for number in range(100)]
    later = runtime.clock.now_us() + 10**9
    items += [m.StartRun(workflow="serve", id=f"q{number}", session_id="s", start_at=later) for number in range(100)]
    await runtime.ask(m.StartRuns(items=items))
    await runtime.advance(1)
    slices: list[int] = []

    def happens(command: m.CancelRuns) -> None:
        slices.append(command.after)
        if crashed and len(slices) == 5:
            raise RuntimeError("a bug")

    between_slices(runtime, monkeypatch, happens)
    await runtime.ask(m.CloseSession(id="s"))
    await runtime.advance(20)
    assert len(slices) == (5 if crashed else 11)
    assert await runtime.read(lambda reader: reader.open_run_keys("s")) == []
    assert {await runtime.status(item.id or "") for item in items} == {"cancelled"}
    asked = [(await kinds(runtime, item.id or "")).count("run_cancel_requested") for item in items]
    assert set(asked) == {1}
    undone = {key for name, _, key in world.attempts if name == "undo"}  # in the crash some were under way
    assert len(undone) == world.names.count("work") - 1 == 100


@pytest.mark.trio
async def test_a_child_that_is_started_between_two_turns_is_cancelled_too(
    runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent has come to its end before its own turn came."""
    await open_session(runtime, on_close="cancel")
    await runtime.start(serve, id="warm")
    for number in range(60):
        await runtime.start(serve, id=f"r{number}", session_id="s")
    await runtime.start(spawns, id="parent", session_id="s")
    await runtime.advance(1)

    def happens(command: m.CancelRuns) -> None:
        if not command.after:
            runtime.actors.coordinator.mailbox.tell(m.SignalRun(run_id="parent", name="spawn", value=Raw(b"1")))

    between_slices(runtime, monkeypatch, happens)
    await runtime.ask(m.CloseSession(id="s"))
    await runtime.advance(20)
    assert (await runtime.status("parent"), await runtime.status("parent:1")) == ("completed", "cancelled")
    assert await runtime.read(lambda reader: reader.open_run_keys("s")) == []


@pytest.mark.trio
async def test_a_run_that_is_forgotten_between_two_turns_costs_no_other(
    runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found and is not there any more is passed by."""
    await open_session(runtime, on_close="cancel")
    for number in range(60):
        await runtime.start(serve, id=f"r{number}", session_id="s")
    await runtime.advance(1)
    sessions = runtime.actors.coordinator._commands.sessions
    cancel = sessions._cancel_run

    def cancel_run(command: m.CancelRun) -> int:
        if command.run_id in ("r7", "r33"):
            raise RunNotFound(f"there is no run {command.run_id!r}")
        return cancel(command)

    monkeypatch.setattr(sessions, "_cancel_run", cancel_run)
    between_slices(runtime, monkeypatch, lambda command: None)
    await runtime.ask(m.CloseSession(id="s"))
    await runtime.advance(20)
    left = await runtime.read(lambda reader: reader.open_run_keys("s"))
    assert [run_id for _, run_id in left] == ["r7", "r33"]
