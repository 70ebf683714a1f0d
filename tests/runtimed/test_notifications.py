"""Telling people: signed messages with durable retries, one for each event, none about itself, none forgotten."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import runtimed
from actors import messages as m
from runtimed import App, Context, Retry, builtin, outgoing
from runtimed.notifier import NOTIFICATION, notifications_of
from runtimed.opening import open_runtime
from runtimed.runtime import Runtime
from runtimed.secret_store import SecretStore
from runtimed.settings import ConfigError, Journal, Notification, Settings
from tests.runtimed.receiver import HANG_UP, STALL, Receiver, receiving
from tests.runtimed.webhooks.signing import STANDARD_SECRET
from wal.records import ErrorData

pytestmark = pytest.mark.slow  # each starts a runtime on disk and a receiver

app = App("told")


class Refused(runtimed.Failure):
    """What fails a run."""


@app.workflow
async def asks(ctx: Context, title: str) -> bool:
    """Ask people."""
    return bool((await ctx.approval(title, detail={"card": "4242"}, roles=["ops"], risk="high")).approved)


@app.workflow
async def fails(ctx: Context) -> None:
    """Fail."""
    raise Refused("no stock")


@app.workflow
async def blocks(ctx: Context) -> None:
    """Meet a defect."""
    raise ValueError("typo")


@app.workflow
async def tells(ctx: Context, target: str) -> int:
    """Send a message of its own."""
    status: int = await ctx.step(runtimed.notify, target, "order.stuck", {"id": "A-1"})
    return status


@app.connector(key="id", deliver="records", every=86_400.0)
async def idle(poll: runtimed.Poll[int]) -> AsyncIterator[runtimed.Page]:
    """Has nothing."""
    yield runtimed.Page()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy with its twelve attempts, some milliseconds apart."""
    patient = builtin.notify.retry
    assert (patient.max_attempts, patient.max_interval) == (12, 3_600.0)
    quick = Retry(
        max_attempts=patient.max_attempts, initial_interval=0.001, backoff_coefficient=1.0, jitter=0.0,
        non_retryable=patient.non_retryable,
    )  # fmt: skip
    monkeypatch.setattr(builtin.notify, "retry", quick)


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Goes as the real one does, and can be set ahead."""
    return trio.testing.MockClock(rate=1.0)


@asynccontextmanager
async def opened(folder: Path, receiver: Receiver | None, **fields: Any) -> AsyncIterator[Runtime]:
    """A runtime on disk that tells `ops` of what happens."""
    url = receiver.url if receiver is not None else "http://127.0.0.1:9/hook"
    notifications = {"ops": Notification(url=url, secret="secret:ops_hook", **fields)}
    settings = Settings(journal=Journal(ballast_bytes=0), notifications=notifications)
    SecretStore(folder, environ={}).set("ops_hook", STANDARD_SECRET)
    async with open_runtime(app, folder, settings=settings, writer="inline") as rt:
        yield rt


async def ended(rt: Runtime, run_id: str) -> Any:
    """The run once it has ended."""
    with trio.fail_after(20):
        return await rt.settled(run_id, None)


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_message_is_signed_and_named(short_dir: Path) -> None:
    """The receiver verifies it with the library; its id is the step's idempotency key, its body as recommended."""
    async with receiving(STANDARD_SECRET) as receiver, opened(short_dir, receiver, events=()) as rt:
        handle = await rt.start(tells, "ops", id="r1")
        assert await handle.result(timeout=20) == 204
    (message,) = receiver.messages
    assert (message["type"], message["data"]) == ("order.stuck", {"id": "A-1"})
    assert message["timestamp"].endswith("Z")
    assert receiver.headers[0]["webhook-id"] == "r1/0/0/runtimed.notify"


@pytest.mark.trio
async def test_it_is_tried_again_under_the_same_id(short_dir: Path, clock: trio.testing.MockClock) -> None:
    """Errors, "later", a hung-up connection and one that never answers are tried again, until it is taken; all attempts
    have one id, so a receiver can tell."""
    answers = (500, 503, 429, 408, HANG_UP, STALL, 200)
    async with receiving(STANDARD_SECRET, *answers) as receiver, opened(short_dir, receiver, events=()) as rt:
        run = await rt.start(tells, "ops")
        with trio.fail_after(30):
            await receiver.stalls.wait()
            await trio.testing.wait_all_tasks_blocked()  # the sender waits for its answer
        clock.jump(outgoing.ANSWER_TIMEOUT_S)
        assert await run.result(timeout=60) == 200
    assert len(receiver.messages) == len(answers)
    assert len({each["webhook-id"] for each in receiver.headers}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301])
