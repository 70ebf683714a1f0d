"""The promises of `actors.supervisor`."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.errors import ActorRestarted, Draining, NotFound, SupervisionFailed
from actors.mailbox import Mailbox
from actors.supervisor import Supervisor, root_cause
from actors.supervisor_spec import Backoff, ChildSpec, SupervisorSpec

FLAT = Backoff(initial_s=1.0, factor=1.0, max_s=1.0, jitter=0.0)
pytestmark = pytest.mark.trio


class Boom(Exception):
    """A crash that a test asks for."""


class Stage:
    """Children that write down what happens to them, and crash when told to."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.fuses: dict[str, trio.Event] = {}
        self.errors: dict[str, BaseException | None] = {}

    def child(self, name: str, *, leave_s: float = 0.0, **fields: Any) -> ChildSpec:
        async def run(task_status: trio.TaskStatus[None]) -> None:
            self.log.append(f"{name} begins")
            self.fuses[name] = trio.Event()
            try:
                await trio.lowlevel.checkpoint()
                self.log.append(f"{name} ready")
                task_status.started()
                await self.fuses[name].wait()
                error = self.errors[name]
                if error is not None:
                    raise error
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(leave_s)
                self.log.append(f"{name} ends")

        return ChildSpec(name=name, run=run, **fields)

    def end(self, name: str, error: BaseException | None = None) -> None:
        """Let the child return, or raise `error`."""
        self.errors[name] = error
        self.fuses[name].set()

    def read(self) -> list[str]:
        """What happened since the last reading."""
        log, self.log = self.log, []
        return log


def supervisor(*children: ChildSpec, name: str = "root", **fields: Any) -> Supervisor:
    return Supervisor(name, SupervisorSpec(children=children, **({"backoff": FLAT} | fields)), chance=lambda: 0.5)


def statuses(root: Supervisor) -> dict[str, str]:
    return {row.path: row.status for row in root.tree()}


async def blocked() -> None:
    """Wait until nothing can happen without time passing."""
    await wait_all_tasks_blocked()


# --- start and stop -------------------------------------------------------------------------------------------------


