"""What goes over HTTP: the requests' types, the problem document, and the shapes of the answers.

Loaded by the client and the dashboard too, so it imports only msgspec and the views. Requests refuse fields they do
not know. `Raw` is JSON kept as it came; what it must be is decided by the workflow it is for.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from wal.views import (
    NULL,
    ActorView,
    ApprovalView,
    AuditView,
    ConnectorView,
    ErrorView,
    HistoryRecord,
    RunView,
    ScheduleView,
    SessionView,
    StateView,
    StoredView,
)

ID_PATTERN = r"^[A-Za-z0-9._:-]+$(?!\n)"
HASH_PATTERN = r"^[0-9a-f]{64}$(?!\n)"
"""`$` alone would let a trailing newline through in Python; the look-ahead changes nothing in JSON Schema."""

PAGE_ITEMS_MAX = 500
"""The most items a page holds; a larger `limit` gets this many and a cursor."""
WAIT_MAX_S = 300.0
"""The longest that `result?wait=` holds a request; a longer wish gets this much."""

Id = Annotated[str, Meta(min_length=1, max_length=200, pattern=ID_PATTERN, description="an id")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Reason = Annotated[str, Meta(max_length=2000)]
Key = Annotated[str, Meta(min_length=1, max_length=512)]
Cursor = Annotated[str, Meta(min_length=1, max_length=1000)]
Seq = Annotated[int, Meta(ge=0, le=2**63 - 1)]
PageLimit = Annotated[int, Meta(ge=1, le=1_000_000)]
Instant = Annotated[datetime, Meta(tz=True)]
Classification = Literal["platform", "client"]
RunStatus = Literal[
    "queued", "running", "waiting", "paused", "compensating", "blocked", "completed", "failed", "cancelled"
]
SessionStatus = Literal["open", "expired", "closed"]
ApprovalStatus = Literal["open", "approved", "refused", "expired", "withdrawn"]
PayloadHash = Annotated[str, Meta(pattern=HASH_PATTERN, description="the approval's payload_hash")]


# --- requests -------------------------------------------------------------------------------------------------------


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a request's body holds."""


class StartRunRequest(Body, frozen=True):
    """One run to start. `input` is what the workflow takes; without an id one is made."""

    workflow: Name
    input: Raw = NULL
    id: Id | None = None
    session_id: Id | None = None
    tenant: Name | None = None
    classification: Classification = "platform"
    queue: Name | None = None
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    start_at: Instant | None = None
    attributes: dict[Name, Any] = {}


class SignalRequest(Body, frozen=True):
    """A named value for a run; a repeat with the same `signal_id` changes nothing."""

    name: Name
    value: Raw = NULL
    signal_id: Id | None = None


class ReasonRequest(Body, frozen=True):
    """Why: of a cancel, pause, resume, retry or close."""

    reason: Reason | None = None


class ResolveRequest(Body, frozen=True):
    """Whether the call of unknown outcome happened, and with which result."""

    call: Name
    happened: bool
    result: Raw = NULL
    reason: Reason | None = None


class ForkRequest(Body, frozen=True):
    """A run that begins with the past of this one, as it was at the record `at_seq`; without an id one is made."""

    at_seq: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    id: Id | None = None
    reason: Reason | None = None


class DecideRequest(Body, frozen=True):
    """A yes or no to an approval, about exactly what `payload_hash` stands for; `data` is what the form asks for. Who
    decides is who sends it, and no field says otherwise."""

    approve: bool
    payload_hash: PayloadHash
    reason: Reason | None = None
    data: Raw = NULL


class OpenSessionRequest(Body, frozen=True):
    """A session to open. `ttl` in seconds, null for one that does not expire."""

    id: Id | None = None
    tenant: Name | None = None
    subject: Name | None = None
    classification: Classification = "platform"
    ttl: Annotated[float, Meta(gt=0.0, le=86_400.0 * 3_660)] | None = None
    on_close: Literal["cancel", "leave"] = "leave"
    attributes: dict[Name, Any] = {}


class TouchSessionRequest(Body, frozen=True):
    """Nothing to say: the session's life is extended by its own ttl."""


