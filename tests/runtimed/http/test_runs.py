"""Runs over HTTP: what is asked of the runtime, and what comes back for each of its replies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw
from trio.testing import wait_all_tasks_blocked

from actors.errors import Draining, MailboxFull, RunNotFound
from actors.messages import (
    Accepted,
    CancelRun,
    PauseRun,
    ProblemData,
    ResolveCall,
    ResumeRun,
    RetryRun,
    SignalRun,
    StartedRun,
    StartedRuns,
    StartRuns,
)
from runtimed.http import runs
from wal.records import ErrorData, OutputEmitted, RunBlocked, RunCancelled, RunCompleted, RunFailed, RunStarted
from wal.views import RunView


def started(id: str, **more: Any) -> RunStarted:
    return RunStarted(id=id, workflow=more.pop("workflow", "checkout"), input=Raw(b'{"cents":5}'), **more)


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_start_is_one_command(serve: Any, rt: Any) -> None:
    """A start becomes one command with everything that was said; 201 has the run, `created`, and its Location."""
    wanted = {
        "workflow": "checkout",
        "input": {"id": "o-1", "cents": 1200},
        "id": "order-1",
        "session_id": "s",
        "tenant": "acme",
        "classification": "client",
        "queue": "q",
        "priority": -3,
        "start_at": "2025-01-01T01:00:00.000001+01:00",
        "attributes": {"shop": "x"},
    }
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", wanted)
    assert (answer.status, answer.headers["location"]) == (201, "/v1/runs/order-1")
    run = answer.json()
    assert (run["id"], run["status"], run["created"]) == ("order-1", "running", True)
    assert set(run) == {*RunView.__struct_fields__, "created"}
    (item,) = rt.asked[0].items
    assert bytes(item.input) == b'{"id":"o-1","cents":1200}'
    assert item.start_at == 1_735_689_600_000_001
    said = (item.id, item.session_id, item.tenant, item.classification, item.queue, item.priority, item.attributes)
    assert said == ("order-1", "s", "acme", "client", "q", -3, {"shop": "x"})


@pytest.mark.trio
async def test_existing_run_is_200(serve: Any, rt: Any) -> None:
    """A start that met the same run is 200 with `created` false."""
    rt.replies[StartRuns] = lambda command: StartedRuns(items=[StartedRun(run=RunView("a", "w", "waiting"))])
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", {"workflow": "w", "id": "a"})
        assert (answer.status, answer.json()["created"]) == (200, False)


@pytest.mark.trio
async def test_refused_start_is_its_problem(serve: Any, rt: Any) -> None:
    """A start that the runtime refuses is a problem with the refusal's status."""
    problem = ProblemData(status=404, code="unknown_workflow", detail="no workflow 'w'", hint="look")
    rt.replies[StartRuns] = lambda command: StartedRuns(items=[StartedRun(problem=problem)])
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", {"workflow": "w"})
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    told = answer.json()
    assert (told["code"], told["detail"], told["hint"]) == ("unknown_workflow", "no workflow 'w'", "look")
    assert told["title"] == "No workflow of this name is registered."


@pytest.mark.trio
@pytest.mark.parametrize("error", [MailboxFull(), Draining()])
async def test_overload_is_503_with_retry_after(serve: Any, rt: Any, error: Exception) -> None:
    """A full mailbox and a drain are 503 with Retry-After."""
    rt.replies[StartRuns] = lambda command: error
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", {"workflow": "w"})
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.trio
async def test_batch_is_one_command_answered_in_order(serve: Any, rt: Any) -> None:
    """An array is one command; what is wrong with an item is that item's problem, and the others go on."""
    body = (
        b' [{"workflow":"a"}, {"workflow":"b","colour":1}, {"workflow":"c","id":"c-1","input":[1, 2]},'
        b' 7, {"workflow":"refused"}]'
    )

    def reply(command: StartRuns) -> StartedRuns:
        refused = ProblemData(status=409, code="id_conflict", detail="another")
        return StartedRuns(
            items=[
                StartedRun(problem=refused)
                if item.workflow == "refused"
                else StartedRun(run=RunView(item.id or "made", item.workflow, "running"), created=item.id is None)
                for item in command.items
            ]
        )

    rt.replies[StartRuns] = reply
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", raw=body)
    assert answer.status == 200
    items = answer.json()["items"]
    assert [item["status"] for item in items] == [201, 400, 200, 400, 409]
    assert [item["run"]["workflow"] for item in items if "run" in item] == ["a", "c"]
    assert items[1]["problem"]["detail"] == "Object contains unknown field `colour` - at `$[1]`"
    assert items[3]["problem"]["code"] == "invalid_input"
    assert (items[4]["problem"]["code"], items[4]["problem"]["status"]) == ("id_conflict", 409)
    (command,) = rt.asked
    assert [bytes(item.input) for item in command.items] == [b"null", b"[1, 2]", b"null"]


