"""Commands (wishes, imperative) that actors take, and the replies they give. In memory only, frozen.

Every command that changes something carries an `Origin`: who asked, under which trace, and the idempotency key whose
first answer is kept. A reply is given only when what it tells is on disk.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from actors.connector_spec import Deliver
from wal.records import DeliveryRefused, ErrorData, RunForked, RunStarted, StateWritten, StoredItem
from wal.rows import Candidate
from wal.views import ApprovalView, RunView, SessionView, StateView

NULL = Raw(b"null")


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Base of all commands and replies."""


class RequestKey(Message, frozen=True):
    """An `Idempotency-Key` with its principal, and a digest of the request that it stands for."""

    principal: str
    key: str
    digest: str


class Origin(Message, frozen=True):
    """Who asked (`uid:0`, `token:ci`, `embedded`), under which trace, for which idempotency key. `via` says from where
    and is there for every call that came over the network: those are audited. `reason` is for calls whose command has
    no place for one."""

    by: str | None = None
    trace_id: str | None = None
    traceparent: str | None = None
    request: RequestKey | None = None
    via: str | None = None
    reason: str | None = None


NOBODY = Origin()
BY_US = Origin(by="runtimed")


class StartRun(Message, frozen=True):
    """One run to start. `input` is JSON; `start_at` an instant in microseconds since the epoch."""

    workflow: str
    input: Raw = NULL
    id: str | None = None
    session_id: str | None = None
    tenant: str | None = None
    classification: str = "platform"
    queue: str | None = None
    priority: int = 0
    start_at: int | None = None
    attributes: dict[str, Any] = {}


class StartRuns(Message, frozen=True):
    """Runs to start in one commit. The reply is a `StartedRuns`."""

    items: list[StartRun]
    origin: Origin = NOBODY


class SignalRun(Message, frozen=True):
    """A named value for a run. Replies `Accepted`."""

    run_id: str
    name: str
    value: Raw = NULL
    signal_id: str | None = None
    origin: Origin = NOBODY


class CancelRun(Message, frozen=True):
    """Cancel a run. Replies `Accepted`."""

    run_id: str
    reason: str | None = None
    origin: Origin = NOBODY


class PauseRun(Message, frozen=True):
    """Hold a run where it stands. Replies `Accepted`."""

    run_id: str
    reason: str | None = None
    origin: Origin = NOBODY


class ResumeRun(Message, frozen=True):
    """Let a paused run go on. Replies `Accepted`."""

    run_id: str
    reason: str | None = None
    origin: Origin = NOBODY


class RetryRun(Message, frozen=True):
    """Let a blocked run try again from where it stands. Replies `Accepted`."""

    run_id: str
    reason: str | None = None
    origin: Origin = NOBODY


class ResolveCall(Message, frozen=True):
    """Say whether a call of unknown outcome happened, and with which result. Replies `Accepted`."""

    run_id: str
    call: str
    happened: bool
    result: Raw = NULL
    reason: str | None = None
    origin: Origin = NOBODY


class ForkStart(msgspec.Struct, frozen=True):
    """What a fork begins with: `started` is as the other run's own, but for the id; `forked` has its past, in so many
    `past_bytes`; `state` is what its scope held."""

    started: RunStarted
    forked: RunForked
    past_bytes: int = 0
    state: list[StateWritten] = []


class ForkRun(Message, frozen=True):
    """Start a run with the past of another, as it was at the record `at_seq`, under this id or one made of both.
    `start` is how, None where that run is gone: then only the repeat of an answered request is answered. Replies
    `Accepted`, with the new id."""

    run_id: str
    at_seq: int
    start: ForkStart | None = None
    id: str | None = None
    reason: str | None = None
    origin: Origin = NOBODY


class DecideApproval(Message, frozen=True):
    """A person's yes or no to an approval. `payload_hash` is what the person was shown; None where the caller vouches
    (embedded). `roles` are the caller's, None for all of them; `via` says from where. Replies `ApprovalReply`."""

    approval_id: str
    approve: bool
    reason: str | None = None
    payload_hash: str | None = None
    data: Raw = NULL
    roles: frozenset[str] | None = None
    via: str | None = None
    origin: Origin = NOBODY


class OpenSession(Message, frozen=True):
    """Open a session; `ttl` in seconds, None for one that does not expire. Replies `SessionReply`."""

    id: str | None = None
    tenant: str | None = None
    subject: str | None = None
    classification: str = "platform"
    ttl: float | None = None
    on_close: str = "leave"
    attributes: dict[str, Any] = {}
    origin: Origin = NOBODY


class TouchSession(Message, frozen=True):
    """Extend a session by its ttl from now. Replies `SessionReply`."""

    id: str
    origin: Origin = NOBODY


class CloseSession(Message, frozen=True):
    """Close a session; its runs follow its `on_close`. Replies `SessionReply`."""

    id: str
    reason: str | None = None
    origin: Origin = NOBODY


class SessionEnded(Message, frozen=True):
    """From the session manager to the saga coordinator: this session ended; cancel its runs if so agreed."""

    id: str
    cancel_runs: bool
    reason: str


class CancelRuns(Message, frozen=True):
    """From the saga coordinator to itself: cancel the next runs of a session that ended, behind the run key `after`."""

    session_id: str
    reason: str
    after: int = 0


