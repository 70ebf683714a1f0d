"""What the runtime promises about approvals: who may decide, about what, once, and that no decision is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw

from actors import messages as m
from actors.errors import (
    AlreadyVoted,
    ApprovalClosed,
    ApprovalNotFound,
    Conflict,
    InvalidInput,
    NotAllowed,
    PayloadTooLarge,
    Rejected,
    RunFailed,
    StaleApproval,
)
from actors.flow.approval import Decision
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.crash_testing import SendDecision, SendSignal, crash_everywhere
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r
from wal.views import ApprovalView

app = App("approvals")
HOUR = 3600.0


class Refund(msgspec.Struct, frozen=True):
    """What an approver fills in."""

    cents: int
    note: str = ""


@app.step
async def charge() -> str:
    return str(await WORLD.act("charge", result="ch_1"))


@charge.compensation
async def refund(charge_id: str) -> None:
    await WORLD.act("refund", charge_id)


@app.step
async def ship() -> None:
    await WORLD.act("ship")


@app.workflow
async def checkout(ctx: Context, roles: list[str]) -> str:
    await ctx.step(charge)
    decision = await ctx.approval("Ship order?", detail={"order": 7}, roles=roles, timeout=72 * HOUR)
    if not decision.approved:
        raise Rejected(decision)
    await ctx.step(ship)
    return f"{decision.by}: {decision.reason}"


@app.workflow
async def two_of_us(ctx: Context) -> dict[str, Any]:
    decision = await ctx.approval("Open the vault?", quorum=2, timeout=HOUR)
    return {"approved": decision.approved, "by": decision.by, "at": decision.at.isoformat()}


@app.workflow
async def careful(ctx: Context) -> bool:
    decision: Decision = await ctx.approval("Drop the table?", risk="high", four_eyes=True)
    return decision.approved


@app.workflow
async def with_form(ctx: Context) -> int:
    decision = await ctx.approval("How much?", form=Refund)
    return int(decision.data.cents) if decision.approved else 0


@app.workflow
async def race(ctx: Context) -> str:
    name, value = await ctx.race(people=ctx.approval("Now?"), go=ctx.signal("go"), late=ctx.sleep(HOUR))
    return f"{name} {value.approved if name == 'people' else value}"


@app.workflow
async def one_after_another(ctx: Context) -> list[bool]:
    return [(await ctx.approval(f"Question {number}?")).approved for number in range(3)]


@app.workflow
async def side_by_side(ctx: Context) -> list[bool]:
    answers = await ctx.gather(ctx.approval("Left?"), ctx.approval("Right?"))
    return [answer.approved for answer in answers]


@app.workflow
async def shows_a_set(ctx: Context) -> bool:
    detail = {"tags": ORDERS[0]}
    return bool((await ctx.approval("Publish?", detail=detail, roles=ORDERS[0])).approved)


ORDERS: list[list[str]] = []
"""In place of a set of text, whose order is another one in each process."""


@app.workflow
async def breaks(ctx: Context) -> bool:
    answer, _ = await ctx.gather(ctx.approval("Still?"), _break(ctx))
    return bool(answer.approved)


async def _break(ctx: Context) -> None:
    await ctx.signal("break")
    if not MENDED:
        raise KeyError("a defect")


MENDED: list[bool] = []


@pytest.fixture
def mended() -> Any:
    """Appending to it mends the workflow `breaks`."""
    MENDED.clear()
    yield MENDED
    MENDED.clear()


async def _asked(runtime: VirtualRuntime, workflow: Any, input: Any = None, **options: Any) -> tuple[Any, ApprovalView]:
    handle = await runtime.start(workflow, input, **options)
    return handle, await runtime.asked(handle.id)


# --- yes, no, and nobody ----------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_yes_lets_the_run_go_on(runtime: VirtualRuntime, world: World) -> None:
    """The workflow gets who said yes and why; the approval shows the vote; nothing is undone."""
    handle, asked = await _asked(runtime, checkout, [])
    assert (asked.status, asked.votes, asked.quorum, asked.decided_at) == ("open", [], 1, None)
    assert (await runtime.run(handle.id)).waiting_on == "approval"

    view = await runtime.decide(asked.id, approve=True, by="kim", reason="goods are back")

    assert await handle.result() == "kim: goods are back"
    assert (view.status, view.votes[0].by, view.votes[0].approve) == ("approved", "kim", True)
    assert await runtime.approval(asked.id) == view
    assert world.names == ["charge", "ship"]


@pytest.mark.trio
async def test_a_no_fails_the_run_and_undoes_it(runtime: VirtualRuntime, world: World) -> None:
    """`Rejected` fails the run, the charge is refunded, and the reason is on record."""
    handle, asked = await _asked(runtime, checkout, [])
    view = await runtime.decide(asked.id, approve=False, by="kim", reason="address unknown")
    with pytest.raises(RunFailed) as failed:
        await handle.result()
    assert failed.value.type == "Rejected" and str(failed.value).endswith("refused by kim: address unknown")
    assert (await handle.status(), view.status, world.names) == ("failed", "refused", ["charge", "refund"])
    decided = [one for one in await records(runtime, handle.id) if isinstance(one, r.ApprovalDecided)]
    assert [(one.approved, one.by, one.reason) for one in decided] == [(False, "kim", "address unknown")]


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision(approved=False, by="uid:7", reason="duplicate"), "refused by uid:7: duplicate"),
        (Decision(approved=False, by="uid:7"), "refused by uid:7"),
        (Decision(approved=False), "refused: nobody answered in time"),
        ("no stock", "refused: no stock"),
        (None, "refused"),
    ],
)
def test_a_refusal_reads_as_a_sentence(decision: object, said: str) -> None:
    """What people read of a refused run is who and why, in words."""
    assert str(Rejected(decision)) == said


@pytest.mark.trio
async def test_at_the_deadline_nobody_refuses(runtime: VirtualRuntime, world: World) -> None:
    """When the time is up the decision is no, by nobody; the approval is `expired`, and it is too late to decide."""
    handle, asked = await _asked(runtime, two_of_us)
    assert await handle.result() == {"approved": False, "by": None, "at": _python_instant(asked.expires_at)}
    assert (await runtime.approval(asked.id)).status == "expired"
    with pytest.raises(ApprovalClosed, match="expired"):
        await runtime.decide(asked.id, approve=True, by="kim")


def _python_instant(text: str | None) -> str:
    assert text is not None
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()


@pytest.mark.trio
async def test_a_deadline_that_passed_while_paused_holds(runtime: VirtualRuntime) -> None:
    """A timer that is late, because the run is paused, gives nobody more time than was shown."""
    handle, asked = await _asked(runtime, two_of_us)
    await runtime.pause(handle.id)
    await runtime.advance(2 * HOUR)
    assert (await runtime.approval(asked.id)).status == "open"
    with pytest.raises(ApprovalClosed, match="could be decided until"):
        await runtime.decide(asked.id, approve=True, by="kim")
    await runtime.resume(handle.id)
    assert (await handle.result())["approved"] is False


# --- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_quorum_is_of_different_people(runtime: VirtualRuntime) -> None:
    """Two yeses of one person are one; the second person settles it, and both names are told."""
    handle, asked = await _asked(runtime, two_of_us)
    first = await runtime.decide(asked.id, approve=True, by="kim")
    assert (first.status, first.decided_at, len(first.votes)) == ("open", None, 1)
    with pytest.raises(AlreadyVoted, match="kim has voted"):
        await runtime.decide(asked.id, approve=True, by="kim")
    second = await runtime.decide(asked.id, approve=True, by="lee")
    assert (second.status, second.decided_at) == ("approved", second.votes[1].at)
    assert (await handle.result())["by"] == "kim, lee"


@pytest.mark.trio
async def test_one_no_outweighs_a_quorum(runtime: VirtualRuntime) -> None:
    """A refusal settles it whatever was said before."""
    handle, asked = await _asked(runtime, two_of_us)
    await runtime.decide(asked.id, approve=True, by="kim")
    assert (await runtime.decide(asked.id, approve=False, by="lee", reason="no")).status == "refused"
    found = await handle.result()
    assert (found["approved"], found["by"]) == (False, "lee")


@pytest.mark.trio
async def test_two_people_in_one_batch(runtime: VirtualRuntime) -> None:
    """Decisions that arrive together count both; of two that would settle it, the first does and the other is told."""
    handle, asked = await _asked(runtime, two_of_us)
    other, single = await _asked(runtime, checkout, [])
    lost: list[str] = []

    async def say(approval_id: str, by: str) -> None:
        try:
            await runtime.decide(approval_id, approve=True, by=by)
        except ApprovalClosed as error:
            lost.append(str(error))

    async with trio.open_nursery() as nursery:
        for approval_id in (asked.id, single.id):
            for by in ("kim", "lee"):
                nursery.start_soon(say, approval_id, by)
    assert {vote.by for vote in (await runtime.approval(asked.id)).votes} == {"kim", "lee"}
    assert (await handle.result())["approved"] is True
    winner = (await other.result()).partition(":")[0]
    assert len(lost) == 1 and f"decided by {winner} at 20" in lost[0]


@pytest.mark.trio
async def test_roles(runtime: VirtualRuntime) -> None:
    """Without one of the roles asked for it is 403, naming both sides; with one, or with all, it counts."""
    handle, asked = await _asked(runtime, checkout, ["ops", "finance"])
    for roles, told in (((), "no role"), (("dev",), "dev")):
        with pytest.raises(NotAllowed, match=f"for ops or finance; kim has {told}"):
            await runtime.decide(asked.id, approve=True, by="kim", roles=roles)
    assert (await runtime.approval(asked.id)).votes == []
    await runtime.decide(asked.id, approve=True, by="kim", roles=("dev", "finance"))
    assert (await handle.result()).startswith("kim")


@pytest.mark.trio
async def test_four_eyes_and_high_risk(runtime: VirtualRuntime) -> None:
    """Who started the run may not decide it where four eyes are asked for; at high risk a yes needs a reason too."""
    handle, asked = await _asked(runtime, careful)
    with pytest.raises(NotAllowed, match="somebody else's eyes"):
        await runtime.decide(asked.id, approve=True, by="embedded", reason="mine")
    with pytest.raises(InvalidInput, match="high risk needs a reason"):
        await runtime.decide(asked.id, approve=True, by="kim", reason="  ")
    await runtime.decide(asked.id, approve=True, by="kim", reason="backup is fresh")
    assert await handle.result() is True


# --- about what -------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_decision_is_about_what_was_shown(runtime: VirtualRuntime) -> None:
    """The hash covers all that is shown and who may decide: another hash is refused, the right one counts."""
    handle, asked = await _asked(runtime, checkout, [])
    _, other = await _asked(runtime, checkout, ["ops"])
    assert asked.payload_hash != other.payload_hash
    with pytest.raises(StaleApproval):
        await runtime.decide(asked.id, approve=True, by="kim", payload_hash=other.payload_hash)
    await runtime.decide(asked.id, approve=True, by="kim", payload_hash=asked.payload_hash)
    assert await handle.result() == "kim: None"


@pytest.mark.trio
async def test_a_form_is_checked_by_the_workflows_type(runtime: VirtualRuntime) -> None:
    """Data that does not fit is refused naming the path, and leaves no vote; what fits arrives as the type."""
    handle, asked = await _asked(runtime, with_form)
    assert "cents" in bytes(asked.form).decode()
    for wrong, told in (({"cents": "many"}, r"Expected `int`, got `str` - at `\$.data.cents`"), (None, "data")):
        with pytest.raises(InvalidInput, match=told):
            await runtime.decide(asked.id, approve=True, by="kim", data=wrong)
    assert (await runtime.approval(asked.id)).votes == []
    await runtime.decide(asked.id, approve=True, by="kim", data={"cents": 1250})
    assert await handle.result() == 1250


@pytest.mark.trio
async def test_a_no_needs_no_form(runtime: VirtualRuntime) -> None:
    """Who refuses need not fill anything in."""
    handle, asked = await _asked(runtime, with_form)
    await runtime.decide(asked.id, approve=False, by="kim", reason="no")
    assert await handle.result() == 0


class TestLimits:
    """What is sent with a decision is bounded."""

    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(payload_max_bytes=1024))

    @pytest.mark.trio
    async def test_a_large_or_deep_answer_is_refused(self, runtime: VirtualRuntime) -> None:
        """Data over the limit, data nested too deeply, and an endless reason are refused and leave no trace."""
        _, asked = await _asked(runtime, checkout, [])
        with pytest.raises(PayloadTooLarge):
            await runtime.decide(asked.id, approve=True, by="kim", data="x" * 2000)
        deep = m.DecideApproval(approval_id=asked.id, approve=True, data=Raw(b"[" * 400 + b"]" * 400))
        with pytest.raises(InvalidInput, match="nests deeper"):
            await runtime.ask(deep)
        with pytest.raises(InvalidInput, match="reason"):
            await runtime.decide(asked.id, approve=False, by="kim", reason="x" * 5000)
        assert (await runtime.approval(asked.id)).votes == []


# --- too late, or never ----------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_second_decision_is_told_of_the_first(runtime: VirtualRuntime) -> None:
    """409 says who decided what, when and why, also once the run is over."""
    handle, asked = await _asked(runtime, checkout, [])
    first = await runtime.decide(asked.id, approve=True, by="kim", reason="fine")
    await handle.result()
    with pytest.raises(ApprovalClosed) as late:
        await runtime.decide(asked.id, approve=False, by="lee", reason="no")
    for word in ("approved", "kim", first.votes[0].at, "fine"):
        assert word in str(late.value)


@pytest.mark.trio
async def test_an_unknown_approval(runtime: VirtualRuntime) -> None:
    """An id that is no approval's is 404, whatever it looks like."""
    handle, asked = await _asked(runtime, checkout, [])
    for wrong in ("0", "1", str(int(asked.id) + 1), "-1", "x", "9" * 30, "", "\u0663"):
        with pytest.raises(ApprovalNotFound):
            await runtime.decide(wrong, approve=True, by="kim")
    await runtime.decide(asked.id, approve=True, by="kim")
    await handle.result()


