"""Errors of the runtime, each with whose fault it is, its HTTP status, its problem code and what to do.

Standard library only: the client and the command line load this module too.
"""

from __future__ import annotations

from typing import Any

from wal.errors import RuntimedError

# --- the caller's fault ---------------------------------------------------------------------------------------------


class InvalidInput(RuntimedError):
    """What was sent does not have the expected shape; the message names the path and what was expected."""

    status = 400
    code = "invalid_input"
    exit_code = 2


class InvalidId(InvalidInput):
    """An id is 1 to 200 characters of A-Z a-z 0-9 . _ : -"""

    code = "invalid_id"


class PayloadTooLarge(RuntimedError):
    """A value is larger than `limits.payload_max_bytes`."""

    status = 413
    code = "payload_too_large"
    exit_code = 2
    hint = "Store the data elsewhere and pass a reference, or raise limits.payload_max_bytes."


class NotFound(RuntimedError):
    """There is no such thing."""

    status = 404
    code = "not_found"
    exit_code = 4


class RunNotFound(NotFound):
    """There is no run with this id."""

    code = "run_not_found"


class UnknownWorkflow(NotFound):
    """No workflow of this name is registered."""

    code = "unknown_workflow"
    hint = "Check the name, and that its app is loaded (daemon.apps)."


class SessionNotFound(NotFound):
    """There is no session with this id."""

    code = "session_not_found"


class Conflict(RuntimedError):
    """The request contradicts what is already recorded."""

    status = 409
    code = "conflict"
    exit_code = 5


class IdConflict(Conflict):
    """This id exists with another workflow or another input."""

    code = "id_conflict"
    hint = "Use another id, or send the same input again to get the existing one."


class ForkRefused(Conflict):
    """No other run can begin with the past of this one up to there."""

    code = "fork_refused"


class RunEnded(Conflict):
    """The run has ended; it takes nothing more."""

    code = "run_ended"


class ApprovalNotFound(NotFound):
    """There is no approval with this id."""

    code = "approval_not_found"


class ApprovalClosed(Conflict):
    """Nobody can decide this approval any more."""

    code = "approval_closed"


class StaleApproval(Conflict):
    """The decision was made about something else than what is asked now."""

    code = "stale_payload"
    hint = "Look at the approval again and decide anew."


class AlreadyVoted(Conflict):
    """This person has voted already; a quorum needs different people."""

    code = "already_voted"


class NotBlocked(Conflict):
    """Only a blocked run can be retried or resolved."""

    code = "not_blocked"


class SessionEnded(Conflict):
    """The session is closed or expired."""

    code = "session_ended"


class KeyReused(RuntimedError):
    """This Idempotency-Key was used for another request."""

    status = 422
    code = "idempotency_key_reused"
    exit_code = 5
    hint = "A key names one request; take a new key for a new request."


class VersionConflict(RuntimedError):
    """The value has another version than expected."""

    status = 412
    code = "version_conflict"
    exit_code = 5
    hint = "Read the value again and decide anew."


class NotAllowed(RuntimedError):
    """The caller may not do this."""

    status = 403
    code = "not_allowed"
    exit_code = 6


class DuplicateName(RuntimedError):
    """Two things of one app have the same name."""

    code = "duplicate_name"
    exit_code = 78
    hint = "Give one of them another name=."


class DefinitionError(RuntimedError):
    """A step, workflow or app is declared in a way that cannot work."""

    code = "definition"
    exit_code = 78


class ConnectorNotFound(NotFound):
    """There is no connector with this name."""

    code = "connector_not_found"


class ScheduleNotFound(NotFound):
    """There is no schedule with this name."""

    code = "schedule_not_found"


class WebhookNotFound(NotFound):
    """There is no webhook with this name."""

    code = "webhook_not_found"


class StreamNotFound(NotFound):
    """The record store has no stream of this name."""

    code = "stream_not_found"


class ConnectorHeld(Conflict):
    """The connector is paused, quarantined, or was reset meanwhile; nothing of the page was taken."""

    code = "connector_held"
    hint = "Look at it with `runtimed connectors show`; `runtimed connectors resume` lets it go on."


class BadSignature(RuntimedError):
    """The webhook's signature does not fit its body, or is too old."""

    status = 401
    code = "bad_signature"
    exit_code = 6
    hint = "Check the webhook's secret on both sides, and the clocks."


class TokenNotFound(NotFound):
    """There is no token with this id, and none that counts with this name."""

    code = "token_not_found"
    hint = "List them: `runtimed token list`."


class TokenExists(Conflict):
    """A token with this name counts already."""

    code = "token_exists"
    hint = "Revoke that one first, or choose another name."


class SecretMissing(RuntimedError):
    """A secret that the configuration refers to is not there."""

    status = 503
    code = "secret_missing"
    exit_code = 78
    hint = "Set it with `runtimed secret set NAME`."


class SecretsRefused(RuntimedError):
    """The secrets' file or its master key cannot be used: open to others, damaged, or not there."""

    status = 503
    code = "secrets_refused"
    exit_code = 78


class NotificationFailed(RuntimedError):
    """A message could not be handed to its receiver; it is tried again later."""

    status = 502
    code = "notification_failed"
    exit_code = 75


class NotificationRefused(NotificationFailed):
    """The receiver will not take this message, or there is none: trying again does not help."""

    code = "notification_refused"
    hint = "Look at the receiver's log, and at url and secret in [notifications.NAME]."


