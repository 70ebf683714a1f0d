"""Every call that changes something leaves who, from where and why, in the commit of what it changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import runtimed
from runtimed import App, Context, open_runtime
from runtimed.http.access import Level
from runtimed.http.app import ROUTES
from runtimed.runtime import Runtime
from runtimed.settings import Journal, Settings
from tests.runtimed.http.conftest import PATIENCE_S, Answer, Serving, served
from wal import records as r

WHY = "because of M\u00fcller"
SAID = {"Runtimed-Reason": "because%20of%20M%C3%BCller"}

SETTINGS = Settings(journal=Journal(ballast_bytes=0))
app = App("audited")


@app.step(delivery="at_most_once")
async def call_once() -> None:
    """Never end: what became of it, nobody knows once its daemon is gone."""
    await trio.sleep_forever()


@app.schedule(every=86_400.0)
@app.workflow
async def patient(ctx: Context) -> None:
    """Wait for a signal."""
    await ctx.signal("go")


@app.workflow
async def broken(ctx: Context) -> None:
    """Meet a defect."""
    raise ValueError("a typo")


@app.workflow
async def once(ctx: Context) -> None:
    """Make a call that may be made once only."""
    await ctx.step(call_once)


@app.workflow
async def asking(ctx: Context) -> None:
    """Ask people."""
    await ctx.approval("Go?")


@app.connector(every=3_600.0, key="id", deliver="records")
async def people(poll: runtimed.Poll[int]) -> AsyncIterator[runtimed.Page]:
    """Bring nothing."""
    yield runtimed.Page(records=[], cursor=1)


class Play:
    """A daemon's insides behind its edge, and what each route needs before it can be called."""

    def __init__(self, http: Serving, runtime: Runtime) -> None:
        self.http, self.runtime = http, runtime

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One call with a reason in its header. It must succeed."""
        answer = await self.http.ask(method, path, body, headers=list((SAID | headers).items()))
        assert answer.status < 300, answer
        return answer

    async def run(self, workflow: str, status: str) -> str:
        """A run that stands so."""
        handle = await self.runtime.start(workflow)
        with trio.fail_after(PATIENCE_S):
            while (found := await self.runtime.run(handle.id)).status != status:
                await self.runtime.feed.wait_beyond(found.seq)
        return handle.id

    async def in_doubt(self) -> str:
        """A run whose call may have happened or not."""
        run_id = await self.run("once", "running")
        await self.runtime.restart_actor("root/engine/coordinator")
        with trio.fail_after(PATIENCE_S):
            while (found := await self.runtime.run(run_id)).status != "blocked":
                await self.runtime.feed.wait_beyond(found.seq)
        return run_id

    async def asked(self) -> Any:
        """An approval that is open."""
        run_id = await self.run("asking", "waiting")
        return (await self.runtime.approvals(run_id=run_id)).items[0]

    async def audit(self) -> list[Any]:
        """All of the audit."""
        page = await self.runtime.read(lambda reader: reader.audit_page(limit=500))
        return list(page.items)


@pytest.fixture
def play(short_dir: Path) -> Any:
    """`async with play() as p`: the real runtime, on disk, behind the real edge."""

    @asynccontextmanager
    async def playing() -> AsyncIterator[Play]:
        async with open_runtime(app, short_dir / "data", settings=SETTINGS, writer="inline") as runtime:
            async with served(runtime, short_dir) as http:
                yield Play(http, runtime)

    return playing


async def _start(p: Play) -> tuple[str, str]:
    return "run.start", str((await p.call("POST", "/v1/runs", {"workflow": "patient"})).json()["id"])


async def _decide(p: Play) -> tuple[str, str]:
    asked = await p.asked()
    await p.call("POST", f"/v1/approvals/{asked.id}/decide", {"approve": True, "payload_hash": asked.payload_hash})
    return "approval.approve", str(asked.id)


async def _open(p: Play) -> tuple[str, str]:
    return "session.open", str((await p.call("POST", "/v1/sessions", {"ttl": 60})).json()["id"])


async def _put(p: Play) -> tuple[str, str]:
    await p.call("PUT", "/v1/state/global/limit", {"value": 5})
    return "state.put", "global/limit"


async def _delete(p: Play) -> tuple[str, str]:
    await _put(p)
    await p.call("DELETE", "/v1/state/global/limit")
    return "state.delete", "global/limit"


async def _restart(p: Play) -> tuple[str, str]:
    await p.call("POST", "/v1/actors/root/sessions/restart", {})
    return "actor.restart", "root/sessions"


async def _create_token(p: Play) -> tuple[str, str]:
    made = (await p.call("POST", "/v1/tokens", {"name": "ci", "role": "viewer"})).json()
    return "token.create", str(made["id"])


async def _revoke_token(p: Play) -> tuple[str, str]:
    _, token_id = await _create_token(p)
    await p.call("POST", f"/v1/tokens/{token_id}/revoke", {})
    return "token.revoke", token_id


async def _set_secret(p: Play) -> tuple[str, str]:
    await p.call("PUT", "/v1/secrets/stripe", {"value": "sk_1"})
    return "secret.set", "stripe"


async def _rotate_secret(p: Play) -> tuple[str, str]:
    await _set_secret(p)
    await p.call("POST", "/v1/secrets/stripe/rotate", {"value": "sk_2"})
    return "secret.rotate", "stripe"


async def _delete_secret(p: Play) -> tuple[str, str]:
    await _set_secret(p)
    await p.call("DELETE", "/v1/secrets/stripe")
    return "secret.delete", "stripe"


async def _rotate_master(p: Play) -> tuple[str, str]:
    await _set_secret(p)
    await p.call("POST", "/v1/master-key/rotate", {})
    return "secret.rotate_master", "*"


def _to_run(verb: str, workflow: str, status: str, body: Any = None) -> Callable[[Play], Awaitable[tuple[str, str]]]:
    async def act(p: Play) -> tuple[str, str]:
        run_id = await p.in_doubt() if workflow == "once" else await p.run(workflow, status)
        if verb == "resume":
            await p.call("POST", f"/v1/runs/{run_id}/pause", {})
        await p.call("POST", f"/v1/runs/{run_id}/{verb}", body or {})
        return f"run.{verb}", run_id

    return act


def _to_session(verb: str) -> Callable[[Play], Awaitable[tuple[str, str]]]:
    async def act(p: Play) -> tuple[str, str]:
        _, session_id = await _open(p)
        await p.call("POST", f"/v1/sessions/{session_id}/{verb}", {})
        return f"session.{verb}", session_id

    return act


def _to_connector(verb: str) -> Callable[[Play], Awaitable[tuple[str, str]]]:
    async def act(p: Play) -> tuple[str, str]:
        if verb == "resume":
            await p.call("POST", "/v1/connectors/people/pause", {})
        await p.call("POST", f"/v1/connectors/people/{verb}", {"cursor": None} if verb == "reset" else {})
        return f"connector.{verb}", "people"

    return act


def _to_schedule(verb: str) -> Callable[[Play], Awaitable[tuple[str, str]]]:
    async def act(p: Play) -> tuple[str, str]:
        if verb == "resume":
            await p.call("POST", "/v1/schedules/patient/pause", {})
        answer = await p.call("POST", f"/v1/schedules/patient/{verb}", {})
        if verb == "trigger":
            return "run.start", str(answer.json()["id"])
        return f"schedule.{verb}", "patient"

    return act


async def _fork(p: Play) -> tuple[str, str]:
    _, run_id = await _to_run("pause", "patient", "waiting")(p)
    first = (await p.call("GET", f"/v1/runs/{run_id}/history")).json()["items"][0]["seq"]
    answer = await p.call("POST", f"/v1/runs/{run_id}/fork", {"at_seq": first})
    return "run.fork", f"{run_id} as {answer.json()['id']}"


async def _back_up(p: Play) -> tuple[str, str]:
    target = str(p.http.path.parent / "copy.db")
    await p.call("POST", "/v1/journal/backup", {"path": target})
    return "journal.backup", target


async def _forget(p: Play) -> tuple[str, str]:
    await p.call("POST", "/v1/journal/gc", {"older_than": 3_600})
    return "journal.gc", "older than 3600 s"


CALLS: dict[tuple[str, str], Callable[[Play], Awaitable[tuple[str, str]]]] = {
    ("POST", "/v1/runs"): _start,
    ("POST", "/v1/runs/{id}/signal"): _to_run("signal", "patient", "waiting", {"name": "go"}),
    ("POST", "/v1/runs/{id}/cancel"): _to_run("cancel", "patient", "waiting"),
    ("POST", "/v1/runs/{id}/pause"): _to_run("pause", "patient", "waiting"),
    ("POST", "/v1/runs/{id}/resume"): _to_run("resume", "patient", "waiting"),
    ("POST", "/v1/runs/{id}/retry"): _to_run("retry", "broken", "blocked"),
    ("POST", "/v1/runs/{id}/resolve"): _to_run("resolve", "once", "running", {"call": "0", "happened": True}),
    ("POST", "/v1/runs/{id}/fork"): _fork,
    ("POST", "/v1/approvals/{id}/decide"): _decide,
    ("POST", "/v1/sessions"): _open,
    ("POST", "/v1/sessions/{id}/touch"): _to_session("touch"),
    ("POST", "/v1/sessions/{id}/close"): _to_session("close"),
    ("PUT", "/v1/state/{scope}/{key:path}"): _put,
    ("DELETE", "/v1/state/{scope}/{key:path}"): _delete,
    ("POST", "/v1/actors/{path:path}/restart"): _restart,
    ("POST", "/v1/tokens"): _create_token,
    ("POST", "/v1/tokens/{id}/revoke"): _revoke_token,
    ("POST", "/v1/connectors/{name}/pause"): _to_connector("pause"),
    ("POST", "/v1/connectors/{name}/resume"): _to_connector("resume"),
    ("POST", "/v1/connectors/{name}/reset"): _to_connector("reset"),
    ("POST", "/v1/connectors/{name}/poll"): _to_connector("poll"),
    ("POST", "/v1/schedules/{name}/pause"): _to_schedule("pause"),
    ("POST", "/v1/schedules/{name}/resume"): _to_schedule("resume"),
    ("POST", "/v1/schedules/{name}/trigger"): _to_schedule("trigger"),
    ("PUT", "/v1/secrets/{name}"): _set_secret,
    ("DELETE", "/v1/secrets/{name}"): _delete_secret,
    ("POST", "/v1/secrets/{name}/rotate"): _rotate_secret,
    ("POST", "/v1/master-key/rotate"): _rotate_master,
    ("POST", "/v1/journal/backup"): _back_up,
    ("POST", "/v1/journal/gc"): _forget,
}
"""For each route that changes something, a call of it; gives the action and the target that the audit must name."""

MUTATING = [
    (route.method, route.path)
    for route in ROUTES
    if route.method not in ("GET", "HEAD") and route.level is not Level.PUBLIC
]
"""A public one is a webhook: who sent it is what its own record says."""


@pytest.mark.trio
@pytest.mark.parametrize("route", MUTATING, ids=" ".join)
async def test_every_changing_route_leaves_who_and_why(play: Any, route: tuple[str, str]) -> None:
    """A call that changes something leaves a record of what, on what, by whom, from where, why, under which trace. A
    new route needs a call of it in `CALLS` here, and its command an action in `actors/audit.py`."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with play() as p:
        SAID["traceparent"] = f"00-{trace}-00f067aa0ba902b7-01"
        action, target = await CALLS[route](p)
        last = (await p.audit())[-1]
    assert (last.action, last.target, last.reason, last.trace_id) == (action, target, WHY, trace)
    assert last.by.startswith("uid:")
    assert last.via


