"""Durable execution for one host. This is the only name that users import.

Everything is re-exported from where it is defined, when it is first asked for: `import runtimed.client` must not load
trio and the journal, and nothing is started by an import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.connector_spec import Page as Page
    from actors.connector_spec import Poll as Poll
    from actors.current_step import CurrentStep as CurrentStep
    from actors.current_step import StepUnwanted as StepUnwanted
    from actors.current_step import current_step as current_step
    from actors.errors import ActorRestarted as ActorRestarted
    from actors.errors import AlreadyVoted as AlreadyVoted
    from actors.errors import ApprovalClosed as ApprovalClosed
    from actors.errors import ApprovalNotFound as ApprovalNotFound
    from actors.errors import BadSignature as BadSignature
    from actors.errors import ChildFailed as ChildFailed
    from actors.errors import Conflict as Conflict
    from actors.errors import ConnectorHeld as ConnectorHeld
    from actors.errors import ConnectorNotFound as ConnectorNotFound
    from actors.errors import DefinitionError as DefinitionError
    from actors.errors import Draining as Draining
    from actors.errors import DuplicateName as DuplicateName
    from actors.errors import Failure as Failure
    from actors.errors import ForeignAwait as ForeignAwait
    from actors.errors import ForkRefused as ForkRefused
    from actors.errors import HistoryUnreadable as HistoryUnreadable
    from actors.errors import IdConflict as IdConflict
    from actors.errors import InvalidId as InvalidId
    from actors.errors import InvalidInput as InvalidInput
    from actors.errors import KeyReused as KeyReused
    from actors.errors import MailboxFull as MailboxFull
    from actors.errors import Nondeterminism as Nondeterminism
    from actors.errors import NotAllowed as NotAllowed
    from actors.errors import NotBlocked as NotBlocked
    from actors.errors import NotFound as NotFound
    from actors.errors import NotificationFailed as NotificationFailed
    from actors.errors import NotificationRefused as NotificationRefused
    from actors.errors import Overloaded as Overloaded
    from actors.errors import PayloadTooLarge as PayloadTooLarge
    from actors.errors import Rejected as Rejected
    from actors.errors import RunBlocked as RunBlocked
    from actors.errors import RunCancelled as RunCancelled
    from actors.errors import RunEnded as RunEnded
    from actors.errors import RunFailed as RunFailed
    from actors.errors import RunNotFound as RunNotFound
    from actors.errors import RunOutcome as RunOutcome
    from actors.errors import ScheduleNotFound as ScheduleNotFound
    from actors.errors import SchemaNarrowed as SchemaNarrowed
    from actors.errors import SecretMissing as SecretMissing
    from actors.errors import SecretsRefused as SecretsRefused
    from actors.errors import SessionEnded as SessionEnded
    from actors.errors import SessionNotFound as SessionNotFound
    from actors.errors import SignalTimeout as SignalTimeout
    from actors.errors import SourceError as SourceError
    from actors.errors import SourceGarbled as SourceGarbled
    from actors.errors import SourceRefused as SourceRefused
    from actors.errors import StaleApproval as StaleApproval
    from actors.errors import StepFailed as StepFailed
    from actors.errors import StreamNotFound as StreamNotFound
    from actors.errors import SupervisionFailed as SupervisionFailed
    from actors.errors import TokenExists as TokenExists
    from actors.errors import TokenNotFound as TokenNotFound
    from actors.errors import UnknownWorkflow as UnknownWorkflow
    from actors.errors import VersionConflict as VersionConflict
    from actors.errors import WebhookNotFound as WebhookNotFound
    from actors.flow.approval import Decision as Decision
    from actors.flow.calls import Cancelled as Cancelled
    from actors.flow.context import Context as Context
    from actors.flow.definitions import App as App
    from actors.flow.definitions import Retry as Retry
    from actors.transaction import Transaction as Transaction
    from runtimed.builtin import notify as notify
    from runtimed.client import Client as Client
    from runtimed.client_errors import BadAnswer as BadAnswer
    from runtimed.client_errors import DaemonUnreachable as DaemonUnreachable
    from runtimed.client_errors import TimedOut as TimedOut
    from runtimed.client_runs import NewRun as NewRun
    from runtimed.config_layers import ConfigError as ConfigError
    from runtimed.loading import LoadError as LoadError
    from runtimed.opening import open_runtime as open_runtime
    from runtimed.runtime import Handle as Handle
    from runtimed.runtime import Runtime as Runtime
    from wal.errors import BackupExists as BackupExists
    from wal.errors import BackupRefused as BackupRefused
    from wal.errors import BadCursor as BadCursor
    from wal.errors import CheckpointFailed as CheckpointFailed
    from wal.errors import CommitFailed as CommitFailed
    from wal.errors import FrameRefused as FrameRefused
    from wal.errors import JournalBusy as JournalBusy
    from wal.errors import JournalCorrupt as JournalCorrupt
    from wal.errors import JournalError as JournalError
    from wal.errors import JournalExists as JournalExists
    from wal.errors import JournalLocked as JournalLocked
    from wal.errors import JournalRefused as JournalRefused
    from wal.errors import RuntimedError as RuntimedError
    from wal.errors import SqliteUnsafe as SqliteUnsafe
    from wal.errors import WriterGone as WriterGone

_HOMES: dict[str, tuple[str, ...]] = {
    "actors.current_step": (
        "CurrentStep",
        "StepUnwanted",
        "current_step",
    ),
    "actors.connector_spec": (
        "Page",
        "Poll",
    ),
    "actors.errors": (
        "ActorRestarted",
        "AlreadyVoted",
        "ApprovalClosed",
        "ApprovalNotFound",
        "BadSignature",
        "ChildFailed",
        "Conflict",
        "ConnectorHeld",
        "ConnectorNotFound",
        "DefinitionError",
        "Draining",
        "DuplicateName",
        "Failure",
        "ForeignAwait",
        "HistoryUnreadable",
        "IdConflict",
        "InvalidId",
        "InvalidInput",
        "KeyReused",
        "MailboxFull",
        "Nondeterminism",
        "NotAllowed",
        "ForkRefused",
        "NotBlocked",
        "NotFound",
        "NotificationFailed",
        "NotificationRefused",
        "Overloaded",
        "PayloadTooLarge",
        "Rejected",
        "RunBlocked",
        "RunCancelled",
        "RunEnded",
        "RunFailed",
        "RunNotFound",
        "RunOutcome",
        "ScheduleNotFound",
        "SchemaNarrowed",
        "SecretMissing",
        "SecretsRefused",
        "SessionEnded",
        "SessionNotFound",
        "SignalTimeout",
        "SourceError",
        "SourceGarbled",
        "SourceRefused",
        "StaleApproval",
        "StepFailed",
        "StreamNotFound",
        "TokenExists",
        "TokenNotFound",
        "SupervisionFailed",
        "UnknownWorkflow",
        "VersionConflict",
        "WebhookNotFound",
    ),
    "actors.flow.approval": ("Decision",),
    "actors.flow.calls": ("Cancelled",),
    "actors.flow.context": ("Context",),
    "actors.flow.definitions": (
        "App",
        "Retry",
    ),
    "actors.transaction": ("Transaction",),
    "runtimed.builtin": ("notify",),
    "runtimed.client": ("Client",),
    "runtimed.client_errors": (
        "BadAnswer",
        "DaemonUnreachable",
        "TimedOut",
    ),
    "runtimed.client_runs": ("NewRun",),
    "runtimed.config_layers": ("ConfigError",),
    "runtimed.loading": ("LoadError",),
    "runtimed.runtime": (
        "Handle",
        "Runtime",
    ),
    "runtimed.opening": ("open_runtime",),
    "wal.errors": (
        "BackupExists",
        "BackupRefused",
        "BadCursor",
        "CheckpointFailed",
        "CommitFailed",
        "FrameRefused",
        "JournalBusy",
        "JournalCorrupt",
        "JournalError",
        "JournalExists",
        "JournalLocked",
        "JournalRefused",
        "RuntimedError",
        "SqliteUnsafe",
        "WriterGone",
    ),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_WHERE]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "models":  # a module, which users name as `runtimed.models`
        return import_module("runtimed.models")
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'runtimed' has no attribute {name!r}")
    value = getattr(import_module(where), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