@pytest.mark.trio
async def test_batch_is_bounded(serve: Any, rt: Any) -> None:
    """A batch of the limit is taken, one more is 413, and nothing of it is started; an empty one starts nothing."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", [{"workflow": "w"}] * 1000)
        assert len(answer.json()["items"]) == 1000
        answer = await http.ask("POST", "/v1/runs", [{"workflow": "w"}] * 1001)
        assert (answer.status, answer.json()["code"]) == (413, "batch_too_large")
        assert (await http.ask("POST", "/v1/runs", [])).json() == {"items": []}
        assert (await http.ask("POST", "/v1/runs", [{}])).json()["items"][0]["status"] == 400


@pytest.mark.trio
async def test_batch_is_bounded_in_bytes(serve: Any, rt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one commit takes is 413 however large a body may be, and nothing of it is started."""
    monkeypatch.setattr(runs, "BATCH_BYTES_MAX", 1_000)
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", [{"workflow": "w", "input": "x" * 400}] * 3)
        assert (answer.status, answer.json()["code"]) == (413, "batch_too_large")
        assert "one commit takes 1000" in answer.json()["detail"]
        assert rt.asked == []
        assert (await http.ask("POST", "/v1/runs", {"workflow": "w", "input": "x" * 1_000})).status == 201
        assert len(rt.asked) == 1