@pytest.mark.trio
@pytest.mark.parametrize("winner", ["people", "go", "late"])
async def test_what_loses_a_race_is_withdrawn(runtime: VirtualRuntime, winner: str) -> None:
    """An approval, a signal and a timer: the first wins; an approval that lost is withdrawn and cannot be decided."""
    handle, asked = await _asked(runtime, race)
    if winner == "people":
        await runtime.decide(asked.id, approve=True, by="kim")
    elif winner == "go":
        await runtime.signal(handle.id, "go", "!")
    assert (await handle.result()).split()[0] == winner
    status = (await runtime.approval(asked.id)).status
    assert status == ("approved" if winner == "people" else "withdrawn")
    if winner != "people":
        with pytest.raises(ApprovalClosed, match="withdrawn since"):
            await runtime.decide(asked.id, approve=True, by="kim")


@pytest.mark.trio
async def test_a_cancelled_run_withdraws_its_approvals(runtime: VirtualRuntime, world: World) -> None:
    """Nobody is asked any more for a run that was cancelled; what it did is undone."""
    handle, asked = await _asked(runtime, checkout, [])
    await runtime.cancel(handle.id, "changed our minds")
    await runtime.settled(handle.id, 10)
    assert (await handle.status(), (await runtime.approval(asked.id)).status) == ("cancelled", "withdrawn")
    assert world.names == ["charge", "refund"]