@pytest.mark.trio
async def test_the_record_is_in_the_commit_of_what_it_tells(play: Any) -> None:
    """Change and audit are never apart: no cut of a batch comes between them, whatever else is under way."""
    async with play() as p:
        committed: list[list[Any]] = []
        link = p.runtime.actors.writer._link
        commit = link.commit

        async def noted(entries: list[Any]) -> None:
            committed.append([entry.record for entry in entries])
            await commit(entries)

        link.commit = noted
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(p.call, "PUT", f"/v1/state/global/k{number}", {"value": 1})
                nursery.start_soon(p.call, "POST", "/v1/sessions", {"id": f"s{number}"})
        link.commit = commit
    for records in committed:
        changed = [f"{each.scope}/{each.name}" for each in records if isinstance(each, r.StateWritten)]
        changed += [each.id for each in records if isinstance(each, r.SessionOpened)]
        assert sorted(changed) == sorted(each.target for each in records if isinstance(each, r.CallAudited))
    assert sum(isinstance(each, r.CallAudited) for records in committed for each in records) == 40


@pytest.mark.trio
async def test_a_batch_is_one_record(play: Any) -> None:
    """However many runs a request starts, the audit tells of one call; a repeat that starts nothing is none."""
    async with play() as p:
        starts = [{"workflow": "patient", "id": f"r{number}"} for number in range(3)]
        await p.call("POST", "/v1/runs", starts)
        await p.call("POST", "/v1/runs", starts)
        await p.call("POST", "/v1/runs", {"workflow": "patient", "id": "r0"})
        assert [(one.action, one.target) for one in await p.audit()] == [("run.start", "r0 and 2 more")]