async def test_run_is_ready_when_all_children_are(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """`nursery.start` returns when every child is ready, and they were started in order, one at a time."""
    stage = Stage()
    await nursery.start(supervisor(stage.child("a"), stage.child("b")).run)
    assert stage.read() == ["a begins", "a ready", "b begins", "b ready"]


async def test_stop_is_in_reverse_order(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """`stop` ends the children from the last to the first, each when the one after it has ended, then `run` returns."""
    stage, done = Stage(), trio.Event()
    root = supervisor(stage.child("a"), stage.child("b", leave_s=3), stage.child("c"))

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await root.run(task_status)
        done.set()

    await nursery.start(run)
    stage.read()
    root.stop()
    root.stop()
    await done.wait()
    assert stage.read() == ["c ends", "b ends", "a ends"]
    assert trio.current_time() == 3
    assert statuses(root) == {"root": "stopped", "root/a": "stopped", "root/b": "stopped", "root/c": "stopped"}
    root.stop()


async def test_cancellation_stops_in_reverse_order_too(autojump_clock: MockClock) -> None:
    """Cancelled from outside, a supervisor ends its children one by one before it lets the cancellation pass."""
    stage = Stage()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor(stage.child("a"), stage.child("b", leave_s=3)).run)
            stage.read()
            scope.cancel()
    assert scope.cancelled_caught
    assert stage.read() == ["b ends", "a ends"]


async def test_stop_before_start(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A supervisor that was stopped before it was run starts nothing and returns."""
    stage, box = Stage(), Mailbox("a", 10)
    root = supervisor(stage.child("a", mailbox=box))
    root.stop()
    assert statuses(root) == {"root": "stopped", "root/a": "stopped"}
    await nursery.start(root.run)
    assert stage.read() == []
    with pytest.raises(Draining, match="root has stopped"):
        box.tell("nobody will read this")


async def test_stop_during_the_start(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A stop while a child gets ready ends what was begun, and nothing more is begun."""
    stage = Stage()

    async def never_ready(task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    root = supervisor(stage.child("a"), ChildSpec(name="b", run=never_ready), stage.child("c"))
    nursery.start_soon(root.run)
    await blocked()
    root.stop()
    await blocked()
    assert stage.read() == ["a begins", "a ready", "a ends"]


async def test_runs_once_at_a_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Running a supervisor that runs already is a bug, and it is said."""
    root = supervisor(Stage().child("a"))
    await nursery.start(root.run)
    with pytest.raises(trio.BusyResourceError, match="root is running already"):
        await root.run()


async def test_overdue_child_does_not_keep_the_others_waiting(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A child that does not end within its shutdown timeout is passed over; `run` returns when it has ended as well."""
    stage, done = Stage(), trio.Event()
    root = supervisor(stage.child("a"), stage.child("b", leave_s=30, shutdown_timeout_s=5))

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await root.run(task_status)
        done.set()

    await nursery.start(run)
    stage.read()
    root.stop()
    with trio.move_on_after(6):
        await done.wait()
    assert stage.read() == ["a ends"]
    assert statuses(root)["root/b"] == "failed"
    await done.wait()
    assert (stage.read(), trio.current_time()) == (["b ends"], 30)


async def test_failed_start_raises_with_its_cause(autojump_clock: MockClock) -> None:
    """A child that fails before it is ready ends the start: what was started is stopped, and the cause is chained."""
    stage, cause = Stage(), Boom("no such disk")

    async def fails(task_status: trio.TaskStatus[None]) -> None:
        raise cause

    root = supervisor(stage.child("a"), ChildSpec(name="b", run=fails))
    with pytest.raises(SupervisionFailed) as caught:
        await root.run()
    assert str(caught.value) == "root/b did not start: Boom: no such disk"
    assert caught.value.__cause__ is cause
    assert (caught.value.path, caught.value.restarts, caught.value.fatal) == ("root/b", 0, False)
    assert stage.read() == ["a begins", "a ready", "a ends"]
    assert statuses(root) == {"root": "failed", "root/a": "stopped", "root/b": "failed"}


async def test_child_that_returns_before_it_is_ready_did_not_start(autojump_clock: MockClock) -> None:
    """To return without a word of readiness is a failed start."""

    async def returns(task_status: trio.TaskStatus[None]) -> None:
        await trio.lowlevel.checkpoint()

    with pytest.raises(SupervisionFailed, match="root/a did not start: RuntimeError: root/a ended before it was ready"):
        await supervisor(ChildSpec(name="a", run=returns, restart="transient")).run()


async def test_start_that_takes_too_long_fails(autojump_clock: MockClock) -> None:
    """A child that is not ready within its start timeout ends the start."""

    async def never_ready(task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    with pytest.raises(SupervisionFailed, match="root/a was not ready within 7 s"):
        await supervisor(ChildSpec(name="a", run=never_ready, start_timeout_s=7)).run()
    assert trio.current_time() == 7


async def test_readiness_is_said_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A child that says it is ready twice crashes at the second time."""

    async def twice(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        task_status.started()

    root = supervisor(ChildSpec(name="a", run=twice, restart="temporary"))
    await nursery.start(root.run)
    await blocked()
    assert root.tree()[1].last_error == "RuntimeError: task_status.started() was called twice"


# --- crashes --------------------------------------------------------------------------------------------------------


async def test_crash_restarts_just_its_part(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """Under one_for_one a crash restarts that child alone, after the backoff; log and tree say why."""
    stage = Stage()
    root = supervisor(stage.child("a"), stage.child("b"))
    await nursery.start(root.run)
    stage.read()
    with caplog.at_level(logging.ERROR):
        stage.end("a", Boom("spark"))
        await blocked()
    assert caplog.messages == ["actor root/a crashed; it is to be restarted in 1.0 s"]
    assert caplog.records[0].exc_info is not None
    assert statuses(root) == {"root": "up", "root/a": "restarting", "root/b": "up"}
    await trio.sleep(1)
    await blocked()
    assert stage.read() == ["a ends", "a begins", "a ready"]
    row = root.tree()[1]
    assert (row.status, row.restarts, row.last_error) == ("up", 1, "Boom: spark")


async def test_group_is_stopped_before_it_is_started(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Under rest_for_one those after the crashed child end in reverse and come back in order, those before stay."""
    stage = Stage()
    root = supervisor(*map(stage.child, "abcd"), strategy="rest_for_one")
    await nursery.start(root.run)
    stage.read()
    stage.end("b", Boom())
    await trio.sleep(2)
    assert stage.read() == [
        *["b ends", "d ends", "c ends"],
        *["b begins", "b ready", "c begins", "c ready", "d begins", "d ready"],
    ]
    assert [row.restarts for row in root.tree()] == [0, 0, 1, 1, 1]


async def test_exception_group_is_a_crash(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """What comes out of a child's own nursery counts as its crash, and the tree names the first error."""

    async def fails() -> None:
        raise Boom("inner")

    async def run(task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as inner:
            task_status.started()
            inner.start_soon(fails)
            inner.start_soon(fails)

    root = supervisor(ChildSpec(name="a", run=run, restart="temporary"))
    await nursery.start(root.run)
    await blocked()
    row = root.tree()[1]
    assert (row.status, row.last_error) == ("failed", "Boom: inner (and 1 more)")


@pytest.mark.parametrize(("restart", "status"), [("permanent", "restarting"), ("transient", "stopped")])
async def test_return_of_a_child(autojump_clock: MockClock, nursery: trio.Nursery, restart: str, status: str) -> None:
    """A permanent child that returns is restarted; a transient one is done, and no error is shown for either."""
    stage = Stage()
    root = supervisor(stage.child("a", restart=restart))
    await nursery.start(root.run)
    stage.end("a")
    await blocked()
    row = root.tree()[1]
    assert (row.status, row.last_error) == (status, None)


async def test_error_beside_a_cancellation_is_a_crash_in_its_own_right(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A child that is halted, and in whose nursery a task then fails, is restarted all the same; the error is shown."""

    async def fails_at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("late")

    async def run(task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(fails_at_the_end)
            inner.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            task_status.started()

    root = supervisor(ChildSpec(name="a", run=run))
    await nursery.start(root.run)
    root.restart("root/a")
    await blocked()
    row = root.tree()[1]
    assert (row.status, row.restarts, row.last_error) == ("up", 1, "Boom: late")


async def test_deadline_that_passes_during_another_event_is_kept(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A start timeout is not forgotten because it passes just while the supervisor deals with a neighbour's crash."""
    stage, crash, late_s = Stage(), trio.Event(), [0.0]

    async def run(task_status: trio.TaskStatus[None]) -> None:
        if crash.is_set():
            try:
                await trio.sleep_forever()
            finally:
                stage.log.append("a halted")
        task_status.started()
        await crash.wait()
        raise Boom

    def chance_that_takes_time() -> float:
        autojump_clock.jump(late_s[0])
        late_s[0] = 0.0
        return 0.5

    children = (ChildSpec(name="a", run=run, start_timeout_s=6), stage.child("b"))
    root = Supervisor("root", SupervisorSpec(children=children, backoff=FLAT), chance=chance_that_takes_time)
    await nursery.start(root.run)
    crash.set()
    await trio.sleep(6)  # a was begun again at 1, and is due to be ready at 7
    stage.read()
    late_s[0] = 2.0
    stage.end("b", Boom())
    await blocked()
    assert (trio.current_time(), stage.read()) == (8, ["b ends", "a halted"])


async def test_root_cause_is_the_first_crash(autojump_clock: MockClock) -> None:
    """Whoever ends the process can tell what it was in the end, through any number of supervisors."""

    async def fails(task_status: trio.TaskStatus[None]) -> None:
        raise Boom("locked")

    inner = supervisor(ChildSpec(name="x", run=fails), name="inner")
    with pytest.raises(SupervisionFailed) as caught:
        await supervisor(inner.as_child()).run()
    assert str(root_cause(caught.value)) == "locked"
    bare = SupervisionFailed("too slow")
    assert root_cause(bare) is bare


async def test_own_cancellation_inside_a_child_is_no_crash(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A child may cancel parts of itself without the supervisor noticing."""

    async def run(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.move_on_after(5):
            await trio.sleep_forever()
        await trio.sleep_forever()

    root = supervisor(ChildSpec(name="a", run=run))
    await nursery.start(root.run)
    await trio.sleep(10)
    assert statuses(root)["root/a"] == "up"


async def test_keyboard_interrupt_ends_the_tree(autojump_clock: MockClock) -> None:
    """An interrupt is not a crash: nothing is restarted, everything ends, and it comes out at the top."""
    stage = Stage()
    root = supervisor(stage.child("a"), stage.child("b"))

    async def interrupt() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            stage.end("a", KeyboardInterrupt())

    with pytest.raises(BaseExceptionGroup) as caught:
        await interrupt()
    assert caught.group_contains(KeyboardInterrupt)
    assert stage.read() == ["a begins", "a ready", "b begins", "b ready", "a ends", "b ends"]


# --- escalation -----------------------------------------------------------------------------------------------------


async def storm(stage: Stage, name: str, crashes: int) -> None:
    for n in range(crashes):
        stage.end(name, Boom(f"number {n + 1}"))
        await trio.sleep(1.5)


async def run_and_keep(root: Supervisor, ends: list[SupervisionFailed], task_status: Any) -> None:
    try:
        await root.run(task_status)
    except SupervisionFailed as error:
        ends.append(error)


async def test_storm_escalates_at_the_limit(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """One crash more than allowed stops the others in order and raises who, how often, within what, and why."""
    stage, ends = Stage(), []
    root = supervisor(stage.child("a"), stage.child("b"), restarts_max=3, period_s=60)
    await nursery.start(run_and_keep, root, ends)
    await storm(stage, "b", 3)
    assert ends == []
    stage.read()
    await storm(stage, "b", 1)
    (failed,) = ends
    assert str(failed) == "root/b crashed again after 3 restarts; the limit is 3 in 60 s: Boom: number 1"
    assert (failed.path, failed.restarts, failed.exit_code) == ("root/b", 3, 1)
    assert isinstance(failed.__cause__, Boom)
    assert stage.read() == ["b ends", "a ends"]
    assert statuses(root) == {"root": "failed", "root/a": "stopped", "root/b": "failed"}


async def test_slow_drip_does_not_escalate(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """The same crashes spread over more than the period are restarted each time."""
    stage, ends = Stage(), []
    root = supervisor(stage.child("a"), restarts_max=1, period_s=60)
    await nursery.start(run_and_keep, root, ends)
    for _ in range(5):
        stage.end("a", Boom())
        await trio.sleep(61)
    assert ends == []
    assert root.tree()[1].restarts == 5


async def test_nested_escalation_is_a_crash_above(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A supervisor that gives up is restarted whole by the one above; a storm of that ends at the root, with causes."""
    stage, ends = Stage(), []
    inner = supervisor(stage.child("x"), stage.child("y"), name="inner", restarts_max=0)
    root = supervisor(stage.child("a"), inner.as_child(), restarts_max=1)
    await nursery.start(run_and_keep, root, ends)
    stage.read()
    stage.end("y", Boom("first"))
    await trio.sleep(1.5)
    assert stage.read() == ["y ends", "x ends", "x begins", "x ready", "y begins", "y ready"]
    assert {row.path: row.restarts for row in root.tree()} == {
        **{"root": 0, "root/a": 0, "root/inner": 1, "root/inner/x": 1, "root/inner/y": 1}
    }
    stage.end("x", Boom("second"))
    await blocked()
    (failed,) = ends
    assert failed.path == "root/inner"
    assert isinstance(failed.__cause__, SupervisionFailed)
    assert str(failed.__cause__.__cause__) == "second"
    assert stage.read() == ["x ends", "y ends", "a ends"]


async def test_fatal_errors_reach_the_root_at_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """What no restart can cure passes every level without one, also out of a group, and says so."""
    stage, ends = Stage(), []
    inner = supervisor(stage.child("x", fatal=(Boom,)), name="inner")
    root = supervisor(inner.as_child())
    await nursery.start(run_and_keep, root, ends)
    stage.end("x", ExceptionGroup("nursery", [Boom("disk")]))
    await blocked()
    (failed,) = ends
    assert (failed.path, failed.fatal) == ("root/inner", True)
    assert str(failed.__cause__) == "root/inner/x failed, and a restart cannot help: Boom: disk"


async def test_fatal_error_in_a_stop_is_not_lost(autojump_clock: MockClock) -> None:
    """A fatal crash while the supervisor is being cancelled still comes out."""

    async def run(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("the last write failed")

    root = supervisor(ChildSpec(name="a", run=run, fatal=(Boom,)))

    async def run_and_cancel() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            nursery.cancel_scope.cancel()

    with pytest.raises(ExceptionGroup) as caught:
        await run_and_cancel()
    assert caught.group_contains(SupervisionFailed, match="root/a failed, and a restart cannot help")


async def test_child_that_does_not_end_for_a_restart_fails_the_supervisor(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """There is never a second life beside one that does not end."""
    stage, ends = Stage(), []
    root = supervisor(stage.child("a"), stage.child("b", leave_s=30, shutdown_timeout_s=5), strategy="one_for_all")
    await nursery.start(run_and_keep, root, ends)
    stage.end("a", Boom())
    await trio.sleep(31)
    (failed,) = ends
    assert str(failed) == "root/b did not end within 5 s of its cancellation"
    assert stage.read().count("b begins") == 1


# --- mailboxes ------------------------------------------------------------------------------------------------------


def answering(box: Mailbox, name: str = "a", **fields: Any) -> ChildSpec:
    """An actor that crashes at `crash`, returns at `return`, keeps `keep` without an answer, and echoes the rest."""

    async def run(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            for letter in await box.take(1):
                if letter.message == "crash":
                    raise Boom
                if letter.message == "return":
                    return
                if letter.message != "keep":
                    letter.reply(letter.message)

    return ChildSpec(name=name, run=run, mailbox=box, **fields)


async def ask(box: Mailbox, message: str, ends: list[Any]) -> None:
    try:
        ends.append(await box.ask(message))
    except (ActorRestarted, Draining) as error:
        ends.append(error)


async def test_crash_refuses_unanswered_letters_and_keeps_the_queue(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Who was not answered learns it at once, before the backoff; who waits in the queue is served by the next life."""
    box, kept, crashed, queued = Mailbox("a", 10), [], [], []
    root = supervisor(answering(box))
    await nursery.start(root.run)
    for message, ends in (("keep", kept), ("crash", crashed), ("later", queued)):
        nursery.start_soon(ask, box, message, ends)
        await trio.lowlevel.checkpoint()
    await blocked()
    assert [type(ends[0]) for ends in (kept, crashed)] == [ActorRestarted] * 2
    assert str(kept[0]) == "root/a ended before it answered"
    assert queued == []
    row = root.tree()[1]
    assert (row.mailbox_size, row.mailbox_limit, row.statistics["unanswered"]) == (1, 10, 1)
    await trio.sleep(1)
    await blocked()
    assert queued == ["later"]


async def test_mailbox_of_a_child_that_is_done_is_closed(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Nobody waits for ever before the door of an actor that has ended; an operator's restart opens it again."""
    box, ends = Mailbox("a", 10), []
    root = supervisor(answering(box, restart="transient"))
    await nursery.start(root.run)
    box.tell("return")
    nursery.start_soon(ask, box, "later", ends)
    await blocked()
    assert str(ends[0]) == "root/a has ended"
    with pytest.raises(Draining):
        box.tell("more")
    root.restart("root/a")
    assert await box.ask("hello") == "hello"


async def test_mailboxes_outlive_a_nested_restart_and_close_with_the_root(autojump_clock: MockClock) -> None:
    """A supervisor's restart keeps what its children's mailboxes hold; the end of the root refuses it."""
    box, ends = Mailbox("x", 10), []
    inner = supervisor(answering(box, "x"), name="inner", restarts_max=0)
    root = supervisor(inner.as_child())
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        box.tell("crash")
        nursery.start_soon(ask, box, "later", ends)
        await trio.sleep(1.5)
        assert ends == ["later"]
        nursery.start_soon(ask, box, "keep", ends)
        await blocked()
        root.stop()
    assert isinstance(ends[1], ActorRestarted)
    with pytest.raises(Draining, match="root has stopped"):
        await box.ask("more")


# --- operators ------------------------------------------------------------------------------------------------------


async def test_operator_restarts_without_being_counted(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Restarts by path, at any depth, come at once and as often as one likes, with the strategy's group."""
    stage, ends = Stage(), []
    inner = supervisor(stage.child("x"), stage.child("y"), name="inner", strategy="rest_for_one", restarts_max=0)
    root = supervisor(stage.child("a"), inner.as_child(), restarts_max=0)
    await nursery.start(run_and_keep, root, ends)
    stage.read()
    for _ in range(5):
        root.restart("root/inner/x")
        await blocked()
        assert stage.read() == ["y ends", "x ends", "x begins", "x ready", "y begins", "y ready"]
    root.restart("root/inner")
    await blocked()
    assert stage.read() == ["y ends", "x ends", "x begins", "x ready", "y begins", "y ready"]
    root.restart("root")
    await blocked()
    assert sorted(stage.read()) == sorted(f"{child} {what}" for child in "axy" for what in ("ends", "begins", "ready"))
    assert (ends, trio.current_time()) == ([], 0)
    assert set(statuses(root).values()) == {"up"}


async def test_operator_errors(autojump_clock: MockClock) -> None:
    """An unknown path is not found; nothing can be restarted before the start or after the end."""
    root = supervisor(Stage().child("a"))
    with pytest.raises(NotFound, match="there is no actor 'root/b'"):
        root.restart("root/b")
    with pytest.raises(Draining, match="root is not running"):
        root.restart("root/a")


async def test_tree_shows_paths_strategies_and_figures(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """One row an actor, parents first, with paths from the root, strategies of supervisors, mailbox and own figures."""
    box = Mailbox("x", 7)
    inner = supervisor(answering(box, "x", statistics=lambda: {"runs": 3}), name="engine", strategy="rest_for_one")
    root = supervisor(Stage().child("a"), inner.as_child())
    await nursery.start(root.run)
    box.report("fact")
    rows = root.tree()
    assert [(row.path, row.status, row.strategy) for row in rows] == [
        ("root", "up", "one_for_one"),
        ("root/a", "up", None),
        ("root/engine", "up", "rest_for_one"),
        ("root/engine/x", "up", None),
    ]
    assert (rows[3].mailbox_size, rows[3].mailbox_limit) == (1, 7)
    assert rows[3].statistics["runs"] == 3
    assert rows[3].statistics["high_water"] == 1


async def test_tree_while_starting(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Before the children are ready, the tree says who is on the way and who has not begun."""

    async def slow(task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(5)
        task_status.started()
        await trio.sleep_forever()

    root = supervisor(ChildSpec(name="a", run=slow), Stage().child("b"))
    nursery.start_soon(root.run)
    await blocked()
    assert statuses(root) == {"root": "restarting", "root/a": "restarting", "root/b": "stopped"}


async def test_nested_names_and_parents_are_checked(autojump_clock: MockClock) -> None:
    """A child supervisor goes by its own name and has one parent."""
    inner = supervisor(name="inner")
    with pytest.raises(ValueError, match="child 'other': supervisor must be one, be named so"):
        supervisor(ChildSpec(name="other", run=inner.run, supervisor=inner))
    supervisor(inner.as_child())
    with pytest.raises(ValueError, match="nobody else's child"):
        supervisor(inner.as_child())
    assert inner.as_child().shutdown_timeout_s == math.inf
