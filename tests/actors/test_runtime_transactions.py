"""What the runtime promises about transactions: all of one or nothing, once, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw

from actors import messages as m
from actors.advance_marker import AdvanceMarker, in_transaction
from actors.current_step import current_step
from actors.errors import Failure, ForeignAwait, RunBlocked, RunCancelled, RunFailed, StepFailed
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from actors.state_table import StateTable
from actors.transaction import WRITES_MAX, Transaction, TransactionDue
from actors.transaction_desk import TransactionDesk
from actors.wal_writer import WalWriter
from runtimed.opening import open_runtime
from runtimed.settings import KIB, Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r
from wal.errors import JournalError
from wal.records import Entry
from wal.rows import Candidate
from wal.verify import verify

app = App("transactions")


class OutOfStock(Failure):
    """There is not so much of it."""


@app.transaction
def reserve(tx: Transaction, sku: str, n: int = 1) -> int:
    WORLD.act_now("reserve", sku, n)
    stock = tx.global_state
    left = stock.get(f"stock:{sku}", type=int, default=10) - n
    stock.put(f"stock:{sku}", left)
    tx.state.put("reserved", n)
    if left < 0:
        raise OutOfStock(sku)
    return left


@reserve.compensation
def release(tx: Transaction, left: int, sku: str, n: int = 1) -> None:
    WORLD.act_now("release", sku, n)
    tx.global_state.put(f"stock:{sku}", tx.global_state.get(f"stock:{sku}", type=int) + n)


@app.transaction(retry=Retry(max_attempts=3, initial_interval=10.0, jitter=0.0, backoff_coefficient=1.0))
def patient(tx: Transaction, sku: str) -> int:
    left: int = tx.global_state.get(f"stock:{sku}", type=int, default=0)
    if not left:
        raise OutOfStock(sku)
    return left


@app.transaction
def told(tx: Transaction) -> list[Any]:
    step = current_step()
    step.heartbeat()
    return [step.kind, step.run_id, step.name, step.attempt, step.idempotency_key, step.deadline]


@app.transaction
def wrong(tx: Transaction, how: str) -> Any:
    tx.state.put("k", how)
    match how:
        case "result":
            return object()
        case "large":
            return "x" * 200 * KIB
        case "value":
            tx.state.put("k", "x" * 200 * KIB)
        case "writes":
            for number in range(WRITES_MAX + 1):
                tx.state.put(f"k{number}", number)
        case "trio":
            trio.CancelScope().__enter__()
        case "exit":
            raise SystemExit(3)
        case "deep":
            read_on(tx, 0)
    return None


def read_on(tx: Transaction, number: int) -> None:
    tx.state.get(f"k{number}")
    read_on(tx, number + 1)


@app.transaction
def fill(tx: Transaction, count: int, size: int) -> None:
    for number in range(count):
        tx.state.put(f"k{number}", "x" * size)


@app.step
async def work(name: str) -> str:
    return str(await WORLD.act("work", name, result=name))


@work.compensation(transaction=True)
def unwork(tx: Transaction, result: str, name: str) -> None:
    tx.global_state.put("unworked", [*tx.global_state.get("unworked", list[str], []), name])


@app.workflow
async def buy(ctx: Context, sku: str) -> int:
    left: int = await ctx.step(reserve, sku)
    return left


@app.workflow
async def buy_many(ctx: Context, count: int) -> list[int]:
    return [*await ctx.gather(*(ctx.step(reserve, "pen", 1) for _ in range(count)))]


@app.workflow
async def buy_then_fail(ctx: Context, how: str) -> None:
    await ctx.step(work, "first")
    await ctx.step(reserve, "pen", n=2)
    await ctx.step(work, "last")
    if how == "fail":
        raise OutOfStock("the other thing")
    await ctx.signal("go")
    raise RuntimeError("a bug")


@app.workflow
async def try_two(ctx: Context) -> str:
    await ctx.step(reserve, "pen", 9)
    try:
        await ctx.step(reserve, "pen", 2)
    except StepFailed as error:
        return f"{error.cause_type}: {error}"
    return "enough"


@app.workflow
async def wait_for(ctx: Context, sku: str) -> int:
    left: int = await ctx.step(patient, sku)
    return left


@app.workflow
async def ask(ctx: Context) -> list[Any]:
    told_now: list[Any] = await ctx.step(told)
    return told_now


@app.workflow
async def do_wrong(ctx: Context, how: str) -> Any:
    return await ctx.step(wrong, how)


@app.workflow
async def fills(ctx: Context, count: int) -> None:
    await ctx.step(fill, count, 40 * KIB)


@app.workflow
async def fills_often(ctx: Context, times: int) -> None:
    await ctx.gather(*(ctx.step(fill, 1, 40 * KIB) for _ in range(times)))


@app.workflow
async def race(ctx: Context) -> list[Any]:
    async def both(name: str) -> str:
        await ctx.step(work, name)
        await ctx.step(reserve, "pen", 1)
        return name

    return [*await ctx.race(a=both("a"), b=both("b"))]


@app.workflow
async def keep(ctx: Context) -> None:
    await ctx.step(reserve, "pen")
    await ctx.signal("go")


changed = App("transactions")
changed.transaction(name="reserve")(reserve.fn).compensation(name="release")(release.fn)


@changed.workflow(name="keep")
async def keep_otherwise(ctx: Context) -> None:
    await ctx.emit("something else")


@app.workflow
async def many_scopes(ctx: Context) -> None:
    await ctx.step(write_all)
    await ctx.step(write_all)


@app.transaction
def write_all(tx: Transaction) -> None:
    for scope in (tx.state, tx.session_state, tx.tenant_state, tx.global_state):
        scope.put("k", scope.get("k", int, 0) + 1)


class Turns:
    """Whether transactions get their turn. Those that come while they do not are kept in `due`."""

    def __init__(self) -> None:
        self.held = self.crash = False
        self.due: list[TransactionDue] = []

    def let_go(self, runtime: VirtualRuntime) -> None:
        """From now on they do; those that were kept have it now."""
        self.held = False
        for due in self.due:
            runtime.actors.coordinator.mailbox.report(due)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    """As with a coordinator that has much to do, if wanted."""
    made, run = Turns(), TransactionDesk.run

    def in_turn(desk: TransactionDesk, due: TransactionDue) -> None:
        if made.held:
            made.due.append(due)
        elif made.crash:
            made.crash = False
            raise RuntimeError("a bug of ours")
        else:
            run(desk, due)

    monkeypatch.setattr(TransactionDesk, "run", in_turn)
    return made


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


async def stock(runtime: VirtualRuntime, key: str = "stock:pen", scope: str = "global") -> Any:
    row = await runtime.read(lambda reader: reader.state(scope, key))
    return None if row is None else (msgspec.json.decode(row.value), row.version)


async def watched(runtime: VirtualRuntime) -> list[list[str]]:
    """The kinds of the records of each commit from now on, in this life, for which the app is loaded."""
    await (await runtime.start(ask)).result()
    found: list[list[str]] = []
    commit = runtime.disk.commit

    async def noted(entries: list[Entry]) -> None:
        found.append([entry.record.kind for entry in entries])
        await commit(entries)

    runtime.disk.commit = noted  # type: ignore[method-assign]
    return found


@pytest.mark.trio
async def test_what_it_writes_and_its_result_are_one_commit(runtime: VirtualRuntime, world: World) -> None:
    """The writes stand before the completion, in the run's history, and what the code does by that after it."""
    batches = await watched(runtime)
    handle = await runtime.start(buy, "pen", id="a")
    assert await handle.result() == 9
    assert batches[-1] == ["state_written", "state_written", "step_completed", "run_completed"]
    assert await kinds(runtime, "a") == ["run_started", "step_scheduled", *batches[-1]]
    assert await stock(runtime) == (9, 1)
    assert await stock(runtime, "reserved", "run:a") == (1, 1)
    written = [one for one in await records(runtime, "a") if isinstance(one, r.StateWritten)]
    assert [one.key for one in written] == ["", ""]
    assert world.names == ["reserve"]