@pytest.mark.trio
async def test_a_refusal_and_a_repeat_leave_nothing(play: Any) -> None:
    """What was refused changed nothing; the repeat of an idempotency key has its first answer and no second record."""
    async with play() as p:
        assert (await p.http.ask("POST", "/v1/runs/nobody/cancel", {})).status == 404
        assert (await p.http.ask("POST", "/v1/actors/root/nobody/restart", {})).status == 404
        assert await p.audit() == []
        for _ in range(2):
            await p.call("POST", "/v1/sessions", {}, **{"Idempotency-Key": "k"})
        assert len(await p.audit()) == 1


@pytest.mark.trio
async def test_embedded_calls_are_the_programs_own(play: Any) -> None:
    """What the program does that holds the runtime is not audited."""
    async with play() as p:
        handle = await p.runtime.start("patient")
        await p.runtime.cancel(handle.id)
        assert await p.audit() == []


@pytest.mark.trio
@pytest.mark.parametrize(
    ("sent", "status"), [("%ff", 400), ("a" * 2_001, 400), ("", 201), ("a" * 2_000, 201), ("%0A%1b%00", 201)]
)
async def test_reasons_are_text_within_a_limit(play: Any, sent: str, status: int) -> None:
    """A reason is at most 2,000 characters of UTF-8; control characters are escaped where it is shown."""
    async with play() as p:
        answer = await p.http.ask("PUT", "/v1/state/global/k", {"value": 1}, headers=[("Runtimed-Reason", sent)])
        assert answer.status == status