# --- no decision is lost ----------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_decision_wakes_a_parked_run(runtime: VirtualRuntime) -> None:
    """A run that is only a row takes a decision, and one vote of two survives being parked again."""
    handle, asked = await _asked(runtime, two_of_us)
    for by in ("kim", "lee"):
        await runtime.advance(20 * 60)
        assert handle.id not in runtime.actors.coordinator.engine.active.by_id
        await runtime.decide(asked.id, approve=True, by=by)
    assert (await handle.result())["by"] == "kim, lee"


@pytest.mark.trio
async def test_a_decision_while_paused_is_kept(runtime: VirtualRuntime, world: World) -> None:
    """It is recorded, and nothing happens by it before the run is resumed, kills included."""
    handle, asked = await _asked(runtime, checkout, [])
    await runtime.pause(handle.id)
    assert (await runtime.decide(asked.id, approve=True, by="kim")).status == "approved"
    with pytest.raises(ApprovalClosed):
        await runtime.decide(asked.id, approve=True, by="lee")
    await runtime.crash()
    await runtime.advance(HOUR)
    assert (await handle.status(), world.names) == ("paused", ["charge"])
    await runtime.resume(handle.id)
    assert await handle.result() == "kim: None"


@pytest.mark.trio
async def test_votes_while_paused_add_up(runtime: VirtualRuntime) -> None:
    """Two people decide a paused run's approval, a kill between them."""
    handle, asked = await _asked(runtime, two_of_us)
    await runtime.pause(handle.id)
    await runtime.decide(asked.id, approve=True, by="kim")
    await runtime.crash()
    assert (await runtime.decide(asked.id, approve=True, by="lee")).status == "approved"
    await runtime.resume(handle.id)
    assert (await handle.result())["by"] == "kim, lee"


