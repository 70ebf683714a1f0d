"""What the HTTP edge needs of the runtime, and nothing else of it: the seam between both.

The daemon's runtime has it; tests have a small one of their own. Figures are snapshots: frozen and cheap to take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Raw

from actors.connector_spec import WebhookSpec
from actors.messages import NOBODY, Accepted, Message, Origin, StartRun
from runtimed.secret_store import SecretInfo
from runtimed.tokens import Refusal
from wal.backup import Backup
from wal.liveness import Doubt
from wal.queries import Reader
from wal.tokens import TokenRow
from wal.views import ActorView, ConnectorView, RunDetail, ScheduleView

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Histogram(msgspec.Struct, frozen=True):
    """Observations in buckets: upper bounds ascending, one count a bucket, the last for what is beyond all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float = 0.0


class Health(msgspec.Struct, frozen=True):
    """How the runtime is, from memory alone. `reasons` says in sentences why it is not as it should be."""

    live: bool = True
    ready: bool = True
    started: bool = True
    reasons: list[str] = []


class RuntimeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The runtime's figures, from memory alone. What is not known (yet) is None or empty, and not exposed then."""

    version: str = ""
    journal_seq: int = 0
    runs: Mapping[tuple[str, str], int] = {}
    runs_started_total: int = 0
    runs_in_memory: int | None = None
    runs_parked: int | None = None
    step_seconds: Mapping[tuple[str, str], Histogram] = {}
    step_attempts_total: Mapping[str, int] = {}
    commit_seconds: Histogram | None = None
    commit_records: Histogram | None = None
    sqlite_wal_bytes: int | None = None
    disk_free_bytes: int | None = None
    disk_full_days: float | None = None
    backup_age_seconds: float | None = None
    queue_runs: Mapping[tuple[str, str], int] = {}
    approvals_open: int | None = None
    connector_lag_seconds: Mapping[str, float] = {}
    connector_records_total: Mapping[str, int] = {}
    connector_errors_total: Mapping[str, int] = {}
    runs_without_wake_source: int | None = None
    loop_lag_seconds: float | None = None
    trace_spans_total: Mapping[str, int] = {}


class ResetForeseen(msgspec.Struct, frozen=True):
    """What a reset would do: the cursor now and then, the records taken so far, and how many keys will be recognised,
    so that they start or signal nothing again (what is in the store is recognised by its own key in any case)."""

    name: str
    cursor: Raw
    new_cursor: Raw
    records_total: int
    keys_known: int


class CareSurface(Protocol):
    """The care for the data as handlers see it; `runtimed.care.Care` has it."""

    last_backup: Backup | None

    async def backup(self, path: str | None = None) -> Backup:
        """Take a backup."""
        ...

    def age_s(self, older_than_s: float | None) -> float:
        """How long ago a run must have ended."""
        ...

    async def forget(self, older_than_s: float | None = None, *, dry_run: bool = False, by: str | None = None) -> Any:
        """Forget ended runs; a `runtimed.care.Swept`."""
        ...

    async def unwakeable_runs(self) -> list[Doubt]:
        """The open runs that nothing will wake."""
        ...


class Feed(Protocol):
    """How far the journal is on disk."""

    @property
    def seq(self) -> int:
        """The last durable record."""
        ...

    async def wait_beyond(self, seq: int, /) -> int:
        """The mark, once a record beyond `seq` is durable; unchanged if there will be no more."""
        ...