@pytest.mark.trio
async def test_the_audit_is_read_in_pages(play: Any) -> None:
    """`GET /v1/audit` gives it oldest first, page by page; the last page says that there is no next."""
    async with play() as p:
        for number in range(5):
            await p.call("PUT", f"/v1/state/global/k{number}", {"value": 1})
        targets: list[str] = []
        after: str | None = "0"
        while after is not None:
            page = (await p.http.ask("GET", f"/v1/audit?after={after}&limit=2")).json()
            targets += [one["target"] for one in page["items"]]
            after = page["next"]
        assert targets == [f"global/k{number}" for number in range(5)]
        assert msgspec.json.encode(page["items"][-1]["reason"]).decode() == f'"{WHY}"'


KEPT = {
    ("POST", "/v1/journal/backup"): "/v1/journal/backup",
    ("POST", "/v1/journal/gc"): "/v1/journal/gc",
    ("POST", "/v1/connectors/{name}/poll"): "/v1/connectors/people/poll",
    ("POST", "/v1/actors/{path:path}/restart"): "/v1/actors/root/sessions/restart",
}
"""Routes that no command stands for, and a call of each."""


@pytest.mark.trio
@pytest.mark.parametrize("path", KEPT.values())
async def test_a_call_that_no_command_stands_for_is_done_once_too(play: Any, path: str) -> None:
    """The repeat of an `Idempotency-Key`, at the same time or later, has the first answer and no second effect; for
    another request the key is refused, and a refused call leaves neither a record nor an answer."""
    body = {"older_than": 3_600} if path.endswith("gc") else {}
    async with play() as p:
        key = [("Idempotency-Key", "k")]
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await p.http.ask("POST", path, body, headers=key))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        await ask()
        assert answers[0].status < 300, answers[0]
        assert [(one.status, one.body) for one in answers] == [(answers[0].status, answers[0].body)] * 4
        assert len(await p.audit()) == 1
        other = await p.http.ask("POST", path, body | {"reason": "other"}, headers=key)
        assert (other.status, other.json()["code"]) == (422, "idempotency_key_reused")
        assert len(await p.audit()) == 1


POLLS = {"cursor_advanced", "records_stored"}
"""What the connectors of this app do by themselves, at whatever instant."""


@pytest.mark.trio
@pytest.mark.parametrize(
    ("path", "body"), [("/v1/journal/backup", {"path": "relative.db"}), ("/v1/journal/gc", {})], ids=["backup", "gc"]
)
async def test_a_refused_care_for_the_data_leaves_nothing(play: Any, path: str, body: Any) -> None:
    """What the data's care refuses is no call in the audit, and its key may stand for it again."""
    async with play() as p:
        before = p.runtime.feed.seq
        for _ in range(2):
            assert (await p.http.ask("POST", path, body, headers=[("Idempotency-Key", "k")])).status == 400
        made = await p.runtime.read(lambda reader: [event.kind for event in reader.events(before, 50)])
        assert (await p.audit(), set(made) - POLLS) == ([], set())