class PutState(Message, frozen=True):
    """Write a value of the state surface; `expect_version` 0 means that it must not exist. Replies `StateReply`."""

    scope: str
    key: str
    value: Raw
    expect_version: int | None = None
    origin: Origin = NOBODY


class DeleteState(Message, frozen=True):
    """Delete a value of the state surface. Replies `Accepted`."""

    scope: str
    key: str
    expect_version: int | None = None
    origin: Origin = NOBODY


# --- connectors and webhooks ----------------------------------------------------------------------------------------


class TakePage(Message, frozen=True):
    """Records of a source, to be taken with its cursor in one commit; None leaves the cursor where it is. `generation`
    is that of the cursor which the page was read from; `refused` is what of the page has been set aside already;
    `begins` says that it is the first of its poll.
    Replies `PageTaken`; refused with ConnectorHeld if the connector was paused or reset meanwhile."""

    connector: str
    generation: int
    deliver: Deliver
    items: list[StoredItem] = []
    refused: list[DeliveryRefused] = []
    cursor: Raw | None = None
    stream: str | None = None
    source_kind: str = "poller"
    begins: bool = False
    origin: Origin = NOBODY


class TakeWebhook(Message, frozen=True):
    """A verified delivery to a webhook. Replies `WebhookTaken`; a key that is known changes nothing."""

    webhook: str
    item: StoredItem
    deliver: Deliver
    headers: dict[str, str] = {}
    body: str | None = None
    via: str | None = None
    origin: Origin = NOBODY


class PauseConnector(Message, frozen=True):
    """Hold a connector: it polls no more until it is resumed. Replies `Accepted`."""

    name: str
    reason: str | None = None
    origin: Origin = NOBODY


class ResumeConnector(Message, frozen=True):
    """Let a paused or quarantined connector go on. Replies `Accepted`."""

    name: str
    reason: str | None = None
    origin: Origin = NOBODY


class ResetConnector(Message, frozen=True):
    """Set a connector's cursor (JSON; null reads everything anew). Replies `Accepted`."""

    name: str
    cursor: Raw = NULL
    reason: str | None = None
    origin: Origin = NOBODY


class QuarantineConnector(Message, frozen=True):
    """From a poller whose code crashed again and again. Replies `Accepted`."""

    name: str
    error: ErrorData
    crashes: int


class NoteShape(Message, frozen=True):
    """A stream's shape (JSON Schema) is taken over. Replies `Accepted`."""

    connector: str
    stream: str
    shape: Raw
    by: str | None = None


class NoteSecret(Message, frozen=True):
    """A secret is set, rotated or deleted (`action`) once this is on disk. Replies `Accepted`."""

    name: str
    action: str
    reason: str | None = None
    origin: Origin = NOBODY


# --- tokens ---------------------------------------------------------------------------------------------------------


class CreateToken(Message, frozen=True):
    """A bearer token is to count; `digest` is all that is kept of its secret. Replies `Accepted`."""

    id: str
    name: str
    role: str
    digest: str
    expires_at: int | None = None
    reason: str | None = None
    origin: Origin = NOBODY


class RevokeToken(Message, frozen=True):
    """A token (its id, or the name of one that counts) is worth nothing any more. Replies `Accepted`."""

    token: str
    reason: str | None = None
    origin: Origin = NOBODY


class ForgetRuns(Message, frozen=True):
    """Forget these runs if they ended before an instant (microseconds). Replies `Forgotten`."""

    runs: list[Candidate]
    older_than: int
    origin: Origin = NOBODY


# --- replies --------------------------------------------------------------------------------------------------------


class ProblemData(Message, frozen=True):
    """A refusal as data, where one answer holds several (the fields of a problem document)."""

    status: int
    code: str
    detail: str
    hint: str = ""


class StartedRun(Message, frozen=True):
    """One item of `StartedRuns`: the run and whether this request made it, or why not."""

    run: RunView | None = None
    created: bool = False
    problem: ProblemData | None = None


class StartedRuns(Message, frozen=True):
    """The reply to `StartRuns`, in its order."""

    items: list[StartedRun]


class Accepted(Message, frozen=True):
    """What was asked is on disk as record `seq`."""

    seq: int
    id: str


class PageTaken(Message, frozen=True):
    """A page is on disk: how many records came, were known already, and were set aside."""

    seq: int
    records: int
    repeated: int = 0
    refused: int = 0


class WebhookTaken(Message, frozen=True):
    """A delivery is on disk as record `seq`; `repeated` says that it had been before."""

    seq: int
    repeated: bool = False


class Forgotten(Message, frozen=True):
    """So many runs are forgotten, as record `seq` says."""

    seq: int
    runs: int


class SessionReply(Message, frozen=True):
    """A session after the change; `created` says whether this request made it."""

    session: SessionView
    created: bool = False
    seq: int = 0


class ApprovalReply(Message, frozen=True):
    """An approval after a vote; `decided` says whether that settled it."""

    approval: ApprovalView
    decided: bool = False
    seq: int = 0


class StateReply(Message, frozen=True):
    """A state value after the change."""

    state: StateView
    created: bool = False
    seq: int = 0


Reply = StartedRuns | Accepted | ApprovalReply | Forgotten | PageTaken | SessionReply | StateReply | WebhookTaken