@pytest.mark.trio
@pytest.mark.parametrize("body", [b'[{"workflow":"w"}', b'[{"workflow":"w"},]', b'[{"workflow":"w","input":"\xff"}]'])
async def test_broken_array_is_refused_whole(serve: Any, rt: Any, body: bytes) -> None:
    """An array that is not JSON is one 400, and none of it is started."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", raw=body)
        assert (answer.status, answer.json()["code"]) == (400, "invalid_json")
        assert rt.asked == []


@pytest.mark.trio
async def test_input_does_not_hold_the_body(serve: Any, rt: Any) -> None:
    """The input that goes to the runtime is its own bytes, not a window into the whole body."""
    async with serve() as http:
        await http.ask("POST", "/v1/runs", [{"workflow": "w", "input": "x" * 10}, {"workflow": "w"}])
        view = memoryview(rt.asked[0].items[0].input)
        assert len(view.obj) == len(view) == 12


# --- looking ----------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_list_is_filtered_and_paged(serve: Any, rt: Any) -> None:
    """A list has items, next and total, newest first; filters are applied, a cursor continues, a bad one is 400."""
    for at in range(5):
        fact = started(f"r-{at}", workflow="a" if at % 2 else "b", tenant="t", attributes={"shop": str(at)})
        rt.record(fact, run_key=at + 1)
    rt.record(RunCompleted(result=Raw(b"1")), run_key=1)
    async with serve() as http:

        async def ids(query: str) -> list[str]:
            return [item["id"] for item in (await http.ask("GET", f"/v1/runs?{query}")).json()["items"]]

        page = (await http.ask("GET", "/v1/runs?limit=2")).json()
        assert ([item["id"] for item in page["items"]], page["total"]) == (["r-4", "r-3"], 5)
        assert "input" not in page["items"][0]
        assert await ids(f"limit=2&cursor={page['next']}") == ["r-2", "r-1"]
        assert await ids("workflow=a") == ["r-3", "r-1"]
        assert await ids("status=completed") == ["r-0"]
        assert len(await ids("status=completed,running")) == len(await ids("status=completed&status=running")) == 5
        assert await ids("attr.shop=3") == ["r-3"]
        assert await ids("tenant=none") == []
        assert len(await ids("limit=1000")) == 5
        assert (await http.ask("GET", "/v1/runs?cursor=nonsense")).status == 400


@pytest.mark.trio
async def test_run_is_shown_whole(serve: Any, rt: Any) -> None:
    """A run has all fields of the contract; an unknown id is 404, an impossible one 400."""
    rt.record(started("r-1"), run_key=1)
    async with serve() as http:
        run = (await http.ask("GET", "/v1/runs/r-1")).json()
        assert (run["status"], run["input"], run["result"], run["error"]) == ("running", {"cents": 5}, None, None)
        fields = (
            "id workflow version status waiting_on waiting_until session_id tenant classification queue priority "
            "parent_id trace_id attributes created_at updated_at ended_at input result error seq"
        )
        assert set(run) == set(fields.split())
        for path in ("", "/history", "/output", "/result", "/result?wait=1"):
            answer = await http.ask("GET", f"/v1/runs/none{path}")
            assert (answer.status, answer.json()["code"]) == (404, "run_not_found"), path
            answer = await http.ask("GET", f"/v1/runs/a%20b{path}")
            assert (answer.status, answer.json()["code"]) == (400, "invalid_id"), path


@pytest.mark.trio
async def test_history_and_output_are_paged(serve: Any, rt: Any) -> None:
    """History has every record, output just what the run emitted; both continue after a seq."""
    rt.record(started("r-1"), *(OutputEmitted(f"{at}", Raw(b"%d" % at)) for at in range(4)), run_key=1)
    async with serve() as http:
        history = (await http.ask("GET", "/v1/runs/r-1/history?limit=2")).json()
        assert [record["kind"] for record in history["items"]] == ["run_started", "output_emitted"]
        rest = (await http.ask("GET", f"/v1/runs/r-1/history?after={history['next']}")).json()
        assert [record["seq"] for record in rest["items"]] == [3, 4, 5]
        assert set(rest["items"][0]) == {"seq", "at", "kind", "call", "name", "attempt", "data"}
        some = (await http.ask("GET", "/v1/runs/r-1/history?kind=run_started")).json()
        assert len(some["items"]) == 1
        output = (await http.ask("GET", "/v1/runs/r-1/output?limit=3")).json()
        assert [item["value"] for item in output["items"]] == [0, 1, 2]
        more = (await http.ask("GET", f"/v1/runs/r-1/output?after={output['items'][-1]['seq']}")).json()
        assert ([item["value"] for item in more["items"]], more["next"]) == ([3], None)


@pytest.mark.trio
async def test_result_is_the_result(serve: Any, rt: Any) -> None:
    """A completed run's result is the body of a 200; an open run is a 202 with the run as it stands."""
    rt.record(started("r-1"), run_key=1)
    async with serve() as http:
        answer = await http.ask("GET", "/v1/runs/r-1/result")
        assert (answer.status, answer.json()["status"]) == (202, "running")
        rt.record(RunCompleted(result=Raw(b'{"charge":"ch_1"}')), run_key=1)
        answer = await http.ask("GET", "/v1/runs/r-1/result")
        assert (answer.status, answer.body) == (200, b'{"charge":"ch_1"}')


@pytest.mark.trio
@pytest.mark.parametrize(
    ("fact", "status"),
    [
        (RunFailed(ErrorData("CardDeclined", "no money", "charge")), "failed"),
        (RunCancelled("enough"), "cancelled"),
        (RunBlocked("code_error", "a typo"), "blocked"),
    ],
)
async def test_run_without_a_result_is_409(serve: Any, rt: Any, fact: Any, status: str) -> None:
    """A run that ended without a result, or is blocked, is a 409 that says which and why."""
    rt.record(started("r-1"), fact, run_key=1)
    async with serve() as http:
        for wait in ("", "?wait=5"):
            answer = await http.ask("GET", f"/v1/runs/r-1/result{wait}")
            problem = answer.json()
            assert (answer.status, problem["code"]) == (409, f"run_{status}")
            assert (problem["run_id"], problem["run_status"]) == ("r-1", status)
            if status == "blocked":
                assert "runs retry" in problem["hint"]
            if status == "failed":
                assert problem["error"] == {"type": "CardDeclined", "message": "no money", "step": "charge"}
                assert "no money" in problem["detail"]