class CreateTokenRequest(Body, frozen=True):
    """A bearer token to make; `expires_in` in seconds, null for one that does not expire."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$(?!\n)", description="a name")]
    role: Literal["viewer", "operator", "approver", "admin"]
    expires_in: Annotated[float, Meta(gt=0.0, le=86_400.0 * 3_660)] | None = None
    reason: Reason | None = None


class PutStateRequest(Body, frozen=True):
    """The value to write; the version it must replace goes into `If-Match`."""

    value: Raw


class RestartActorRequest(ReasonRequest, frozen=True):
    """Why an actor is restarted."""


class ResetConnectorRequest(ReasonRequest, frozen=True):
    """Where a connector reads on from: a cursor of its own kind, or null for the beginning. With `dry_run` nothing is
    changed, and the answer says what would happen."""

    cursor: Raw = NULL
    dry_run: bool = False


SecretValue = Annotated[str, Meta(min_length=1, max_length=65_536)]


class SetSecretRequest(Body, frozen=True):
    """A secret's value, at most 64 KiB in UTF-8, and why it is set."""

    value: SecretValue
    reason: Reason | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"


class RotateSecretRequest(SetSecretRequest, frozen=True):
    """A secret's new value; the former counts for `grace_s` seconds more, a day unless said otherwise."""

    grace_s: Annotated[float, Meta(ge=0.0, le=86_400.0 * 366)] = 86_400.0


# --- queries --------------------------------------------------------------------------------------------------------


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a query string holds."""


class NoQuery(Query, frozen=True):
    """A route that takes no query."""


class RunsQuery(Query, frozen=True):
    """Which runs to list; several statuses with commas or by repetition; attributes as `attr.NAME=VALUE`."""

    status: list[RunStatus] | None = None
    workflow: Name | None = None
    session_id: Id | None = None
    tenant: Name | None = None
    limit: PageLimit = 50
    cursor: Cursor | None = None


class HistoryQuery(Query, frozen=True):
    """Which records of a run: those beyond the seq `after`, of these kinds if any are named."""

    after: Seq = 0
    kind: list[Name] | None = None
    limit: PageLimit = 200


class OutputQuery(Query, frozen=True):
    """Which part of a run's output: beyond the seq `after`."""

    after: Seq = 0
    limit: PageLimit = 200


class ResultQuery(Query, frozen=True):
    """How many seconds to wait for the run to end."""

    wait: Annotated[float, Meta(ge=0.0, le=1e9)] = 0.0


class ApprovalsQuery(Query, frozen=True):
    """Which approvals to list."""

    status: ApprovalStatus | None = None
    run_id: Id | None = None
    limit: PageLimit = 50
    cursor: Cursor | None = None


class SessionsQuery(Query, frozen=True):
    """Which sessions to list."""

    status: SessionStatus | None = None
    tenant: Name | None = None
    limit: PageLimit = 50
    cursor: Cursor | None = None


class StatesQuery(Query, frozen=True):
    """Which values of a scope to list."""

    limit: PageLimit = 50
    cursor: Cursor | None = None


class RecordsQuery(Query, frozen=True):
    """Which records of a stream of the record store: those beyond the seq `after`."""

    after: Seq = 0
    limit: PageLimit = 50


class ReasonQuery(Query, frozen=True):
    """Why: of a change whose request has no body."""

    reason: Reason | None = None


class AuditQuery(Query, frozen=True):
    """Which part of the audit: beyond the seq `after`."""

    after: Seq = 0
    limit: PageLimit = 50


class EventsQuery(Query, frozen=True):
    """Where the stream begins: beyond this seq (0: at the beginning), or `now`."""

    after: Seq | Literal["now"] = 0


# --- answers --------------------------------------------------------------------------------------------------------


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem document. The last three are there when it tells how a run ended."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    run_id: str | None = None
    run_status: str | None = None
    error: ErrorView | None = None


class StartedRunView(RunView, frozen=True):
    """A run as the answer to its start; `created` is false when it existed already."""

    created: bool = False


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a batch's answer: the run with 200 or 201, or the problem with its status."""

    status: int
    run: StartedRunView | None = None
    problem: Problem | None = None


class Batch(msgspec.Struct, frozen=True):
    """The answer to an array of starts, in its order."""

    items: list[BatchItem]


class AcceptedView(msgspec.Struct, frozen=True):
    """What was asked is on disk as record `seq`."""

    seq: int
    id: str


class BackupRequest(Body, frozen=True):
    """Where a backup goes: an absolute path, of a folder or of a file that is not there yet; without it into the folder
    of the settings."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    reason: Reason | None = None


class BackupView(msgspec.Struct, frozen=True):
    """A verified backup: the last record in it, its size, how long it took, when it was taken."""

    path: str
    seq: int
    size_bytes: int
    seconds: float
    at: str


class ForgetRequest(Body, frozen=True):
    """Forget the runs that ended so many seconds ago; without it, as many days as the settings keep."""

    older_than: Annotated[float, Meta(gt=0, le=3_153_600_000)] | None = None
    dry_run: bool = False
    reason: Reason | None = None


class ForgottenView(msgspec.Struct, frozen=True):
    """So many runs and records are forgotten, or would be: those of runs that ended before an instant, and the first
    answers to idempotency keys that were given before it."""

    runs: int
    records: int
    older_than: str
    dry_run: bool
    answers: int = 0


class UnwakeableRun(msgspec.Struct, frozen=True):
    """An open run that nothing will wake, which is a defect of ours, and why."""

    id: str
    why: str


class CareView(msgspec.Struct, frozen=True):
    """The journal and its care: its last record, the last backup, the open runs that nothing will wake."""

    seq: int
    last_backup: BackupView | None
    unwakeable: list[UnwakeableRun]


class OutputItem(msgspec.Struct, frozen=True):
    """One value of a run's output."""

    seq: int
    at: str
    value: Raw


