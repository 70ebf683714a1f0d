"""The client's verbs for runs: start, look, wait, and what people do to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

import anyio
import msgspec

from runtimed.client_errors import DaemonUnreachable, TimedOut, from_problem
from runtimed.client_link import Link, decode, given, part
from runtimed.wire import AcceptedView, Batch, HistoryPage, OutputPage, RunPage, StartedRunView
from wal.errors import RuntimedError
from wal.views import RunDetail

T = TypeVar("T")

RESULT_WAIT_MAX = 60.0
"""Seconds that one request for a result is held; waiting longer takes several."""
ABSENCE_MAX, RETRY_SECONDS = 30.0, 0.25
"""How long a wait that has begun bears with a daemon that is away, and how often it looks, in seconds."""


class Named(Protocol):
    """A workflow as `@app.workflow` leaves it, or anything else with its name."""

    @property
    def name(self) -> str: ...


class NewRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run to start with `start_many`. `start_at` is an aware datetime; the rest as for `Client.start`."""

    workflow: str
    input: Any = None
    id: str | None = None
    session_id: str | None = None
    tenant: str | None = None
    classification: str = "platform"
    queue: str | None = None
    priority: int = 0
    start_at: Any = None
    attributes: dict[str, Any] = {}


class RunHandle:
    """A run that was started or exists. `created` says whether the request that gave this made it."""

    def __init__(self, verbs: RunVerbs, run_id: str, created: bool = False) -> None:
        self._verbs = verbs
        self.id = run_id
        self.created = created

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    async def status(self) -> str:
        """The run's status now."""
        return await self._verbs.status(self.id)

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the result; see `RunVerbs.result`."""
        return await self._verbs.result(self.id, timeout)


class RunVerbs:
    """The verbs of an embedded runtime, over HTTP. Each may raise what `Client` names."""

    link: Link

    async def start(
        self,
        workflow: str | Named,
        input: Any = None,
        *,
        id: str | None = None,
        session_id: str | None = None,
        tenant: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        start_at: Any = None,
        attributes: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> RunHandle:
        """Start a run; when this returns it is on disk. An id that exists with the same input gives that run."""
        new = NewRun(
            workflow=workflow if isinstance(workflow, str) else workflow.name,
            input=input,
            id=id,
            session_id=session_id,
            tenant=tenant,
            queue=queue,
            priority=priority,
            start_at=start_at,
            attributes=dict(attributes or {}),
        )
        run = decode(await self.link.post("/v1/runs", new, idempotency_key), StartedRunView)
        return RunHandle(self, run.id, run.created)

    async def start_many(
        self, runs: Iterable[NewRun | Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[RunHandle | RuntimedError]:
        """Start up to `limits.runs_batch_max` runs in one commit: for each, in order, the run or why not."""
        items = decode(await self.link.post("/v1/runs", list(runs), idempotency_key), Batch).items
        handles: list[RunHandle | RuntimedError] = []
        for item in items:
            if item.run is not None:
                handles.append(RunHandle(self, item.run.id, item.run.created))
            else:
                handles.append(from_problem(item.status, {}, msgspec.json.encode(item.problem)))
        return handles

    async def run(self, run_id: str) -> RunDetail:
        """A run whole."""
        return decode(await self.link.get(f"/v1/runs/{part(run_id)}"), RunDetail)

    async def status(self, run_id: str) -> str:
        """A run's status in one word."""
        return (await self.run(run_id)).status

    def handle(self, run_id: str) -> RunHandle:
        """A handle on a run that exists."""
        return RunHandle(self, run_id)

    @overload
    async def result(self, run_id: str, timeout: float | None = None, *, type: type[T]) -> T: ...
    @overload
    async def result(self, run_id: str, timeout: float | None = None) -> Any: ...
    async def result(self, run_id: str, timeout: float | None = None, *, type: Any = Any) -> Any:
        """Wait for a run to end and return its result, decoded to `type`; `timeout` in seconds, None for ever.

        Raises `RunFailed`, `RunCancelled`, `RunBlocked`, `TimedOut`. Cancelling the wait changes nothing for the run.
        """
        body = await self.wait(run_id, timeout=timeout)
        value: Any = decode(body, type)
        return value

    async def wait(self, run_id: str, *, timeout: float | None = None) -> bytes:
        """As `result`, but the result as the JSON it is recorded as.

        A daemon that goes away while we wait is waited for, up to `ABSENCE_MAX`: the run outlives it, so does the wait.
        """
        until = None if timeout is None else anyio.current_time() + timeout
        missing_since: float | None = None
        while True:
            now = anyio.current_time()
            left = RESULT_WAIT_MAX if until is None else min(RESULT_WAIT_MAX, max(0.0, until - now))
            try:
                answer = await self._await_result(run_id, left)
            except DaemonUnreachable:
                if missing_since is None or now - missing_since > ABSENCE_MAX or (until is not None and now > until):
                    raise
                await anyio.sleep(RETRY_SECONDS)
                continue
            missing_since = anyio.current_time()
            if answer is not None:
                return answer
            if until is not None and anyio.current_time() >= until:
                raise TimedOut(f"run {run_id} has not ended within {timeout:g} s", hint="It goes on; wait again.")

    async def _await_result(self, run_id: str, seconds: float) -> bytes | None:
        """The result if the run ends within so many seconds, else None; raises how it ended without one."""
        answer = await self.link.fetch(
            "GET",
            f"/v1/runs/{part(run_id)}/result",
            params=[("wait", f"{seconds:.3f}")],
            timeout=seconds + self.link.wire.timeout,
        )
        if answer.status == 200:
            return answer.body
        if answer.status == 202:
            return None
        problem = from_problem(answer.status, answer.headers, answer.body, run_id=run_id)
        if problem.code == "draining":
            raise DaemonUnreachable(str(problem)) from problem
        raise problem

    async def runs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow: str | None = None,
        session_id: str | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """A page of runs, newest first; `next` of it is the `cursor` of the page after."""
        statuses = [status] if isinstance(status, str) else list(status or ())
        params = [("status", one) for one in statuses] + [(f"attr.{k}", v) for k, v in (attributes or {}).items()]
        params += given(workflow=workflow, session_id=session_id, tenant=tenant, limit=limit, cursor=cursor)
        return decode(await self.link.get("/v1/runs", params), RunPage)

    async def history(self, run_id: str, after: int = 0, limit: int = 200) -> HistoryPage:
        """A page of a run's records, oldest first."""
        return decode(
            await self.link.get(f"/v1/runs/{part(run_id)}/history", given(after=after, limit=limit)), HistoryPage
        )

    async def output(self, run_id: str, after: int = 0, limit: int = 200) -> OutputPage:
        """A page of what a run emitted, oldest first."""
        return decode(
            await self.link.get(f"/v1/runs/{part(run_id)}/output", given(after=after, limit=limit)), OutputPage
        )

    async def signal(
        self,
        run_id: str,
        name: str,
        value: Any = None,
        *,
        signal_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Send a run a named value, which it gets when it asks for that name; the seq of its record."""
        body = {"name": name, "value": value, **dict(given(signal_id=signal_id))}
        return (await self.act(run_id, "signal", body, idempotency_key)).seq

    async def cancel(self, run_id: str, reason: str | None = None, *, idempotency_key: str | None = None) -> int:
        """Cancel a run: its completed steps are undone."""
        return (await self.act(run_id, "cancel", why(reason), idempotency_key)).seq

    async def pause(self, run_id: str, reason: str | None = None, *, idempotency_key: str | None = None) -> int:
        """Hold a run where it stands."""
        return (await self.act(run_id, "pause", why(reason), idempotency_key)).seq

    async def resume(self, run_id: str, reason: str | None = None, *, idempotency_key: str | None = None) -> int:
        """Let a paused run go on."""
        return (await self.act(run_id, "resume", why(reason), idempotency_key)).seq

    async def retry(self, run_id: str, reason: str | None = None, *, idempotency_key: str | None = None) -> int:
        """Let a blocked run try again from where it stands."""
        return (await self.act(run_id, "retry", why(reason), idempotency_key)).seq

    async def resolve(
        self,
        run_id: str,
        call: str,
        *,
        happened: bool,
        result: Any = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Say whether a call of unknown outcome happened, and with which result."""
        body = {"call": call, "happened": happened, "result": result, **why(reason)}
        return (await self.act(run_id, "resolve", body, idempotency_key)).seq

    async def fork(
        self,
        run_id: str,
        at_seq: int,
        *,
        id: str | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunHandle:
        """Start a run with the past of another, as it was at its record `at_seq`. What was open there it asks for anew,
        and what was done it undoes if it fails."""
        body = {"at_seq": at_seq, **dict(given(id=id)), **why(reason)}
        return RunHandle(self, (await self.act(run_id, "fork", body, idempotency_key)).id, created=True)

    async def act(self, run_id: str, verb: str, body: Any, key: str | None = None) -> AcceptedView:
        """Ask something of a run, by the verb of its route; the seq of the record that it is on disk as."""
        return decode(await self.link.post(f"/v1/runs/{part(run_id)}/{verb}", body, key), AcceptedView)


def why(reason: str | None) -> dict[str, str]:
    """The body of a request that may say why."""
    return {} if reason is None else {"reason": reason}