@pytest.mark.trio
async def test_a_refusal_is_final(short_dir: Path, status: int) -> None:
    """A 4xx, 410 above all, says that this message will never be taken; a redirect is none of ours to follow. One try,
    and the run fails."""
    async with receiving(STANDARD_SECRET, status) as receiver, opened(short_dir, receiver, events=()) as rt:
        found = await ended(rt, (await rt.start(tells, "ops")).id)
    assert found.status == "failed"
    assert f"answered {status}" in found.error.message
    assert len(receiver.messages) == 1


@pytest.mark.trio
async def test_an_absent_receiver_is_given_up_in_the_end(short_dir: Path) -> None:
    """After its last attempt the step fails; its message names the host and not the address, which may hold a token."""
    async with opened(short_dir, None, events=()) as rt:
        found = await ended(rt, (await rt.start(tells, "ops")).id)
        history = await rt.history(found.id)
    assert found.status == "failed"
    assert "127.0.0.1" in found.error.message
    assert "/hook" not in found.error.message
    failures = [each for each in history.items if each.kind == "step_failed"]
    assert len(failures) == 12


@pytest.mark.trio
async def test_an_unknown_target_is_refused(short_dir: Path) -> None:
    """Nothing is configured under that name: no attempt helps."""
    async with opened(short_dir, None, events=()) as rt:
        found = await ended(rt, (await rt.start(tells, "nobody")).id)
    assert "notifications.nobody" in found.error.message


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_each_event_is_told_once(short_dir: Path) -> None:
    """An approval, a failure and a block each make one message, which says whose and what and never the payload."""
    async with receiving(STANDARD_SECRET) as receiver, opened(short_dir, receiver) as rt:
        await rt.start(asks, "Ship it?", id="a")
        await rt.start(fails, id="f")
        await rt.start(blocks, id="b")
        await receiver.until(3)
        told = {each["type"]: each["data"] for each in receiver.messages}
        page = await rt.approvals(run_id="a")
    assert told["approval_requested"]["approval_id"] == page.items[0].id
    assert told["approval_requested"]["title"] == "Ship it?"
    assert told["approval_requested"]["risk"] == "high"
    assert (told["run_failed"]["run_id"], told["run_failed"]["workflow"]) == ("f", "fails")
    assert told["run_failed"]["error"]["message"] == "no stock"
    assert (told["run_blocked"]["run_id"], told["run_blocked"]["code"]) == ("b", "code_error")
    assert "4242" not in json.dumps(receiver.messages)
    assert len(receiver.messages) == 3


@pytest.mark.trio
async def test_only_what_is_wanted_is_told(short_dir: Path) -> None:
    """`events` chooses."""
    async with receiving(STANDARD_SECRET) as receiver, opened(short_dir, receiver, events=("run_failed",)) as rt:
        await rt.start(asks, "Ship it?")
        await rt.start(blocks)
        await rt.start(fails, id="f")
        await receiver.until(1)
        await rt.start(fails, id="g")
        await receiver.until(2)
    assert [each["type"] for each in receiver.messages] == ["run_failed", "run_failed"]


@pytest.mark.trio
async def test_a_connector_in_quarantine_is_told(short_dir: Path) -> None:
    """It stands still until a person acts: they are told which, and why."""
    async with receiving(STANDARD_SECRET) as receiver, opened(short_dir, receiver) as rt:
        error = ErrorData("ZeroDivisionError", "division by zero")
        await rt.ask(m.QuarantineConnector(name="idle", error=error, crashes=5))
        await receiver.until(1)
    (message,) = receiver.messages
    assert message["type"] == "connector_quarantined"
    assert (message["data"]["connector"], message["data"]["crashes"]) == ("idle", 5)
    assert message["data"]["error"]["message"] == "division by zero"