@pytest.mark.trio
async def test_one_comes_after_the_other(runtime: VirtualRuntime, world: World) -> None:
    """Transactions of many runs and branches each see what the one before it wrote, durable or not."""
    handles = [await runtime.start(buy, "pen") for _ in range(4)]
    handles.append(await runtime.start(buy_many, 6))
    results = [await handle.result() for handle in handles]
    assert sorted([*results[:4], *results[4]]) == list(range(10))
    assert await stock(runtime) == (0, 10)


@pytest.mark.trio
async def test_a_refusal_writes_nothing_and_is_not_repeated(runtime: VirtualRuntime, world: World) -> None:
    """An exception fails the step as of any step; nothing that it wrote before that is kept, and it is tried once."""
    handle = await runtime.start(try_two, id="a")
    assert await handle.result() == "OutOfStock: pen"
    assert await stock(runtime) == (1, 1)
    assert await stock(runtime, "reserved", "run:a") == (9, 1)
    assert world.names == ["reserve", "reserve"]


@pytest.mark.trio
async def test_it_is_tried_again_where_asked(runtime: VirtualRuntime, world: World) -> None:
    """With a retry policy it is asked again after a durable wait, when others may have changed the state."""
    handle = await runtime.start(wait_for, "ink", id="a")
    await runtime.advance(5)
    await runtime.crash()
    await runtime.ask(m.PutState(scope="global", key="stock:ink", value=raw(3)))
    assert await handle.result() == 3
    assert await kinds(runtime, "a") == [
        "run_started", "step_scheduled", "step_failed", "run_waiting", "timer_fired", "step_completed", "run_completed",
    ]  # fmt: skip