class PageFields(msgspec.Struct, frozen=True, kw_only=True):
    """What every page has beside its items; see `wal.views.Page`."""

    next: str | None
    total: int | None
    seq: int


class RunPage(PageFields, frozen=True):
    """A page of runs, newest first."""

    items: list[RunView]


class HistoryPage(PageFields, frozen=True):
    """A page of a run's records, oldest first; `next` is the `after` of the next page."""

    items: list[HistoryRecord]


class OutputPage(PageFields, frozen=True):
    """A page of a run's output, oldest first; `next` is the `after` of the next page."""

    items: list[OutputItem]


class ApprovalPage(PageFields, frozen=True):
    """A page of approvals, newest first."""

    items: list[ApprovalView]


class SessionPage(PageFields, frozen=True):
    """A page of sessions."""

    items: list[SessionView]


class StatePage(PageFields, frozen=True):
    """A page of the state surface."""

    items: list[StateView]


class ConnectorPage(PageFields, frozen=True):
    """All connectors and webhooks, by name."""

    items: list[ConnectorView]


class SchedulePage(PageFields, frozen=True):
    """All schedules, by name."""

    items: list[ScheduleView]


class ResetPreview(msgspec.Struct, frozen=True):
    """What a reset of a connector would do: its cursor now and then, the records that came so far, how many keys of
    them will be recognised, and what follows, in sentences. Nothing is changed."""

    name: str
    status: str
    cursor: Raw
    new_cursor: Raw
    records_total: int
    would: list[str]
    keys_known: int = 0


class StreamView(msgspec.Struct, frozen=True):
    """A stream of the record store and how many records it holds, deleted ones included."""

    name: str
    records: int


class StreamPage(PageFields, frozen=True):
    """All streams of the record store, by name."""

    items: list[StreamView]


class StoredPage(PageFields, frozen=True):
    """A page of a stream of the record store, in the order of its changes; `next` is the `after` of the next page."""

    items: list[StoredView]


class WebhookReply(msgspec.Struct, frozen=True):
    """A delivery is on disk as record `seq`; `repeated` says that it had been before, and nothing came of it now."""

    seq: int
    repeated: bool


class SecretView(msgspec.Struct, frozen=True):
    """What may be known of a secret; its value is never shown. Until `former_until` the value before counts too."""

    name: str
    version: int
    changed_at: str
    former_until: str | None = None


class SecretPage(PageFields, frozen=True):
    """All secrets by name, without their values."""

    items: list[SecretView]


class MasterKeyView(msgspec.Struct, frozen=True):
    """The master key was changed; so many secrets are under it."""

    secrets: int


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer token, without its secret. `status` is `active`, `expired` or `revoked`."""

    id: str
    name: str
    role: str
    status: str
    created_at: str
    created_by: str | None
    expires_at: str | None
    revoked_at: str | None
    used_at: str | None


class NewTokenView(TokenView, frozen=True, kw_only=True):
    """A token that was made just now, with its text, which is shown this once."""

    token: str


class TokenPage(PageFields, frozen=True):
    """All tokens that were ever made, oldest first."""

    items: list[TokenView]


class AuditPage(PageFields, frozen=True):
    """A page of the audit, oldest first; `next` is the `after` of the next page, and a page may be short before it."""

    items: list[AuditView]


class CallerView(msgspec.Struct, frozen=True):
    """Who the caller is to the daemon: the name in records, the level, the groups that approvals' roles mean (null for
    all of them), and from where it acts."""

    by: str | None
    level: str
    roles: list[str] | None
    via: str | None


class ActorPage(PageFields, frozen=True):
    """The supervision tree, parents before children."""

    items: list[ActorView]


class Probe(msgspec.Struct, frozen=True):
    """What a health probe says: `pass`, `warn` or `fail`."""

    status: str


class HealthDetail(msgspec.Struct, frozen=True):
    """Health per component, for people with rights."""

    status: str
    reasons: list[str]
    checks: dict[str, list[dict[str, Any]]]
