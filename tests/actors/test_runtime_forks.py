"""Forks in a runtime: a run that begins with the past of another, in one commit, and is a run like any from there."""

from __future__ import annotations

import pytest
import trio
from msgspec import Raw, json

import runtimed
from actors import fork_desk
from actors import messages as m
from actors.fork_desk import fork_of
from runtimed import App, Context
from runtimed.settings import Queue, Settings
from runtimed.virtual import VirtualRuntime

app = App("forking")
DONE: list[str] = []
BROKEN: set[str] = set()
KEYS: list[str] = []


@app.step
async def charge(order: str) -> str:
    DONE.append(f"charge {order}")
    KEYS.append(runtimed.current_step().idempotency_key)
    return f"paid {order}"


@charge.compensation
async def refund(result: str, order: str) -> None:
    DONE.append(f"refund {order}")


@app.step(retry=runtimed.Retry(max_attempts=1))
async def ship(order: str) -> str:
    DONE.append(f"ship {order}")
    KEYS.append(runtimed.current_step().idempotency_key)
    if order in BROKEN:
        raise ValueError("no such street")
    return "on its way"


@app.workflow
async def checkout(ctx: Context, order: str) -> str:
    await ctx.state.put("stage", "new")
    await ctx.step(charge, order)
    await ctx.state.put("stage", "paid")
    ctx.set_attributes(order=order)
    decision = await ctx.approval("Ship?", timeout=3600)
    if not decision.approved:
        return "refused"
    await ctx.step(ship, order)
    return f"{await ctx.state.get('stage')} {await ctx.state.get('seen', default='unseen')}"


@app.workflow
async def rounds(ctx: Context, left: int) -> str:
    await ctx.state.put("left", left)
    ctx.set_attributes(**{f"round{left}": True})
    if left:
        await ctx.continue_as_new(left - 1)
    await ctx.step(charge, str(left))
    await ctx.sleep(60)
    return str(await ctx.state.get("left"))


@app.transaction
def count(tx: runtimed.Transaction) -> int:
    number: int = tx.state.get("n", int, 0) + 1
    tx.state.put("n", number)
    return number


@app.workflow
async def parent(ctx: Context) -> str:
    return str(await ctx.child(checkout, "c"))


@pytest.fixture
def runtime_app() -> App:
    return app


@pytest.fixture
def runtime_settings() -> Settings:
    return Settings(queues={"one": Queue(concurrency=1)})


@pytest.fixture(autouse=True)
def _as_new() -> None:
    for table in (DONE, KEYS, BROKEN):
        table.clear()


async def seq_of(runtime: VirtualRuntime, run_id: str, kind: str, nth: int = 0) -> int:
    found = [record.seq for record in (await runtime.history(run_id)).items if record.kind == kind]
    return found[nth]


async def put(runtime: VirtualRuntime, name: str, value: str) -> None:
    await runtime.ask(m.PutState(scope="run:order", key=name, value=Raw(json.encode(value)), origin=m.Origin(by="kim")))


async def kinds(runtime: VirtualRuntime, run_id: str) -> list[str]:
    return [record.kind for record in (await runtime.history(run_id)).items]


@pytest.mark.trio
async def test_a_failed_run_is_tried_again_from_before_it_failed(runtime: VirtualRuntime) -> None:
    """The fork recalls what was done, asks people anew, ships as itself; the run that failed stays as it is."""
    await runtime.start(checkout, "A", id="order")
    BROKEN.add("A")
    asked = await runtime.asked("order")
    place = await seq_of(runtime, "order", "approval_requested")
    await runtime.decide(asked.id, approve=True, by="kim")
    with pytest.raises(runtimed.RunFailed):
        await runtime.result("order")
    BROKEN.clear()
    fork = await runtime.fork("order", place, reason="the street is there now")
    assert fork.id == f"order:f{place}"
    again = await runtime.asked(fork.id)
    assert again.id != asked.id
    await runtime.decide(again.id, approve=True, by="kim")
    assert await fork.result() == "paid unseen"
    assert DONE == ["charge A", "ship A", "refund A", "ship A"]
    assert ["order/0/1/charge", "order/0/5/ship", f"{fork.id}/0/5/ship"] == KEYS
    assert (await runtime.run("order")).status == "failed"
    made = await runtime.run(fork.id)
    assert (made.attributes, bytes(made.input), made.parent_id) == ({"order": "A"}, b'"A"', None)