@pytest.mark.trio
async def test_the_actors_crash_forgets_nothing(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect in the middle of its work restarts it alone: what it had not told of yet is told, once."""
    async with receiving(STANDARD_SECRET) as receiver, opened(short_dir, receiver) as rt:
        notifier = rt.actors.notifiers["ops"]
        real, crashes = notifier._take, 0

        async def take(*given: Any) -> None:
            nonlocal crashes
            crashes += 1
            if crashes == 1:
                raise ValueError("before it was taken")
            await real(*given)
            if crashes == 2:
                raise ValueError("after it was taken")

        monkeypatch.setattr(notifier, "_take", take)
        await rt.start(fails, id="one")
        await receiver.until(1)
        await rt.start(fails, id="two")
        await receiver.until(2)
        restarts = {actor.path: actor.restarts for actor in rt.tree()}
    assert [each["data"]["run_id"] for each in receiver.messages] == ["one", "two"]
    assert restarts["root/notifications/ops"] == 2
    assert restarts["root/engine/coordinator"] == 0


@pytest.mark.trio
async def test_telling_can_be_held_and_let_go(short_dir: Path) -> None:
    """`notify:NAME` is paused and resumed as any connector; what happened meanwhile is told then."""
    async with receiving(STANDARD_SECRET) as receiver, opened(short_dir, receiver) as rt:
        await rt.ask(m.PauseConnector(name="notify:ops"))
        with pytest.raises(runtimed.RunFailed):
            await (await rt.start(fails, id="one")).result(timeout=20)
        assert receiver.messages == []
        await rt.ask(m.ResumeConnector(name="notify:ops"))
        await receiver.until(1)
    assert [each["data"]["run_id"] for each in receiver.messages] == ["one"]


@pytest.mark.trio
async def test_nobody_is_told_that_telling_failed(short_dir: Path) -> None:
    """The run that could not tell fails, and that makes no message: no loop."""
    async with receiving(STANDARD_SECRET, 410, 200) as receiver, opened(short_dir, receiver) as rt:
        await rt.start(fails, id="f")
        await receiver.until(1, taken=False)
        await rt.start(fails, id="g")
        await receiver.until(1)
        page = await rt.runs(workflow=NOTIFICATION)
    assert [each["data"]["run_id"] for each in receiver.messages] == ["f", "g"]
    assert len(page.items) == 2


@pytest.mark.trio
async def test_what_happened_while_we_were_down_is_told_once(short_dir: Path) -> None:
    """An event that was recorded and not told is told by the next life, under the one id that it has; what was told
    before is not told again. A POST whose answer the stop cut off is repeated under its id."""
    async with receiving(STANDARD_SECRET) as receiver:
        async with opened(short_dir, receiver) as rt:
            await rt.start(fails, id="told")
            await receiver.until(1)
            for name in ("one", "two"):
                handle = await rt.start(fails, id=name)
                with pytest.raises(runtimed.RunFailed):
                    await handle.result(timeout=20)
        async with opened(short_dir, receiver) as rt:
            await receiver.until_told({"told", "one", "two"})
            await rt.start(fails, id="after")
            await receiver.until_told({"told", "one", "two", "after"})
    assert [each["data"]["run_id"] for each in receiver.messages].count("told") == 1


@pytest.mark.trio
async def test_nothing_is_recorded_where_nothing_happened(short_dir: Path) -> None:
    """Beside its first place the notifier leaves no record while runs come and go that nobody need be told of: its own
    record would wake it, and so on for ever."""
    async with receiving(STANDARD_SECRET) as receiver, opened(short_dir, receiver, events=("run_failed",)) as rt:
        for n in range(20):
            await rt.start(blocks, id=f"b{n}")
        notifier = rt.actors.notifiers["ops"]
        with trio.fail_after(20):
            while notifier.seq < rt.feed.seq:  # noqa: ASYNC110 - that it looked is no event to anybody
                await trio.sleep(0.05)
        kinds = [each.kind for each in await rt.read(lambda reader: reader.events(0))]
        row = await rt.read(lambda reader: reader.connector("notify:ops"))
    assert kinds.count("cursor_advanced") == 1
    assert row.records == 0


@pytest.mark.trio
async def test_a_missing_secret_shows_in_health(short_dir: Path) -> None:
    """Health says which secret is missing, and no more once it is set."""
    settings = Settings(
        journal=Journal(ballast_bytes=0),
        notifications={"ops": Notification(url="http://127.0.0.1:9/", secret="secret:gone")},
    )
    async with open_runtime(app, short_dir, settings=settings, writer="inline") as rt:
        assert "there is no secret 'gone'" in rt.health().reasons
        await rt.set_secret("gone", STANDARD_SECRET)
        assert rt.health().reasons == []


@pytest.mark.parametrize(("name", "secret"), [("a b", "secret:x"), ("ops", "whsec_canary"), ("ops", "secret:a b")])
def test_a_mistake_ends_the_start(name: str, secret: str) -> None:
    """A wrong name or a secret in the configuration itself is a ConfigError that does not quote it."""
    settings = Settings(notifications={name: Notification(url="http://x", secret=secret)})
    with pytest.raises(ConfigError, match="notifications") as caught:
        notifications_of(settings)
    assert "canary" not in str(caught.value)