@pytest.mark.trio
async def test_decisions_right_after_a_restart(runtime: VirtualRuntime) -> None:
    """Many at once, the instant that the runtime is up again: all wait for the same load, and each counts once."""
    handle, asked = await _asked(runtime, two_of_us)
    await runtime.crash()
    refused: list[str] = []

    async def say(by: str) -> None:
        try:
            await runtime.decide(asked.id, approve=True, by=by)
        except (AlreadyVoted, ApprovalClosed):
            refused.append(by)

    async with trio.open_nursery() as nursery:
        for by in ("kim", "kim", "lee", "lee", "sam"):
            nursery.start_soon(say, by)
    assert (await handle.result())["approved"] is True
    assert len(refused) == 3 and len((await runtime.approval(asked.id)).votes) == 2


@pytest.mark.trio
async def test_a_repeat_that_waits_for_the_same_load_gets_the_first_answer(runtime: VirtualRuntime) -> None:
    """A client whose connection broke sends its decision again with its key: one vote, one answer, at any moment."""
    handle, asked = await _asked(runtime, two_of_us)
    await runtime.crash()
    once = m.Origin(by="uid:7", request=m.RequestKey(principal="uid:7", key="k", digest="d"))
    command = m.DecideApproval(approval_id=asked.id, approve=True, payload_hash=asked.payload_hash, origin=once)
    replies: list[m.ApprovalReply] = []

    async def ask() -> None:
        replies.append(await runtime.ask(command))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    await runtime.crash()
    await ask()
    assert len({reply.seq for reply in replies}) == 1
    await runtime.decide(asked.id, approve=True, by="lee")
    await handle.result()
    await ask()
    assert replies[-1] == replies[0]


