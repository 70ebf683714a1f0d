"""Runs: start, list, look, wait, and what people do to them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from actors.errors import InvalidInput, NotAllowed, RunBlocked, RunCancelled, RunFailed, RunNotFound, RunOutcome
from actors.fork_desk import fork_of
from actors.messages import (
    CancelRun,
    PauseRun,
    ProblemData,
    ResolveCall,
    ResumeRun,
    RetryRun,
    SignalRun,
    StartedRun,
    StartedRuns,
    StartRun,
    StartRuns,
)
from runtimed.http.errors import BatchTooLarge
from runtimed.http.faults import invalid, problem_of, problem_of_data, problem_reply
from runtimed.http.replies import Reply, encode, json_reply
from runtimed.http.requests import Request, check_utf8, decode
from runtimed.http.surface import Reader, RuntimeSurface
from runtimed.wire import (
    PAGE_ITEMS_MAX,
    WAIT_MAX_S,
    ForkRequest,
    HistoryQuery,
    OutputItem,
    OutputQuery,
    Problem,
    ReasonRequest,
    ResolveRequest,
    ResultQuery,
    RunsQuery,
    SignalRequest,
    StartRunRequest,
)
from wal.views import Page, RunDetail, RunView

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

BATCH_BYTES_MAX: Final = 32 << 20
"""A batch with its answer is one commit, and whole in the memory of the daemon and of the writer on its way."""

T = TypeVar("T")

_ARRAY: Final = re.compile(rb"[ \t\r\n]*\[")
_ONE: Final = msgspec.json.Decoder(StartRunRequest)
_MANY: Final = msgspec.json.Decoder(list[StartRunRequest])
_RAWS: Final = msgspec.json.Decoder(list[Raw])
_SIGNAL: Final = msgspec.json.Decoder(SignalRequest)
_REASON: Final = msgspec.json.Decoder(ReasonRequest)
_RESOLVE: Final = msgspec.json.Decoder(ResolveRequest)
_FORK: Final = msgspec.json.Decoder(ForkRequest)


# --- starting -------------------------------------------------------------------------------------------------------


async def start(rt: RuntimeSurface, request: Request) -> Reply:
    """Start a run, or an array of runs in one commit."""
    body = await request.body()
    check_utf8(body)
    if _ARRAY.match(body):
        return await _start_many(rt, request, body)
    command = StartRuns(items=[_command(request.decode(_ONE, body))], origin=request.origin(body))
    started: StartedRuns = await rt.ask(command)
    item = started.items[0]
    if item.run is None:
        return problem_reply(refusal(item))
    location = (b"location", b"/v1/runs/" + item.run.id.encode())
    return Reply(201 if item.created else 200, _run_json(item.run, item.created), headers=(location,))


async def _start_many(rt: RuntimeSurface, request: Request, body: bytes) -> Reply:
    wanted = _decode_items(body, request.limits.batch_items_max)
    good = [_command(item) for item in wanted if isinstance(item, StartRunRequest)]
    started: list[StartedRun] = []
    if good:
        started = (await rt.ask(StartRuns(items=good, origin=request.origin(body)))).items
    answers = iter(started)
    items = [_item_json(next(answers)) if isinstance(item, StartRunRequest) else _problem_json(item) for item in wanted]
    return Reply(200, b'{"items":[' + b",".join(items) + b"]}")


def _decode_items(body: bytes, items_max: int) -> list[StartRunRequest | Problem]:
    """The items of an array, or what is wrong with them: all at once, and one by one only if one is wrong."""
    items: Sequence[StartRunRequest | Problem]
    try:
        items = _MANY.decode(body)
    except msgspec.ValidationError:
        raws: list[Raw] = decode(_RAWS, body)
        items = [_decode_item(item, at) for at, item in enumerate(raws)]
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(error) from None
    if len(items) > items_max:
        raise BatchTooLarge(f"{len(items)} items are more than {items_max}")
    if len(body) > BATCH_BYTES_MAX:
        raise BatchTooLarge(f"a batch of {len(body)} bytes; one commit takes {BATCH_BYTES_MAX}")
    return list(items)


def _decode_item(item: Raw, at: int) -> StartRunRequest | Problem:
    try:
        return _ONE.decode(item)
    except (msgspec.DecodeError, RecursionError) as error:
        return problem_of(invalid(error, f"$[{at}]", StartRunRequest))


def _command(wanted: StartRunRequest) -> StartRun:
    return StartRun(
        workflow=wanted.workflow,
        input=wanted.input.copy(),  # a Raw points into the whole body and would keep it in memory
        id=wanted.id,
        session_id=wanted.session_id,
        tenant=wanted.tenant,
        classification=wanted.classification,
        queue=wanted.queue,
        priority=wanted.priority,
        start_at=None if wanted.start_at is None else (wanted.start_at - EPOCH) // MICROSECOND,
        attributes=wanted.attributes,
    )


def _run_json(run: RunView, created: bool) -> bytes:
    """A run with `created` as one more field; spliced, because copying the view would cost more than encoding it."""
    return encode(run)[:-1] + (b',"created":true}' if created else b',"created":false}')


def _item_json(item: StartedRun) -> bytes:
    if item.run is None:
        return _problem_json(refusal(item))
    return b'{"status":%d,"run":%s}' % (201 if item.created else 200, _run_json(item.run, item.created))


def _problem_json(problem: Problem | StartRunRequest) -> bytes:
    assert isinstance(problem, Problem)
    return b'{"status":%d,"problem":%s}' % (problem.status, encode(problem))


def refusal(item: StartedRun) -> Problem:
    """Why a run was not started, as a problem document."""
    refused = item.problem or ProblemData(status=500, code="internal", detail="neither a run nor a problem came back")
    return problem_of_data(refused)


# --- looking --------------------------------------------------------------------------------------------------------


async def list_runs(rt: RuntimeSurface, request: Request) -> Reply:
    """A page of runs, newest first."""
    query, rest = request.query_and_rest(RunsQuery)
    foreign = [name for name in rest if not name.startswith("attr.") or name == "attr."]
    if foreign:
        raise InvalidInput(f"Object contains unknown field `{foreign[0][:200]}` - at `?`")

    def page(reader: Reader) -> bytes:
        return encode(
            reader.runs(
                status=query.status,
                workflow=query.workflow,
                session_id=query.session_id,
                tenant=query.tenant,
                attributes={name.removeprefix("attr."): value for name, value in rest.items()} or None,
                limit=min(query.limit, PAGE_ITEMS_MAX),
                cursor=query.cursor,
            )
        )

    return Reply(200, await rt.read(page))


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """A run whole."""
    return json_reply(await _detail(rt, request.id()))


async def history(rt: RuntimeSurface, request: Request) -> Reply:
    """A page of a run's records, oldest first."""
    run_id, query = request.id(), request.query(HistoryQuery)

    def page(reader: Reader) -> bytes:
        found = reader.history_page(run_id, after=query.after, limit=min(query.limit, PAGE_ITEMS_MAX), kinds=query.kind)
        return encode(_found(found, run_id))

    return Reply(200, await rt.read(page))