@pytest.mark.trio
async def test_it_is_undone_by_a_transaction(runtime: VirtualRuntime, world: World) -> None:
    """A failure undoes in reverse order; what undoes a transaction, or a step that says so, is one commit too."""
    batches = await watched(runtime)
    with pytest.raises(RunFailed):
        await (await runtime.start(buy_then_fail, "fail", id="a")).result()
    assert await stock(runtime) == (10, 2)
    assert await stock(runtime, "unworked") == (["last", "first"], 2)
    ends = [batch for batch in batches if "compensation_completed" in batch]
    assert [batch[:2] for batch in ends] == [["state_written", "compensation_completed"]] * 3
    assert world.calls[-1] == ("release", ("pen", 2))


@pytest.mark.trio
async def test_it_may_ask_about_itself(runtime: VirtualRuntime, world: World) -> None:
    """`current_step()` works in it as in any step."""
    assert await (await runtime.start(ask, id="a")).result() == ["step", "a", "told", 1, "a/0/0/told", None]


@pytest.mark.trio
async def test_its_attempts_are_counted(runtime: VirtualRuntime, world: World) -> None:
    """As those of other steps are: by outcome, and by how long they took."""
    await (await runtime.start(try_two)).result()
    statistics = runtime.actors.steps
    assert statistics.outcomes == {"completed": 1, "failed": 1}
    assert statistics.seconds()["try_two", "reserve"].count == 2


class TestLimits:
    """What is too large, or cannot be."""

    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(payload_max_bytes=100 * KIB, batch_bytes_max=100 * KIB))

    @pytest.mark.trio
    @pytest.mark.parametrize(
        ("how", "kind", "error"),
        [
            ("result", RunBlocked, "cannot be recorded"),
            ("large", RunBlocked, "over the limit"),
            ("value", RunFailed, "PayloadTooLarge"),
            ("writes", RunFailed, "at most 1000 values"),
            ("trio", RunFailed, ForeignAwait.__name__),
            ("exit", RunFailed, "SystemExit"),
            ("deep", RunFailed, "RecursionError"),
        ],
    )
    async def test_a_wrong_one_harms_its_run_alone(
        self, runtime: VirtualRuntime, world: World, how: str, kind: type[Exception], error: str
    ) -> None:
        """It fails the step, or blocks the run where mended code can go on; nothing is written, others go on."""
        with pytest.raises(kind):
            await (await runtime.start(do_wrong, how, id="a")).result()
        run = await runtime.run("a")
        assert error in f"{run.error}"
        assert await stock(runtime, "k", "run:a") is None
        assert await (await runtime.start(buy, "pen")).result() == 9

    @pytest.mark.trio
    async def test_it_is_one_commit_whatever_its_size(self, runtime: VirtualRuntime, world: World) -> None:
        """Also where a commit is cut at less."""
        batches = await watched(runtime)
        await (await runtime.start(fills, 20)).result()
        assert [batch.count("state_written") for batch in batches if "step_completed" in batch] == [20]