@pytest.mark.trio
async def test_killed_between_a_decision_and_its_effect(runtime: VirtualRuntime, world: World) -> None:
    """What was acknowledged is on disk: after a kill before anything came of it, the run goes on by it."""
    handle, asked = await _asked(runtime, checkout, [])
    world.script["ship"].append(HANG)
    await runtime.decide(asked.id, approve=True, by="kim", reason="yes")
    decided = next(e.seq for e in runtime.disk.entries if isinstance(e.record, r.ApprovalDecided))
    runtime.disk.entries = runtime.disk.entries[:decided]
    await runtime.crash(downtime=HOUR)
    world.script["ship"].clear()
    assert await handle.result() == "kim: yes"


@pytest.mark.trio
async def test_killed_between_a_vote_and_the_decision_it_makes(runtime: VirtualRuntime) -> None:
    """Both are in one commit, so a power cut takes both or none: votes never stand without what follows from them."""
    _, asked = await _asked(runtime, checkout, [])
    await runtime.decide(asked.id, approve=True, by="kim")
    kinds_found = [entry.record.kind for entry in runtime.disk.entries]
    assert kinds_found.index("approval_decided") == kinds_found.index("approval_voted") + 1


@pytest.mark.trio
async def test_a_blocked_run_is_decided_once_it_is_mended(runtime: VirtualRuntime, mended: list[bool]) -> None:
    """Code that is broken cannot take a decision: that is said, nothing is recorded, and the question stays."""
    handle, asked = await _asked(runtime, breaks)
    await runtime.signal(handle.id, "break")
    assert (await runtime.settled(handle.id, 5)).status == "blocked"
    with pytest.raises(Conflict, match=r"is blocked \(code_error\)") as refused:
        await runtime.decide(asked.id, approve=True, by="kim")
    assert refused.value.code == "conflict" and handle.id in refused.value.hint
    assert (await runtime.approval(asked.id)).votes == []
    mended.append(True)
    await runtime.retry(handle.id)
    await runtime.decide(asked.id, approve=True, by="kim")
    assert await handle.result() is True


@pytest.mark.trio
async def test_a_question_of_code_that_is_gone(runtime: VirtualRuntime) -> None:
    """While the workflow is not registered nobody can decide; when it is back, people can."""
    handle, asked = await _asked(runtime, checkout, [])
    await runtime.restart(apps=[App("other")])
    with pytest.raises(Conflict, match="unknown_workflow"):
        await runtime.decide(asked.id, approve=True, by="kim")
    await runtime.restart(apps=[app])
    await runtime.decide(asked.id, approve=True, by="kim")
    assert await handle.result() == "kim: None"