async def output(rt: RuntimeSurface, request: Request) -> Reply:
    """A page of what a run emitted, oldest first."""
    run_id, query = request.id(), request.query(OutputQuery)

    def page(reader: Reader) -> bytes:
        limit = min(query.limit, PAGE_ITEMS_MAX)
        found = _found(reader.history_page(run_id, after=query.after, limit=limit, kinds=["output_emitted"]), run_id)
        items = [OutputItem(record.seq, record.at, _value(record.data)) for record in found.items]
        return encode(Page(items, found.next, found.total, found.seq))

    return Reply(200, await rt.read(page))


class _Emitted(msgspec.Struct):
    value: Raw


_EMITTED: Final = msgspec.json.Decoder(_Emitted)


def _value(data: Raw) -> Raw:
    return _EMITTED.decode(data).value


async def result(rt: RuntimeSurface, request: Request) -> Reply:
    """A run's result (200), the run as it stands (202), or why there is no result (409). Waits up to `wait` seconds."""
    run_id, query = request.id(), request.query(ResultQuery)
    detail: RunDetail | None = None
    if query.wait > 0:
        detail = await request.unless_stopped(lambda: rt.settled(run_id, min(query.wait, WAIT_MAX_S)))
        if not request.still_may():
            raise NotAllowed("the right to this was taken away meanwhile")
    if detail is None:
        detail = await _detail(rt, run_id)
    if detail.status in _OUTCOMES:
        return problem_reply(_outcome(detail))
    return Reply(200, bytes(detail.result)) if detail.status == "completed" else json_reply(detail, 202)