@pytest.mark.trio
async def test_many_large_ones_wait_for_the_disk(
    runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they have written and the disk has not taken is bounded, however many of them are due at once; and all have
    their turn."""
    monkeypatch.setattr("actors.wal_writer.PRODUCTION_BYTES_MAX", 100 * KIB)
    most, append = 0, WalWriter.append

    def noted(writer: WalWriter, *args: Any, **more: Any) -> int:
        nonlocal most
        seq = append(writer, *args, **more)
        most = max(most, writer._bytes)
        return seq

    monkeypatch.setattr(WalWriter, "append", noted)
    handle = await runtime.start(fills_often, 20)
    await handle.result()
    assert await stock(runtime, "k0", f"run:{handle.id}") == ("x" * 40 * KIB, 20)
    assert most < 200 * KIB


@pytest.mark.trio
async def test_each_scope_is_its_own(runtime: VirtualRuntime, world: World) -> None:
    """As of what the workflow itself puts: rows tell the run's tenant and classification."""
    await runtime.ask(m.OpenSession(id="s", tenant="acme", classification="client"))
    handle = await runtime.start(many_scopes, session_id="s")
    await handle.result()
    for scope in ("session:s", "tenant:acme", "global", f"run:{handle.id}"):
        row = await runtime.read(lambda reader, scope=scope: reader.state(scope, "k"))
        assert row is not None and (row.value, row.version) == (raw(2), 2)
        assert (row.tenant, row.classification) == ("acme", "client")


@pytest.mark.trio
async def test_killed_before_its_commit_it_has_not_happened(
    runtime: VirtualRuntime, world: World, turns: Turns
) -> None:
    """It simply runs, as its first attempt, however often the process ends there: nothing is in doubt or counted."""
    turns.held = True
    await runtime.start(buy, "pen", id="a")
    for life in range(15):
        await trio.testing.wait_all_tasks_blocked()
        assert len(turns.due) == life + 1
        await runtime.crash()
    turns.held = False
    await runtime.crash()
    assert await runtime.result("a") == 9
    assert await kinds(runtime, "a") == [
        "run_started", "step_scheduled", "state_written", "state_written", "step_completed", "run_completed",
    ]  # fmt: skip


@pytest.mark.trio
async def test_recalled_it_does_not_run(runtime: VirtualRuntime, world: World) -> None:
    """A replay takes the recorded result, and passes by what was written."""
    world.script["work"].extend(["first", HANG])
    await runtime.start(buy_then_fail, "wait", id="a")
    await runtime.advance(1)
    await runtime.crash()
    await runtime.signal("a", "go")
    await runtime.advance(1)
    assert world.names == ["work", "reserve", "work", "work"]
    assert await stock(runtime) == (8, 1)
    assert (await runtime.run("a")).status == "blocked"


@pytest.mark.trio
async def test_cancelled_before_its_turn(runtime: VirtualRuntime, world: World, turns: Turns) -> None:
    """A transaction whose run is cancelled before its turn has come does not run."""
    turns.held = True
    handle = await runtime.start(buy, "pen", id="a")
    await trio.testing.wait_all_tasks_blocked()
    await runtime.cancel("a")
    turns.let_go(runtime)
    with pytest.raises(RunCancelled):
        await handle.result()
    assert world.names == []
    assert await stock(runtime) is None
    failed = next(one for one in await records(runtime, "a") if isinstance(one, r.StepFailed))
    assert (failed.cancelled, failed.error.message) == (True, "it was not started")


@pytest.mark.trio
async def test_cancelled_and_killed_before_its_turn(runtime: VirtualRuntime, world: World, turns: Turns) -> None:
    """After the restart it is called off: what it was to do did not happen, and nobody is asked whether it did."""
    turns.held = True
    await runtime.start(buy, "pen", id="a")
    await trio.testing.wait_all_tasks_blocked()
    await runtime.cancel("a")
    await runtime.crash()
    with pytest.raises(RunCancelled):
        await runtime.result("a")
    assert len(turns.due) == 1
    assert await kinds(runtime, "a") == [
        "run_started", "step_scheduled", "run_cancel_requested", "run_compensating", "step_failed", "run_cancelled",
    ]  # fmt: skip


@pytest.mark.trio
async def test_paused_it_is_recorded_and_the_code_waits(runtime: VirtualRuntime, world: World, turns: Turns) -> None:
    """As an attempt in flight: it ends, what it wrote is there, and its run goes on when it is resumed."""
    turns.held = True
    handle = await runtime.start(buy, "pen", id="a")
    await trio.testing.wait_all_tasks_blocked()
    await runtime.ask(m.PauseRun(run_id="a"))
    turns.let_go(runtime)
    await runtime.advance(1)
    assert await stock(runtime) == (9, 1)
    assert (await runtime.run("a")).status == "paused"
    await runtime.crash()
    await runtime.ask(m.ResumeRun(run_id="a"))
    assert await handle.result() == 9
    assert world.names == ["reserve"]


@pytest.mark.trio
async def test_draining_it_ends_and_no_next_step_begins(runtime: VirtualRuntime, world: World, turns: Turns) -> None:
    """What is due is still recorded; its run goes on after the restart."""
    turns.held = True
    await runtime.start(buy_then_fail, "fail", id="a")
    await runtime.advance(1)
    runtime.actors.coordinator.engine.draining = True
    turns.let_go(runtime)
    await runtime.advance(1)
    assert await stock(runtime) == (8, 1)
    assert (await kinds(runtime, "a"))[-2:] == ["state_written", "step_completed"]
    await runtime.restart()
    with pytest.raises(RunFailed):
        await runtime.result("a")
    assert await stock(runtime) == (10, 2)


@pytest.mark.trio
async def test_losers_of_a_race(runtime: VirtualRuntime, world: World, turns: Turns) -> None:
    """One that the winner's end calls off before its turn writes nothing, and both have an end."""
    turns.held = True
    handle = await runtime.start(race)
    await runtime.advance(1)
    assert len(turns.due) == 2
    turns.let_go(runtime)
    assert await handle.result() == ["a", "a"]
    assert await stock(runtime) == (9, 1)
    assert world.names.count("reserve") == 1


@pytest.mark.trio
async def test_a_life_before_this_one(runtime: VirtualRuntime, world: World, turns: Turns) -> None:
    """What an engine that crashed had set down to be run is run by the next one, once."""
    turns.held = True
    handle = await runtime.start(buy, "pen", id="a")
    await trio.testing.wait_all_tasks_blocked()
    turns.crash = True
    turns.let_go(runtime)
    assert await handle.result() == 9
    assert not turns.crash
    turns.let_go(runtime)
    await runtime.advance(1)
    assert world.names == ["reserve"]
    assert await stock(runtime) == (9, 1)


@pytest.mark.trio
async def test_one_that_the_daemon_dies_in_twice_is_held(
    runtime: VirtualRuntime, world: World, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run is blocked as `stuck`, though its code itself is replayed well; a person may let it run again."""
    turns.held = True
    await runtime.start(buy, "pen", id="a")
    await trio.testing.wait_all_tasks_blocked()
    suspect = in_transaction(turns.due[0].attempt.run_key)
    turns.held = False

    def twice_dead(path: object) -> AdvanceMarker:
        made = AdvanceMarker()
        made._suspect, made.deaths = suspect, 2
        return made

    with monkeypatch.context() as patch:
        patch.setattr("runtimed.assembly.AdvanceMarker", twice_dead)
        await runtime.crash()
    await runtime.advance(1)
    run = await runtime.run("a")
    assert (run.status, run.error.type) == ("blocked", "stuck")
    assert world.names == []
    await runtime.ask(m.RetryRun(run_id="a"))
    assert await runtime.result("a") == 9


@pytest.mark.trio
async def test_state_that_cannot_be_read_is_not_its_failure(
    runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine starts anew and runs it again; its run neither fails nor undoes anything."""
    handle = await runtime.start(buy, "other")
    await handle.result()
    errors = [JournalError("no disk")]
    read = StateTable.get

    def get(table: StateTable, scope: str, name: str) -> Any:
        if errors:
            raise errors.pop()
        return read(table, scope, name)

    monkeypatch.setattr(StateTable, "get", get)
    assert await (await runtime.start(buy, "pen", id="a")).result() == 9
    assert world.names == ["reserve"] * 3
    assert (await kinds(runtime, "a")).count("step_failed") == 0


@pytest.mark.trio
async def test_it_is_undone_without_its_code(runtime: VirtualRuntime, world: World) -> None:
    """A run that contradicts its code, and is cancelled: what undoes its transactions is run from the records alone,
    once, also over a kill before that."""
    handle = await runtime.start(keep, id="a")
    await runtime.advance(1)
    await runtime.crash(apps=[changed])
    await runtime.signal("a", "go")
    await runtime.advance(1)
    assert (await runtime.run("a")).status == "blocked"
    await runtime.cancel("a")
    await runtime.crash()
    with pytest.raises(RunCancelled):
        await handle.result()
    assert world.names == ["reserve", "release"]
    assert await stock(runtime) == (10, 2)


@pytest.mark.trio
@pytest.mark.slow
async def test_a_journal_with_transactions_is_whole(tmp_path: Path, world: World) -> None:
    """Its tables follow from its records, also when the runs are forgotten: values of other scopes outlive them."""
    async with open_runtime(app, tmp_path) as runtime:
        for key in ("a", "b", "newest"):
            await (await runtime.start(buy, "pen", id=key)).result()
        rows = [await runtime.read(lambda reader, key=key: reader.run(key)) for key in ("a", "b")]
        candidates = [Candidate(row.run_key, row.id, row.ended_at, 6) for row in rows]
        await runtime.ask(m.ForgetRuns(runs=candidates, older_than=1 << 60))
    assert verify(tmp_path / "journal.db").problems == []
    async with open_runtime(app, tmp_path) as runtime:
        assert await (await runtime.start(buy, "pen")).result() == 6