# --- the source's fault ---------------------------------------------------------------------------------------------


class SourceError(RuntimedError):
    """A source did not give what it should; it is asked again later. `retry_after_s` is what it said itself."""

    status = 502
    code = "source"
    exit_code = 75
    retry_after_s: float | None = None

    def __init__(self, message: str = "", *, hint: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class SourceRefused(SourceError):
    """The source does not let us in, or does not know what was asked: asking again will not help by itself."""

    code = "source_refused"


class SourceGarbled(SourceError):
    """The source gave something that cannot be what it meant: broken JSON, a page that repeats, a cursor that goes
    back. Nothing of it was taken."""

    code = "source_garbled"


class SchemaNarrowed(SourceError):
    """A stream announces less than it had before; a person has to say whether that is meant."""

    code = "schema_narrowed"


# --- the system's state ---------------------------------------------------------------------------------------------


class MailboxFull(RuntimedError):
    """An actor's mailbox is at its limit: the runtime is overloaded."""

    status = 503
    code = "overloaded"
    exit_code = 75
    hint = "Try again later; Retry-After says when."


class ActorRestarted(RuntimedError):
    """The actor restarted before it answered: the outcome of the request is unknown."""

    status = 503
    code = "actor_restarted"
    exit_code = 75
    hint = "Send the request again with the same id or Idempotency-Key."


class Draining(RuntimedError):
    """The daemon is stopping and takes nothing new."""

    status = 503
    code = "draining"
    exit_code = 75
    hint = "Try again after the restart."


class Overloaded(RuntimedError):
    """Too much is open at once; nothing was recorded."""

    status = 503
    code = "overloaded"
    exit_code = 75
    hint = "Try again later."


class HistoryUnreadable(RuntimedError):
    """The history of a run could not be read for a minute, though no damage is seen; the process must end."""

    status = 503
    code = "history_unreadable"
    exit_code = 75
    hint = "Look at the disk, memory and open files: `runtimed doctor`; the log names the run and the cause."


class SupervisionFailed(RuntimedError):
    """A supervisor gave up: restarts exceeded their limit, or cannot help; the process must end.

    `path` is the actor, `restarts` how often it and its neighbours were restarted before; `fatal` says that no
    restart further up can help either. The cause is chained.
    """

    code = "supervision_failed"
    exit_code = 1

    def __init__(self, message: str = "", *, path: str = "", restarts: int = 0, fatal: bool = False) -> None:
        super().__init__(message)
        self.path, self.restarts, self.fatal = path, restarts, fatal


# --- how a run ended, for whoever waits for its result --------------------------------------------------------------


class RunOutcome(RuntimedError):
    """Base: the run did not end with a result. `run_id`, `type`, `step` say more."""

    status = 409

    def __init__(self, message: str = "", *, run_id: str = "", type: str = "", step: str | None = None) -> None:
        super().__init__(message)
        self.run_id, self.type, self.step = run_id, type, step


class RunFailed(RunOutcome):
    """The run failed."""

    code = "run_failed"
    exit_code = 20


class RunCancelled(RunOutcome):
    """The run was cancelled."""

    code = "run_cancelled"
    exit_code = 21


class RunBlocked(RunOutcome):
    """The run is blocked and needs a person."""

    code = "run_blocked"
    exit_code = 22
    hint = "See `runtimed runs explain`; mend the cause, then `runtimed runs retry`."


# --- inside a workflow ----------------------------------------------------------------------------------------------


class Failure(RuntimedError):
    """Base of what may fail a run: an exception of this kind that leaves a workflow compensates it."""

    status = 409
    code = "failure"


class StepFailed(Failure):
    """A step failed for good. `step` is its name, `cause_type` and the message are those of the exception."""

    code = "step_failed"

    def __init__(self, message: str = "", *, step: str = "", cause_type: str = "", attempt: int = 1) -> None:
        super().__init__(message)
        self.step, self.cause_type, self.attempt = step, cause_type, attempt


class ChildFailed(Failure):
    """A child run did not end with a result. `status` is `failed`, `cancelled`, or `refused` if it could not start."""

    code = "child_failed"

    def __init__(self, message: str = "", *, child_id: str = "", status: str = "", cause_type: str = "") -> None:
        super().__init__(message)
        self.child_id, self.status_of_child, self.cause_type = child_id, status, cause_type


class Rejected(Failure):
    """A person refused. `decision` is the decision, whose `by` and `reason` the message tells."""

    code = "rejected"

    def __init__(self, decision: Any = None) -> None:
        super().__init__(_refusal(decision)[:500])
        self.decision = decision


def _refusal(decision: Any) -> str:
    """A decision in words: who refused and why. It is not imported here (the client loads this file), only read."""
    if decision is None:
        return "refused"
    if not hasattr(decision, "by"):
        return f"refused: {decision}"
    if decision.by is None:
        return "refused: nobody answered in time"
    return f"refused by {decision.by}" + (f": {decision.reason}" if decision.reason else "")


class SignalTimeout(Failure, TimeoutError):
    """No signal came in time."""

    code = "timeout"


class ForeignAwait(RuntimedError):
    """A workflow may await only ctx: it ran into another library's await or scope."""

    code = "foreign_await"
    hint = "Move the call into a step; workflows await only ctx."


class Nondeterminism(RuntimedError):
    """The code asks for something else than what is recorded."""

    code = "nondeterminism"
    hint = "Bring the old code back, or guard the change with ctx.patched(...)."