_OUTCOMES: Final[dict[str, type[RunOutcome]]] = {"failed": RunFailed, "cancelled": RunCancelled, "blocked": RunBlocked}


def _outcome(detail: RunDetail) -> Problem:
    text = "" if detail.error is None else detail.error.message
    problem = problem_of(_OUTCOMES[detail.status](text or f"run {detail.id} is {detail.status}"))
    return msgspec.structs.replace(problem, run_id=detail.id, run_status=detail.status, error=detail.error)


async def _detail(rt: RuntimeSurface, run_id: str) -> RunDetail:
    return _found(await rt.read(lambda reader: reader.run_view(run_id)), run_id)


def _found(value: T | None, run_id: str) -> T:
    if value is None:
        raise RunNotFound(f"there is no run {run_id!r}")
    return value


# --- acting ---------------------------------------------------------------------------------------------------------


async def signal(rt: RuntimeSurface, request: Request) -> Reply:
    """Send a named value to a run."""
    run_id, body = request.id(), await request.body()
    check_utf8(body)
    said = request.decode(_SIGNAL, body)
    command = SignalRun(
        run_id=run_id,
        name=said.name,
        value=said.value.copy(),
        signal_id=said.signal_id,
        origin=request.origin(body),
    )
    return json_reply(await rt.ask(command), 202)


async def resolve(rt: RuntimeSurface, request: Request) -> Reply:
    """Say whether a call of unknown outcome happened."""
    run_id, body = request.id(), await request.body()
    check_utf8(body)
    said = request.decode(_RESOLVE, body)
    command = ResolveCall(
        run_id=run_id,
        call=said.call,
        happened=said.happened,
        result=said.result.copy(),
        reason=said.reason,
        origin=request.origin(body),
    )
    return json_reply(await rt.ask(command), 202)


async def fork(rt: RuntimeSurface, request: Request) -> Reply:
    """Start a run with the past of this one, as it was at one of its records.

    What was open there it asks for anew, and what was done it undoes if it fails. 409 where the run had ended or was
    being undone by then, or waited for a child.
    """
    run_id, body = request.id(), await request.body()
    check_utf8(body)
    said = request.decode(_FORK, body)
    asked = {"id": said.id, "reason": said.reason, "origin": request.origin(body)}
    command = await rt.read(lambda reader: fork_of(reader, run_id, said.at_seq, **asked))
    return json_reply(await rt.ask(command), 202)


Handler = Callable[[RuntimeSurface, Request], Awaitable[Reply]]


def _with_reason(kind: type[CancelRun | PauseRun | ResumeRun | RetryRun], doc: str) -> Handler:
    async def act(rt: RuntimeSurface, request: Request) -> Reply:
        run_id, body = request.id(), await request.body()
        said = request.decode(_REASON, body)
        return json_reply(await rt.ask(kind(run_id=run_id, reason=said.reason, origin=request.origin(body))), 202)

    act.__doc__ = doc
    return act


cancel = _with_reason(CancelRun, "Cancel a run: its completed steps are undone.")
pause = _with_reason(PauseRun, "Hold a run where it stands.")
resume = _with_reason(ResumeRun, "Let a paused run go on.")
retry = _with_reason(RetryRun, "Let a blocked run try again from where it stands.")