@pytest.mark.trio
async def test_the_order_of_a_set_is_no_other_question(runtime: VirtualRuntime) -> None:
    """After a restart a set encodes in another order: the question stands as it was shown. Another content does not."""
    ORDERS[:] = [["a", "b", "c"]]
    handle, asked = await _asked(runtime, shows_a_set)
    other, _ = await _asked(runtime, shows_a_set)
    ORDERS[:] = [["c", "a", "b"]]
    await runtime.crash()
    await runtime.decide(asked.id, approve=True, by="kim", payload_hash=asked.payload_hash)
    assert await handle.result() is True
    ORDERS[:] = [["a", "b", "d"]]
    await runtime.crash()
    with pytest.raises(Conflict, match="nondeterminism"):
        await runtime.decide((await runtime.asked(other.id)).id, approve=True, by="kim")


@pytest.mark.trio
async def test_several_questions(runtime: VirtualRuntime) -> None:
    """A run may ask one thing after another, or several side by side; each has an id and an answer of its own."""
    handle = await runtime.start(one_after_another)
    for number in range(3):
        asked = await runtime.asked(handle.id, number)
        assert asked.title == f"Question {number}?"
        await runtime.decide(asked.id, approve=number != 1, by="kim", reason="because")
    assert await handle.result() == [True, False, True]
    both = await runtime.start(side_by_side)
    left, right = await runtime.asked(both.id, 0), await runtime.asked(both.id, 1)
    await runtime.decide(right.id, approve=True, by="kim")
    await runtime.crash()
    await runtime.decide(left.id, approve=False, by="kim", reason="no")
    assert await both.result() == [False, True]


# --- everywhere -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.trio
@pytest.mark.parametrize("approve", [True, False])
async def test_killed_after_every_record(world: World, approve: bool) -> None:
    """Wherever it is killed, also twice, a run that people decided ends as they decided, and ships or refunds once."""
    report = await crash_everywhere(
        checkout, [], decisions=[SendDecision(approve=approve, by="kim", after=5.0)], twice=True, pairs_max=60
    )
    report.check()
    assert report.ending.status == ("completed" if approve else "failed")
    assert report.repeatable == (("charge (call 0)", "ship (call 2)") if approve else report.repeatable)


@pytest.mark.slow
@pytest.mark.trio
async def test_a_quorum_and_a_race_killed_after_every_record(world: World) -> None:
    """Votes of two people, and a race that a signal wins, come to the same end wherever it is killed."""
    votes = [SendDecision(by="kim", after=1.0), SendDecision(by="lee", after=2.0)]
    (await crash_everywhere(two_of_us, decisions=votes)).check()
    (await crash_everywhere(race, signals=[SendSignal("go", 1, after=2.0)])).check()
    (await crash_everywhere(side_by_side, decisions=[SendDecision(nth=1), SendDecision(nth=0, after=3.0)])).check()


@pytest.mark.trio
async def test_every_decision_is_in_the_history(runtime: VirtualRuntime) -> None:
    """Who said what is in the run's records, in order, and in the approval: both tell the same."""
    handle, asked = await _asked(runtime, two_of_us)
    await runtime.decide(asked.id, approve=True, by="kim", reason="one")
    await runtime.decide(asked.id, approve=True, by="lee", reason="two")
    await handle.result()
    votes = [one for one in await records(runtime, handle.id) if isinstance(one, r.ApprovalVoted)]
    shown = (await runtime.approval(asked.id)).votes
    assert [(v.by, v.reason, v.approve) for v in votes] == [(v.by, v.reason, v.approve) for v in shown]
    order = [kind for kind in await kinds(runtime, handle.id) if kind.startswith("approval")]
    assert order == ["approval_requested", "approval_voted", "approval_voted", "approval_decided"]


@pytest.mark.trio
async def test_lists(runtime: VirtualRuntime) -> None:
    """Approvals are listed newest first, by status and by run, in pages; the count of open ones is a figure."""
    handles = [await runtime.start(checkout, []) for _ in range(5)]
    asked = [await runtime.asked(handle.id) for handle in handles]
    await runtime.decide(asked[0].id, approve=True, by="kim")
    first = await runtime.approvals(status="open", limit=3)
    rest = await runtime.approvals(status="open", limit=3, cursor=first.next)
    assert [one.id for one in [*first.items, *rest.items]] == [one.id for one in reversed(asked[1:])]
    assert (first.total, rest.next, first.seq) == (4, None, runtime.feed.seq)
    assert [one.id for one in (await runtime.approvals(run_id=handles[2].id)).items] == [asked[2].id]
    assert (await runtime.approvals(run_id="unknown")).items == []
    assert runtime.statistics().approvals_open == 4