@pytest.mark.trio
async def test_a_fork_is_one_commit_and_survives_a_crash(runtime: VirtualRuntime) -> None:
    """Its start, its past and its state are one commit; killed behind that, it begins from the journal."""
    await runtime.start(checkout, "A", id="order")
    await runtime.asked("order")
    fork = await runtime.fork("order", await seq_of(runtime, "order", "approval_requested"), id="mine")
    assert (await kinds(runtime, "mine"))[:3] == ["run_started", "run_forked", "state_written"]
    await runtime.crash()
    again = await runtime.asked("mine")
    await runtime.crash()
    await runtime.decide(again.id, approve=True, by="kim")
    assert await runtime.result(fork.id) == "paid unseen"
    assert DONE == ["charge A", "ship A"]
    assert (await runtime.run("order")).status == "waiting"


@pytest.mark.trio
async def test_a_fork_has_its_state_as_it_was_there(runtime: VirtualRuntime) -> None:
    """The values of the run's own scope are those of that record, and each goes its own way from there."""
    await runtime.start(checkout, "A", id="order")
    asked = await runtime.asked("order")
    await put(runtime, "seen", "early")
    place = await seq_of(runtime, "order", "state_written", 2)
    await put(runtime, "seen", "late")
    fork = await runtime.fork("order", place)
    await put(runtime, "stage", "changed")
    await runtime.decide((await runtime.asked(fork.id)).id, approve=True, by="kim")
    assert await fork.result() == "paid early"
    await runtime.decide(asked.id, approve=True, by="kim")
    assert await runtime.result("order") == "changed late"


@pytest.mark.trio
async def test_a_transaction_is_taken_over_whole(runtime: VirtualRuntime) -> None:
    """Its writes and its result are of the past, or neither: between them a fork runs it anew."""
    await runtime.start(counts, id="counts")
    assert await runtime.result("counts") == 1
    written, done = await seq_of(runtime, "counts", "state_written"), await seq_of(runtime, "counts", "step_completed")
    assert [await (await runtime.fork("counts", place)).result() for place in (written, done)] == [1, 1]


@app.workflow
async def counts(ctx: Context) -> int:
    await ctx.step(count)
    return int(await ctx.state.get("n"))


@pytest.mark.trio
async def test_a_run_that_has_continued_is_forked_in_any_round(runtime: VirtualRuntime) -> None:
    """The past is that of the round; state and attributes are those of all rounds up to there."""
    await runtime.start(rounds, 2, id="many")
    await runtime.advance(1)
    last = await runtime.fork("many", (await runtime.run("many")).seq, id="last")
    first = await runtime.fork("many", await seq_of(runtime, "many", "state_written"), id="first")
    middle = await runtime.fork("many", await seq_of(runtime, "many", "run_continued"), id="middle")
    began = [json.decode((await runtime.history(name)).items[0].data)["attributes"] for name in ("last", "middle")]
    assert began == [{"round2": True, "round1": True, "round0": True}, {"round2": True}]
    assert bytes((await runtime.run("middle")).input) == b"1"
    assert [await one.result() for one in (last, first, middle)] == ["0", "0", "0"]
    assert DONE == ["charge 0", "charge 0", "charge 0"]


@app.workflow
async def speaks(ctx: Context) -> None:
    await ctx.emit("before")
    await ctx.signal("go")
    await ctx.emit("behind")


@pytest.mark.trio
async def test_what_was_emitted_stays_where_it_was(runtime: VirtualRuntime) -> None:
    """The output of a fork is what it emits itself."""
    await runtime.start(speaks, id="first")
    fork = await runtime.fork("first", await seq_of(runtime, "first", "output_emitted"))
    await runtime.signal(fork.id, "go")
    await fork.result()
    said = [[bytes(record.data) for record in (await runtime.history(name)).items if record.kind == "output_emitted"]
            for name in ("first", fork.id)]  # fmt: skip
    assert said == [[b'{"value":"before"}'], [b'{"value":"behind"}']]


@pytest.mark.trio
async def test_a_fork_of_a_fork(runtime: VirtualRuntime) -> None:
    """It has the past of both."""
    await runtime.start(checkout, "A", id="order")
    await runtime.asked("order")
    one = await runtime.fork("order", await seq_of(runtime, "order", "approval_requested"), id="one")
    await runtime.decide((await runtime.asked(one.id)).id, approve=True, by="kim")
    assert await one.result() == "paid unseen"
    two = await runtime.fork("one", await seq_of(runtime, "one", "approval_decided"), id="two")
    await runtime.crash()
    assert await runtime.result(two.id) == "paid unseen"
    assert DONE == ["charge A", "ship A", "ship A"]