@pytest.mark.trio
async def test_result_waits_for_the_end(serve: Any, rt: Any, autojump_clock: Any) -> None:
    """`wait` holds the answer until the run ends, or for as long as was asked."""
    rt.record(started("r-1"), run_key=1)
    async with serve() as http:
        assert (await http.ask("GET", "/v1/runs/r-1/result?wait=2.5")).status == 202
        assert trio.current_time() == pytest.approx(2.5, abs=0.1)
        client = await http.client()
        await client.send(b"GET /v1/runs/r-1/result?wait=3600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await trio.sleep(200)
        rt.record(RunCompleted(result=Raw(b"7")), run_key=1)
        answer = await client.answer()
        assert (answer.status, answer.json()) == (200, 7)


@pytest.mark.trio
async def test_waiting_ends_with_its_client_and_with_the_drain(serve: Any, rt: Any) -> None:
    """A wait whose client left is given up at once; when the server drains, who waits gets the run as it stands."""
    rt.record(started("r-1"), run_key=1)
    wait = b"GET /v1/runs/r-1/result?wait=300 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with serve(drain_grace_s=600.0) as http:
        leaving, staying = await http.client(), await http.client()
        await leaving.send(wait)
        await staying.send(wait)
        await wait_all_tasks_blocked()
        await leaving.stream.aclose()
        await wait_all_tasks_blocked()
        assert http.server.statistics().open_local == 1
        http.server.drain()
        answer = await staying.answer()
        assert (answer.status, answer.json()["status"]) == (202, "running")


@pytest.mark.trio
@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "x"])
async def test_bad_wait_is_refused(serve: Any, wait: str) -> None:
    """A wait that is no number of seconds is 400."""
    async with serve() as http:
        answer = await http.ask("GET", f"/v1/runs/r-1/result?wait={wait}")
        assert answer.status == 400
        assert "`?wait`" in answer.json()["detail"]


# --- acting -----------------------------------------------------------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize(
    ("verb", "kind"), [("cancel", CancelRun), ("pause", PauseRun), ("resume", ResumeRun), ("retry", RetryRun)]
)
async def test_verb_is_one_command(serve: Any, rt: Any, verb: str, kind: type) -> None:
    """Cancel, pause, resume and retry are one command each, with a reason if one is given; 202 has the record's seq."""
    rt.replies[kind] = lambda command: Accepted(seq=9, id=command.run_id)
    async with serve() as http:
        for body in ({"reason": "why"}, {}, None):
            answer = await http.ask("POST", f"/v1/runs/r-1/{verb}", body)
            assert (answer.status, answer.json()) == (202, {"seq": 9, "id": "r-1"})
        assert [(type(command), command.run_id, command.reason) for command in rt.asked] == [
            (kind, "r-1", "why"),
            (kind, "r-1", None),
            (kind, "r-1", None),
        ]
        assert (await http.ask("POST", f"/v1/runs/r-1/{verb}", {"because": 1})).status == 400
        rt.replies[kind] = lambda command: RunNotFound("no run 'r-1'")
        assert (await http.ask("POST", f"/v1/runs/r-1/{verb}", {})).status == 404


@pytest.mark.trio
async def test_signal_and_resolve_carry_values(serve: Any, rt: Any) -> None:
    """A signal's value and a resolved result go through as the JSON they are."""
    rt.replies[SignalRun] = rt.replies[ResolveCall] = lambda command: Accepted(seq=1, id=command.run_id)
    async with serve() as http:
        said = {"name": "go", "value": {"a": [1]}, "signal_id": "s-1"}
        assert (await http.ask("POST", "/v1/runs/r-1/signal", said)).status == 202
        said = {"call": "2/0.1", "happened": True, "result": "ch_1", "reason": "saw it"}
        assert (await http.ask("POST", "/v1/runs/r-1/resolve", said)).status == 202
        assert (await http.ask("POST", "/v1/runs/r-1/signal", {"value": 1})).status == 400
    signal, resolve = rt.asked
    assert (signal.name, bytes(signal.value), signal.signal_id) == ("go", b'{"a":[1]}', "s-1")
    assert (resolve.call, resolve.happened, bytes(resolve.result), resolve.reason) == (
        "2/0.1",
        True,
        b'"ch_1"',
        "saw it",
    )


def test_views_are_json_by_their_names() -> None:
    """The splice that adds `created` to a run makes JSON, whatever the run holds."""
    from runtimed.http.runs import _run_json

    run = RunView('a"\\', "w", "running", attributes={"}": None})
    assert msgspec.json.decode(_run_json(run, False)) == msgspec.to_builtins(run) | {"created": False}
