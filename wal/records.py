"""The durable facts, as frozen tagged Structs in one union, named in the past tense.

A record is what the journal keeps and all that replay reads. Payloads (`msgspec.Raw`) are JSON text exactly as it
was encoded once; instants are integer microseconds since the Unix epoch (UTC); durations are float seconds.
`key` names a call of a workflow by its fiber path (`2`, `2/0.1`), or is empty where no call is meant.

Rules of change: a new field has a default; a field never changes its type or meaning; what no longer fits becomes
a new record, and `wal.codec` brings the old one up to date when it is read.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Fact(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag=_snake, tag_field="kind"):
    """Base of all records; the tag on the wire is the class name in snake case."""

    @property
    def kind(self) -> str:
        """The record's kind as the contract names it, for example `step_completed`."""
        return str(self.__struct_config__.tag)


class ErrorData(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An exception as data: its class name, its text, the step it came out of, and the traceback if one helps."""

    type: str
    message: str = ""
    step: str | None = None
    traceback: str | None = None


class OpenCallData(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One call that a waiting run has open: its key, its kind (`timer`, `signal`, ...) and a name for people."""

    key: str
    kind: str
    name: str = ""


# --- a run's life -----------------------------------------------------------------------------------------------


class RunStarted(Fact, frozen=True, gc=False):
    """A run exists. With `start_at` (or a queue) it begins later, and a `TimerFired` with the empty key begins it."""

    id: str
    workflow: str
    input: Raw
    version: str | None = None
    session_id: str | None = None
    tenant: str | None = None
    classification: str = "platform"
    queue: str | None = None
    priority: int = 0
    parent_id: str | None = None
    start_at: int | None = None
    trace_id: str | None = None
    traceparent: str | None = None
    attributes: dict[str, Any] = {}
    by: str | None = None
    parent_call: str | None = None


class RunContinued(Fact, frozen=True, gc=False):
    """The run's code began anew, with another input, and this is where its history begins: `started` says all that
    replay knows of the run. `generation` counts; `signals` are those that nobody had asked for yet, `children` the ids
    of children that are left behind: they go on, and are cancelled with the run."""

    key: str
    started: RunStarted
    generation: int = 1
    signals: dict[str, list[Raw]] = {}
    children: list[str] = []


class RunForked(Fact, frozen=True, gc=False):
    """The second record of a run that begins with the past of another: of the run `from_id`, up to its record
    `from_seq`. `past` is what replay goes through before the run's own records, the first record of that run before
    all; it is empty where nothing had happened yet. What was open at that point is no part of it: the fork asks for it
    anew. `reached` says how far fibers had come where `past` does not show it, and the next `values` records are the
    values of the run's own state at that point."""

    from_id: str
    from_seq: int
    past: list[PastRecord] = []
    by: str | None = None
    reason: str | None = None
    reached: dict[str, int] = {}
    values: int = 0


class RunWaiting(Fact, frozen=True, gc=False):
    """The run has nothing in flight: what it waits for, until when, and all its open calls. A note for people and for
    waking; replay compares it with the code. Where very many are open, `calls` has those that no such record of the run
    has named before and one of each kind, `more` says how many are open besides, and `digest` is of all of them."""

    on: str
    until: int | None = None
    calls: list[OpenCallData] = []
    more: int = 0
    digest: str | None = None


class RunPaused(Fact, frozen=True, gc=False):
    """A person paused the run: records still arrive, its code does not advance."""

    by: str | None = None
    reason: str | None = None


class RunResumed(Fact, frozen=True, gc=False):
    """A person let a paused run go on."""

    by: str | None = None
    reason: str | None = None


class RunCancelRequested(Fact, frozen=True, gc=False):
    """Somebody asked for the run to be cancelled; its code sees `Cancelled` at its waits."""

    reason: str | None = None
    by: str | None = None
    trace_id: str | None = None


class RunBlocked(Fact, frozen=True, gc=False):
    """The run stands still until a person acts: a defect, a contradiction, an unknown outcome."""

    code: str
    message: str = ""
    key: str = ""
    traceback: str | None = None


class RunRetried(Fact, frozen=True, gc=False):
    """A person let a blocked run try again from where it stands."""

    by: str | None = None
    reason: str | None = None
    trace_id: str | None = None


class RunCompensating(Fact, frozen=True, gc=False):
    """The workflow was left by a failure (`error`) or by cancellation (`error` null): completed steps get undone."""

    error: ErrorData | None = None


class RunCompleted(Fact, frozen=True, gc=False):
    """The workflow returned. The run is over."""

    result: Raw


class RunFailed(Fact, frozen=True, gc=False):
    """The workflow failed and what had to be undone is undone. The run is over."""

    error: ErrorData


class RunCancelled(Fact, frozen=True, gc=False):
    """The run was cancelled and what had to be undone is undone. The run is over."""

    reason: str | None = None


class AttributesSet(Fact, frozen=True, gc=False):
    """The workflow set searchable attributes (merged into those there are)."""

    key: str
    attributes: dict[str, Any]


class PatchMarked(Fact, frozen=True, gc=False):
    """The run passed `ctx.patched(id)` for the first time and took the new branch."""

    id: str


class OutputEmitted(Fact, frozen=True, gc=False):
    """The workflow appended a value to its output stream."""

    key: str
    value: Raw


# --- steps and compensations ---------------------------------------------------------------------------------------


class StepScheduled(Fact, frozen=True, gc=False):
    """A step was called: attempt 1 may start once this is durable. `args` is JSON `[[positional], {keywords}]`.
    `at_most_once` says what a crash in it comes to: a question to a person, not another attempt; `undo` names the
    compensation that it declares. Both are told for people, and stand in for the step where its code is gone."""

    key: str
    name: str
    args: Raw
    at_most_once: bool = False
    undo: str | None = None


class StepCompleted(Fact, frozen=True, gc=False):
    """An attempt returned; `result` is its value. The step never runs again."""

    key: str
    name: str
    result: Raw
    attempt: int = 1


class StepFailed(Fact, frozen=True, gc=False):
    """An attempt ended without a value. With `retry_at` the next attempt is due then; without, it is final.
    `cancelled` says that we cancelled it; `defect` that the run is blocked rather than failed by it."""

    key: str
    name: str
    error: ErrorData
    attempt: int = 1
    retry_at: int | None = None
    cancelled: bool = False
    defect: bool = False


class StepInterrupted(Fact, frozen=True, gc=False):
    """The process ended while an attempt was in flight; the next attempt may start once this is durable."""

    key: str
    name: str
    attempt: int = 1


class StepUnknown(Fact, frozen=True, gc=False):
    """The outcome of an attempt will not be known: a crash under `at_most_once`, or a grace period ran out."""

    key: str
    name: str
    attempt: int = 1
    reason: str = ""


class StepResolved(Fact, frozen=True, gc=False):
    """A person said whether an attempt of unknown outcome happened, and with which result."""

    key: str
    happened: bool
    result: Raw = Raw(b"null")
    by: str | None = None
    reason: str | None = None
    trace_id: str | None = None


class CompensationAdded(Fact, frozen=True, gc=False):
    """The workflow put an undo of its own on the scope's stack."""

    key: str
    name: str
    args: Raw


class CompensationScheduled(StepScheduled, frozen=True, gc=False):
    """An undo was called; see `StepScheduled`. The key is that of the undone call with `!` appended."""


class CompensationCompleted(StepCompleted, frozen=True, gc=False):
    """An undo is done; see `StepCompleted`."""


class CompensationFailed(StepFailed, frozen=True, gc=False):
    """An attempt of an undo failed; see `StepFailed`. A final one blocks the run."""


# --- timers, signals, state ---------------------------------------------------------------------------------------


class TimerSet(Fact, frozen=True, gc=False):
    """A sleep, or the timeout of a wait, is due at an instant."""

    key: str
    due_at: int


class TimerFired(Fact, frozen=True, gc=False):
    """A timer was due. The empty key begins a run that was to start later; a step's key begins its next attempt."""

    key: str


class TimerCancelled(Fact, frozen=True, gc=False):
    """A timer is not wanted any more (the wait ended otherwise). Replay does not read it."""

    key: str


class SignalReceived(Fact, frozen=True, gc=False):
    """A named message to a run; it stays buffered until the run asks for that name."""

    name: str
    value: Raw
    signal_id: str | None = None
    by: str | None = None
    trace_id: str | None = None


class SignalSetAside(Fact, frozen=True, gc=False):
    """A buffered signal did not decode to the type that was awaited; the wait went on without it."""

    key: str
    name: str
    error: str


class StateRead(Fact, frozen=True, gc=False):
    """A workflow read a value of the state surface; `found` false means the default was used."""

    key: str
    scope: str
    name: str
    found: bool
    value: Raw = Raw(b"null")
    version: int = 0


class StateWritten(Fact, frozen=True, gc=False):
    """A value of the state surface was put or deleted, by a workflow (`key`), or by a transaction or from outside (no
    key). One of the scope of a run is a record of that run, whoever put it: it is forgotten with it."""

    key: str
    scope: str
    name: str
    version: int
    value: Raw = Raw(b"null")
    deleted: bool = False
    tenant: str | None = None
    classification: str = "platform"
    by: str | None = None
    trace_id: str | None = None


class StateRefused(Fact, frozen=True, gc=False):
    """A workflow's conditional write met another version; nothing was changed."""

    key: str
    scope: str
    name: str
    expected: int
    found: int


# --- children --------------------------------------------------------------------------------------------------------


class ChildStarted(Fact, frozen=True, gc=False):
    """A workflow started a child: a run of workflow `name`, in the same commit."""

    key: str
    name: str
    child_id: str
    input: Raw = Raw(b"null")


class ChildCancelled(Fact, frozen=True, gc=False):
    """A workflow does not want its child any more: the child is cancelled in the same commit, if it has not ended."""

    key: str
    child_id: str


class ChildEnded(Fact, frozen=True, gc=False):
    """A child is over, in the commit that ended it: `completed`, `failed`, `cancelled`, or `refused` if it could not be
    started."""

    key: str
    child_id: str
    status: str
    result: Raw = Raw(b"null")
    error: ErrorData | None = None


# --- approvals -------------------------------------------------------------------------------------------------------


class ApprovalRequested(Fact, frozen=True, gc=False):
    """A workflow asks people. The approval's id is the seq of this record; at `expires_at` a `TimerFired` refuses it.
    `form` is a JSON Schema or null; `payload_hash` the SHA-256 of all that is shown and of who may decide."""

    key: str
    title: str
    payload_hash: str
    detail: Raw = Raw(b"null")
    roles: list[str] = []
    quorum: int = 1
    expires_at: int | None = None
    form: Raw = Raw(b"null")
    risk: str = "low"
    four_eyes: bool = False


class ApprovalVoted(Fact, frozen=True, gc=False):
    """A person said yes or no. `by` is who the kernel or a token says it is; `via` from where (terminal, ssh peer)."""

    key: str
    approve: bool
    by: str | None = None
    reason: str | None = None
    data: Raw = Raw(b"null")
    via: str | None = None
    trace_id: str | None = None


class ApprovalDecided(Fact, frozen=True, gc=False):
    """The approval is decided: by the quorum's last yes, or by one no."""

    key: str
    approved: bool
    by: str | None = None
    reason: str | None = None
    data: Raw = Raw(b"null")


class ApprovalWithdrawn(Fact, frozen=True, gc=False):
    """Nobody needs to decide any more: the run went on otherwise, or is over."""

    key: str


# --- sessions, requests, the daemon -------------------------------------------------------------------------------


class SessionOpened(Fact, frozen=True, gc=False):
    """A session began; it expires at `expires_at` unless touched. `on_close` is `cancel` or `leave` for its runs."""

    id: str
    tenant: str | None = None
    subject: str | None = None
    classification: str = "platform"
    ttl: float | None = None
    expires_at: int | None = None
    on_close: str = "leave"
    attributes: dict[str, Any] = {}
    trace_id: str | None = None
    by: str | None = None


class SessionTouched(Fact, frozen=True, gc=False):
    """A session's life was extended."""

    id: str
    expires_at: int | None = None
    by: str | None = None


class SessionExpired(Fact, frozen=True, gc=False):
    """A session's time ran out."""

    id: str


class SessionClosed(Fact, frozen=True, gc=False):
    """A session was closed by somebody."""

    id: str
    reason: str | None = None
    by: str | None = None


class RequestAnswered(Fact, frozen=True, gc=False):
    """The first answer to a request with an `Idempotency-Key`; its repeats get the same."""

    principal: str
    idempotency_key: str
    digest: str
    status: int
    body: Raw = Raw(b"null")


# --- connectors, webhooks and what they bring -----------------------------------------------------------------------


class StoredItem(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One record of a source as it is kept: its key, its data as JSON, whether the source says that it is gone."""

    key: str
    data: Raw = Raw(b"null")
    deleted: bool = False


class RecordsStored(Fact, frozen=True, gc=False):
    """A page of a source's records, upserted by key into a stream of the record store. At most 4,096 items, because
    an item's position in the store is this record's seq times 4,096, plus its place in the page."""

    stream: str
    items: list[StoredItem]
    source: str | None = None


class CursorAdvanced(Fact, frozen=True, gc=False):
    """A source was read up to `cursor`, in the commit of all that came with it: `records` arrived, of which `keys` are
    those that started or signalled a run now, `repeated` had been taken before, and `refused` were set aside."""

    connector: str
    cursor: Raw = Raw(b"null")
    source_kind: str = "poller"
    records: int = 0
    keys: list[str] = []
    repeated: int = 0
    refused: int = 0


class DeliveryRefused(Fact, frozen=True, gc=False):
    """A record of a source could not be delivered (it does not fit the workflow, its run is not there): it is kept
    here, and the source goes on."""

    connector: str
    key: str
    code: str
    message: str = ""
    data: Raw = Raw(b"null")


class SchemaSeen(Fact, frozen=True, gc=False):
    """A source announced the shape of a stream (JSON Schema). One that takes something away is not taken over before
    a person has said so: then `by` names who."""

    connector: str
    stream: str
    shape: Raw
    by: str | None = None


class ConnectorPaused(Fact, frozen=True, gc=False):
    """A person held a connector: it does not poll."""

    connector: str
    by: str | None = None
    reason: str | None = None
    trace_id: str | None = None


class ConnectorResumed(Fact, frozen=True, gc=False):
    """A person let a paused or quarantined connector go on."""

    connector: str
    by: str | None = None
    reason: str | None = None
    trace_id: str | None = None


class ConnectorReset(Fact, frozen=True, gc=False):
    """A person set a connector's cursor: null reads everything anew. What was delivered is known by its keys."""

    connector: str
    cursor: Raw = Raw(b"null")
    by: str | None = None
    reason: str | None = None
    trace_id: str | None = None


class ConnectorQuarantined(Fact, frozen=True, gc=False):
    """A connector's code crashed `crashes` times in a row: it stands still until a person resumes it."""

    connector: str
    error: ErrorData
    crashes: int = 1


class WebhookReceived(Fact, frozen=True, gc=False):
    """A verified delivery to a webhook, once for each key. `headers` and `body` are kept as it is configured."""

    webhook: str
    key: str
    headers: dict[str, str] = {}
    body: str | None = None
    via: str | None = None
    trace_id: str | None = None


# --- who may, who did, and the care of the file ----------------------------------------------------------------------


class TokenCreated(Fact, frozen=True, gc=False):
    """A bearer token exists. `digest` is the keyed BLAKE2b of its secret; the secret itself is nowhere."""

    id: str
    name: str
    role: str
    digest: str
    expires_at: int | None = None
    by: str | None = None
    reason: str | None = None


class TokenRevoked(Fact, frozen=True, gc=False):
    """A bearer token is worth nothing any more."""

    id: str
    by: str | None = None
    reason: str | None = None


class TokensUsed(Fact, frozen=True, gc=False):
    """When tokens were last used, by id, in microseconds: told now and then, not at each use."""

    used: dict[str, int]


class SecretChanged(Fact, frozen=True, gc=False):
    """A secret was set, rotated or deleted (`action`). Nothing of the secret is here: it is in a file of its own."""

    name: str
    action: str
    by: str | None = None
    reason: str | None = None
    trace_id: str | None = None


class CallAudited(Fact, frozen=True, gc=False):
    """Somebody's request changed something: what (`action` on `target`), who, from where, why. In the same commit as
    what it changed."""

    action: str
    target: str
    by: str | None = None
    via: str | None = None
    reason: str | None = None
    trace_id: str | None = None


class RunsForgotten(Fact, frozen=True, gc=False):
    """These ended runs were kept long enough: the bodies of their records are gone, their digests stay in the chain.
    `scopes` names the state that went with them, for those of the runs that had any."""

    run_keys: list[int]
    older_than: int = 0
    scopes: list[str] = []


class AnswersForgotten(Fact, frozen=True, gc=False):
    """First answers were kept long enough: the bodies of these `request_answered` records are gone, in the order in
    which they were written, and their keys are free."""

    seqs: list[int]
    older_than: int = 0


class BackupTaken(Fact, frozen=True, gc=False):
    """A verified copy of the journal up to `backup_seq` was made."""

    path: str
    backup_seq: int
    size_bytes: int = 0
    seconds: float = 0.0


class DaemonStarted(Fact, frozen=True, gc=False):
    """A daemon took the journal; `clean` says whether the one before had stopped cleanly."""

    version: str
    pid: int
    clean: bool = True


class DaemonStopped(Fact, frozen=True, gc=False):
    """A daemon gave the journal up, with everything flushed."""

    reason: str = ""


RECORD_TYPES: tuple[type[Fact], ...] = tuple(
    value for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Fact) and value is not Fact
)  # fmt: skip

Record = (
    RunStarted | RunContinued | RunForked | RunWaiting | RunPaused | RunResumed | RunCancelRequested | RunBlocked
    | RunRetried | RunCompensating | RunCompleted | RunFailed | RunCancelled
    | AttributesSet | PatchMarked | OutputEmitted
    | StepScheduled | StepCompleted | StepFailed | StepInterrupted | StepUnknown | StepResolved
    | CompensationAdded | CompensationScheduled | CompensationCompleted | CompensationFailed
    | TimerSet | TimerFired | TimerCancelled | SignalReceived | SignalSetAside
    | StateRead | StateWritten | StateRefused
    | ChildStarted | ChildCancelled | ChildEnded
    | ApprovalRequested | ApprovalVoted | ApprovalDecided | ApprovalWithdrawn
    | SessionOpened | SessionTouched | SessionExpired | SessionClosed | RequestAnswered
    | RecordsStored | CursorAdvanced | DeliveryRefused | SchemaSeen
    | ConnectorPaused | ConnectorResumed | ConnectorReset | ConnectorQuarantined | WebhookReceived
    | TokenCreated | TokenRevoked | TokensUsed | SecretChanged | CallAudited | RunsForgotten | AnswersForgotten
    | BackupTaken | DaemonStarted | DaemonStopped
)  # fmt: skip


class PastRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A record of another run, as a fork took it over: its seq there, the instant it was submitted, and the record."""

    seq: int
    at: int
    record: Record


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One record in its place: the global `seq`, the run it belongs to (0 for none), the seq of the record before it
    in that run (0 for the first), the wall-clock instant it was submitted, and the record."""

    seq: int
    run_key: int
    prev_seq: int
    at: int
    record: Record