@pytest.mark.trio
async def test_a_fork_of_a_fork_at_what_that_began_with(runtime: VirtualRuntime) -> None:
    """The values of its state are one with its past, though they are records of their own behind it."""
    await runtime.start(checkout, "A", id="order")
    await runtime.asked("order")
    await put(runtime, "seen", "early")
    await runtime.fork("order", await seq_of(runtime, "order", "state_written", 2), id="one")
    await runtime.asked("one")
    await runtime.ask(m.PutState(scope="run:one", key="seen", value=Raw(b'"late"'), origin=m.Origin(by="kim")))
    places = [record.seq for record in (await runtime.history("one")).items][1:4]
    for number, place in enumerate(places):
        fork = await runtime.fork("one", place, id=f"two{number}")
        await runtime.decide((await runtime.asked(fork.id)).id, approve=True, by="kim")
        assert await fork.result() == "paid early"


@pytest.mark.trio
async def test_a_fork_whose_code_is_gone_undoes_as_itself(runtime: VirtualRuntime) -> None:
    """Also where its past is a signal that an earlier round left: it is the fork whose state an undo changes."""
    await runtime.start(twice, False, id="first")
    await runtime.signal("first", "go", 1)
    await runtime.advance(1)
    await runtime.fork("first", await seq_of(runtime, "first", "run_continued"), id="fork")
    await runtime.advance(1)
    bare = App("forking")
    bare.steps.update(app.steps)
    await runtime.crash(apps=[bare])
    await runtime.cancel("fork")
    with pytest.raises(runtimed.RunCancelled):
        await runtime.result("fork")
    held = [
        await runtime.read(lambda reader, name=name: reader.state(f"run:{name}", "n")) for name in ("first", "fork")
    ]
    assert [bytes(row.value) for row in held if row is not None] == [b"1", b"0"]
    await runtime.crash(apps=[app])


@count.compensation
def uncount(tx: runtimed.Transaction, number: int) -> None:
    tx.state.put("n", number - 1)


@app.workflow
async def twice(ctx: Context, again: bool) -> None:
    if not again:
        await ctx.continue_as_new(True)
    await ctx.step(count)
    await ctx.signal("end")


@pytest.mark.trio
async def test_a_repeated_request_is_answered_though_the_run_is_forgotten(runtime: VirtualRuntime) -> None:
    """With its key it gets the first answer, and makes no second fork."""
    await runtime.start(checkout, "A", id="order")
    asked = await runtime.asked("order")
    await runtime.decide(asked.id, approve=False, by="kim", reason="no")
    assert await runtime.result("order") == "refused"
    await runtime.start(checkout, "A", id="newest")
    place = await seq_of(runtime, "order", "approval_requested")
    origin = m.Origin(by="kim", request=m.RequestKey("kim", "key-1", "digest"))

    async def fork() -> m.Accepted:
        command = await runtime.read(lambda reader: fork_of(reader, "order", place, origin=origin))
        accepted: m.Accepted = await runtime.ask(command)
        return accepted

    first = await fork()
    row = await runtime.read(lambda reader: reader.run("order"))
    assert row is not None
    await runtime.ask(m.ForgetRuns(runs=[m.Candidate(row.run_key, "order", 0, 1)], older_than=1 << 60))
    assert await fork() == first
    with pytest.raises(runtimed.RunNotFound):
        await runtime.fork("order", place)
    await runtime.crash()
    assert await fork() == first
    await runtime.decide((await runtime.asked(first.id or "")).id, approve=True, by="kim")
    assert await runtime.result(first.id or "") == "paid unseen"