class RuntimeSurface(Protocol):
    """The runtime as handlers see it. Errors are `RuntimedError`s and become problem documents."""

    @property
    def feed(self) -> Feed:
        """The durable high-water mark."""
        ...

    @property
    def care(self) -> CareSurface:
        """Backups, retention, the liveness check."""
        ...

    async def ask(self, command: Message, /) -> Any:
        """Send a command to the actor that owns it; what the reply tells is on disk."""
        ...

    async def read(self, query: Callable[[Reader], T], /) -> T:
        """Run a query on a read-only connection, off the loop."""
        ...

    async def settled(self, run_id: str, timeout: float, /) -> RunDetail:
        """The run once it has ended or is blocked, or as it stands after `timeout` seconds. Raises `RunNotFound`."""
        ...

    async def restart_actor(
        self, path: str, /, *, origin: Origin = NOBODY, reason: str | None = None
    ) -> ActorView | None:
        """Restart an actor, once it is recorded who asked for it; None if there is none with this path."""
        ...

    async def once(self, origin: Origin, kind: type[S], work: Callable[[], Awaitable[S]]) -> S:
        """Do the work, or give the first answer to this call's idempotency key."""
        ...

    async def once_unwritten(self, origin: Origin, work: Callable[[], Awaitable[S]]) -> S:
        """The same, with an answer that is not for the disk."""
        ...

    async def audit(self, action: str, target: str, origin: Origin, reason: str | None = None, /) -> int:
        """Record a call that no command stands for; the record's seq, which is on disk."""
        ...

    @property
    def now_us(self) -> int:
        """The time that tokens expire by, in microseconds since the epoch."""
        ...

    def check_token(self, text: bytes, /) -> TokenRow | Refusal:
        """The token that a request shows, or why it is none; from memory alone."""
        ...

    def token_counts(self, token_id: str, /) -> bool:
        """Whether a token that was right when it was shown still is; from memory alone."""
        ...

    def list_tokens(self) -> list[TokenRow]:
        """All tokens that were ever made, oldest first."""
        ...

    async def create_token(
        self, name: str, role: str, /, *, expires_in_s: float | None, reason: str | None, origin: Origin
    ) -> tuple[TokenRow, str]:
        """Make a token; the second value is its text. Raises `InvalidInput`, `TokenExists`, `SecretsRefused`."""
        ...

    async def revoke_token(self, token: str, /, *, reason: str | None, origin: Origin) -> Accepted:
        """Make a token worth nothing. Raises `TokenNotFound`."""
        ...

    def tree(self) -> list[ActorView]:
        """The supervision tree, parents before children."""
        ...

    def connectors(self) -> list[ConnectorView]:
        """The connectors and webhooks, by name; from memory alone."""
        ...

    def schedules(self) -> list[ScheduleView]:
        """All schedules, by name; from memory and point reads alone."""
        ...

    def schedule(self, name: str, /) -> ScheduleView:
        """One schedule. Raises `ScheduleNotFound`."""
        ...

    def triggered(self, name: str, /) -> StartRun:
        """The run that a schedule would start, for now. Raises `ScheduleNotFound`."""
        ...

    async def poll_connector(self, name: str, /) -> ConnectorView:
        """Let a connector poll at once; the connector as it is then. Raises `ConnectorNotFound`, `ConnectorHeld`."""
        ...

    async def preview_reset(self, name: str, cursor: Any = None, /) -> ResetForeseen:
        """What setting a cursor would do; nothing is changed. Raises `ConnectorNotFound`, `InvalidInput`."""
        ...

    @property
    def webhooks(self) -> Mapping[str, WebhookSpec]:
        """The webhooks by name."""
        ...

    def active_secrets(self, name: str, /) -> tuple[str, ...]:
        """All values of a secret that count now, the newest first. Raises `SecretMissing`, `SecretsRefused`."""
        ...

    def list_secrets(self) -> list[SecretInfo]:
        """All secrets by name, without their values."""
        ...

    async def set_secret(self, name: str, value: str, /, *, reason: str | None, origin: Origin) -> SecretInfo:
        """Give a secret a value."""
        ...

    async def rotate_secret(
        self, name: str, value: str, /, *, grace_s: float, reason: str | None, origin: Origin
    ) -> SecretInfo:
        """Give a secret a new value; the former counts for so long."""
        ...

    async def delete_secret(self, name: str, /, *, reason: str | None, origin: Origin) -> int:
        """Forget a secret; the seq of the record that says so."""
        ...

    async def rotate_master_key(self, *, reason: str | None, origin: Origin) -> int:
        """Put all secrets under another master key; how many there are."""
        ...

    def health(self) -> Health:
        """How the runtime is; from memory alone."""
        ...

    def statistics(self) -> RuntimeStatistics:
        """The runtime's figures; from memory alone."""
        ...


__all__ = [
    "Feed", "Health", "Histogram", "Reader", "RuntimeStatistics", "RuntimeSurface"
]  # fmt: skip