@pytest.mark.trio
async def test_what_a_fork_takes_over_has_a_limit(runtime: VirtualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of its state count as its past does, for all of it is one commit."""
    await runtime.start(checkout, "A", id="order")
    await runtime.asked("order")
    for number in range(5):
        await put(runtime, f"k{number}", "x" * 1_000)
    monkeypatch.setattr(fork_desk, "PAST_BYTES_MAX", 5_000)
    with pytest.raises(runtimed.PayloadTooLarge, match="its state"):
        await runtime.fork("order", (await runtime.run("order")).seq)
    await runtime.fork("order", await seq_of(runtime, "order", "approval_requested"))


@pytest.mark.trio
async def test_a_fork_that_is_cancelled_undoes_what_it_took_over(runtime: VirtualRuntime) -> None:
    """The steps of its past are its own to undo, here and where its code is gone."""
    await runtime.start(checkout, "A", id="order")
    await runtime.asked("order")
    await runtime.fork("order", await seq_of(runtime, "order", "approval_requested"), id="one")
    await runtime.cancel("one")
    with pytest.raises(runtimed.RunCancelled):
        await runtime.result("one")
    assert DONE == ["charge A", "refund A"]
    bare = App("forking")
    for step in (charge, refund, ship):
        bare.steps[step.name] = step
    await runtime.fork("order", await seq_of(runtime, "order", "approval_requested"), id="two")
    await runtime.crash(apps=[bare])
    await runtime.cancel("two")
    with pytest.raises(runtimed.RunCancelled):
        await runtime.result("two")
    assert DONE == ["charge A", "refund A", "refund A"]
    await runtime.crash(apps=[app])


@pytest.mark.trio
async def test_a_fork_waits_in_the_queue_of_its_run(runtime: VirtualRuntime) -> None:
    """It takes its place behind who is there, also over a crash, and begins with its past."""
    await runtime.start(checkout, "A", id="order", queue="one")
    asked = await runtime.asked("order")
    fork = await runtime.fork("order", await seq_of(runtime, "order", "approval_requested"))
    assert (await runtime.run(fork.id)).status == "queued"
    await runtime.crash()
    assert (await runtime.run(fork.id)).status == "queued"
    await runtime.decide(asked.id, approve=True, by="kim")
    assert await runtime.result("order") == "paid unseen"
    await runtime.decide((await runtime.asked(fork.id)).id, approve=True, by="kim")
    assert await runtime.result(fork.id) == "paid unseen"
    assert DONE == ["charge A", "ship A", "ship A"]


@pytest.mark.trio
async def test_a_fork_in_the_session_of_its_run(runtime: VirtualRuntime) -> None:
    """It belongs to the session, and there is none where that has ended."""
    await runtime.ask(m.OpenSession(id="s", tenant="acme"))
    await runtime.start(checkout, "A", id="order", session_id="s")
    await runtime.asked("order")
    place = await seq_of(runtime, "order", "approval_requested")
    await runtime.fork("order", place, id="one")
    made = await runtime.run("one")
    assert (made.session_id, made.tenant, made.classification) == ("s", "acme", "platform")
    await runtime.ask(m.CloseSession(id="s"))
    with pytest.raises(runtimed.SessionEnded):
        await runtime.fork("order", place, id="two")


@pytest.mark.trio
async def test_what_cannot_be_forked_is_refused(runtime: VirtualRuntime) -> None:
    """No such run, no record of it, an id that is taken, a run that is over, a child that is not: nothing is kept."""
    await runtime.start(checkout, "A", id="order")
    asked = await runtime.asked("order")
    await runtime.start(parent, id="parent")
    await runtime.asked("parent:0")
    place = await seq_of(runtime, "order", "approval_requested")
    before = runtime.statistics().journal_seq
    for run_id, at_seq, new_id, error in (
        ("nobody", 1, None, runtimed.RunNotFound),
        ("order", 0, None, runtimed.InvalidInput),
        ("order", place + 1_000, None, runtimed.InvalidInput),
        ("order", await seq_of(runtime, "parent", "run_started"), None, runtimed.InvalidInput),
        ("order", place, "order", runtimed.IdConflict),
        ("order", place, "no id", runtimed.InvalidId),
        ("parent", (await runtime.run("parent")).seq, None, runtimed.ForkRefused),
    ):
        with pytest.raises(error):
            await runtime.fork(run_id, at_seq, id=new_id)
    assert runtime.statistics().journal_seq == before
    await runtime.decide(asked.id, approve=False, by="kim", reason="no")
    assert await runtime.result("order") == "refused"
    with pytest.raises(runtimed.ForkRefused, match="ended"):
        await runtime.fork("order", (await runtime.run("order")).seq)


@pytest.mark.trio
async def test_forks_of_one_place_have_names_of_their_own(runtime: VirtualRuntime) -> None:
    """The name says what it is a fork of, and which."""
    await runtime.start(checkout, "A", id="order")
    await runtime.asked("order")
    place = await seq_of(runtime, "order", "approval_requested")
    made = [(await runtime.fork("order", place)).id for _ in range(3)]
    assert made == [f"order:f{place}", f"order:f{place}.2", f"order:f{place}.3"]
    await runtime.start(checkout, "A", id="x" * 200)
    await runtime.asked("x" * 200)
    long = await runtime.fork("x" * 200, await seq_of(runtime, "x" * 200, "approval_requested"))
    assert not long.id.startswith("x")


@pytest.mark.trio
async def test_a_step_that_was_under_way_runs_again(runtime: VirtualRuntime) -> None:
    """It counts as interrupted: the fork is in its second attempt."""
    await runtime.start(slow, id="slow")
    await runtime.signal("slow", "go", 1)
    await runtime.advance(1)
    fork = await runtime.fork("slow", (await runtime.run("slow")).seq)
    assert await fork.result() == 2
    assert (await kinds(runtime, fork.id)).count("step_interrupted") == 1
    assert await runtime.result("slow") == 1


@app.step
async def takes_its_time() -> int:
    await trio.sleep(100)
    return runtimed.current_step().attempt


@app.workflow
async def slow(ctx: Context) -> int:
    attempt, _ = await ctx.gather(ctx.step(takes_its_time), ctx.signal("go"))
    return int(attempt)
