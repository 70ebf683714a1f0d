"""Connectors and webhooks as they are declared: what to read, how often, by which key, what becomes of each record.

Pure data. `@app.connector`, `@app.webhook` and the configuration's tables all come to a `ConnectorSpec` or a
`WebhookSpec`; what polls is `actors/connector_poller.py`.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import msgspec

from actors.errors import DefinitionError

if TYPE_CHECKING:  # a workflow declares itself in a module that imports this one
    from actors.flow.definitions import Workflow

Cursor = TypeVar("Cursor")
DeliverKind = Literal["records", "workflow", "signal"]
PAGE_RECORDS_MAX = 1_000
"""Records that one commit takes; a longer page is taken in pieces, and the cursor moves with the last of them."""
PAGE_EFFECTS_MAX = 200
"""The same where each record starts or signals a run: some 30 microseconds each, in which nobody else has a turn."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some records of a source, and how far the source has been read once they are taken.

    `cursor` is None where this page does not move it (the cursor must never pass a value that may still get records).
    `more` says that the next page is there already: the next poll begins at once. `stream` names where in the record
    store they go (default: the connector's own). `deleted` are keys that the source says are gone.
    """

    records: Sequence[Any] = ()
    cursor: Any = None
    more: bool = False
    stream: str | None = None
    deleted: Sequence[str] = ()


class Shapes(Protocol):
    """What is known of the shapes (JSON Schema) of one connector's streams."""

    async def settle(self, stream: str, shape: msgspec.Raw) -> None:
        """A stream announces this shape: one that is new or wider is taken over, durably. Raises SchemaNarrowed for
        one that takes something away; then the connector is paused and a person is asked."""


class Poll(Generic[Cursor]):
    """What a poller is given each time: where it stands, and what it may use.

    `cursor` is None at first. `http` is a client that keeps to the rate budget, obeys Retry-After and turns failures
    into `SourceError`s; `secret(name)` gives a secret's value; `log` writes to the daemon's log. `shapes` settles what
    a source says about its streams; `folder` is one of the connector's own under the data folder (it may not exist).
    """

    def __init__(
        self,
        *,
        name: str,
        cursor: Cursor | None,
        http: Any = None,
        log: Any = None,
        secret: Callable[[str], str] | None = None,
        options: Mapping[str, Any] | None = None,
        shapes: Shapes | None = None,
        folder: Any = None,  # a pathlib.Path: the pure core imports this module, and knows no file system
        open_http: Callable[[], Any] | None = None,
    ) -> None:
        self.name, self.cursor, self.log = name, cursor, log
        self.shapes, self.folder = shapes, folder
        self.secret, self.options = secret, options or {}
        self._http, self._open_http = http, open_http

    @property
    def http(self) -> Any:
        """The HTTP client; it is opened when it is first asked for, because to load one takes a tenth of a second."""
        if self._http is None and self._open_http is not None:
            self._http = self._open_http()
        return self._http

    async def rest(self) -> None:
        """The poll is over: connections of the client that would only grow stale until the next one are closed."""
        if self._http is not None and self._open_http is not None:
            await self._http.rest()


class Deliver(msgspec.Struct, frozen=True):
    """What becomes of a record: it goes into the record store, starts a run of workflow `name` (id
    `<connector>:<key>`), or is the signal `name` to the run that its field `run_id_from` names."""

    kind: DeliverKind = "records"
    name: str = ""
    run_id_from: str | None = None

    def __str__(self) -> str:
        return self.kind if self.kind == "records" else f"{self.kind}:{self.name}"


class ConnectorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A connector whole. `source(poll)` is an async iterator of `Page`; `every` and `timeout` are seconds, the latter
    between two pages. `key` is the path of the dedup key in a record (`id`, `data.id`); None only where the source
    itself gives keyed items. With `ahead`, the source goes on while its page is on its way to the disk, else only when
    it is there. What shares a `credential` shares a rate budget of `rate` requests a `rate_period`. `due_us(now)`, in
    microseconds since 1970, names the instant of the next poll where that is one of the clock's; `every` bounds it."""

    name: str
    source: Callable[[Poll[Any]], AsyncIterator[Page]]
    deliver: Deliver
    kind: str = "poller"
    every: float = 30.0
    key: str | None = None
    cursor_type: Any = Any
    timeout: float = 60.0
    ahead: bool = False
    credential: str | None = None
    rate: int | None = None
    rate_period: float = 1.0
    options: Mapping[str, Any] = {}
    due_us: Callable[[int], int | None] | None = None


Verify = Literal["stripe", "hubspot_v3", "github", "standard", "none"]


class WebhookSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook whole. `secrets` are all active (`secret:NAME`, or the text itself in tests); `key` is the path of the
    delivery's id in the body, None for the provider's own header; `tolerance` is seconds."""

    name: str
    deliver: Deliver
    verify: Verify = "standard"
    secrets: tuple[str, ...] = ()
    key: str | None = None
    tolerance: float = 300.0
    keep_headers: tuple[str, ...] = ()
    keep_body: bool = False


def deliver_to(target: Workflow | str, run_id_from: str | None = None) -> Deliver:
    """What `deliver =` says: a workflow, `workflow:NAME`, `signal:NAME` or `records`. Raises DefinitionError."""
    if not isinstance(target, str):
        return Deliver("workflow", target.name)
    kind, _, name = target.partition(":")
    if target == "records":
        return Deliver()
    if kind == "workflow" and name:
        return Deliver("workflow", name)
    if kind == "signal" and name:
        if not run_id_from:
            raise DefinitionError(f"deliver {target!r} needs run_id_from: the field that names the run")
        return Deliver("signal", name, run_id_from)
    raise DefinitionError(f"deliver {target!r} is not a workflow, 'workflow:NAME', 'signal:NAME' or 'records'")


def cursor_type_of(fn: Callable[..., Any]) -> Any:
    """The type in `poll: Poll[int]`; Any where nothing is said. Raises DefinitionError for a wrong signature."""
    parameters = list(inspect.signature(fn).parameters.values())
    if not inspect.isasyncgenfunction(fn) or len(parameters) != 1:
        raise DefinitionError(
            f"connector {fn.__name__} is not `async def {fn.__name__}(poll)` that yields pages",
            hint="It takes one poll, and has at least one `yield runtimed.Page(...)`.",
        )
    try:
        hint = typing.get_type_hints(fn, include_extras=True).get(parameters[0].name)
    except Exception as error:  # whatever a user's annotation raises is a wrong declaration
        raise DefinitionError(f"{fn.__name__}: its annotations do not resolve: {error}") from error
    arguments = typing.get_args(hint)
    return arguments[0] if arguments else Any


def check_timing(name: str, every: float, timeout: float) -> None:
    """Raise DefinitionError unless both are above 0 seconds."""
    for label, seconds in (("every", every), ("timeout", timeout)):
        if not seconds > 0:  # also what is no number
            raise DefinitionError(f"connector {name}: {label} {seconds!r} is not above 0 seconds")


SecretSource = Callable[[str], str]
"""Gives the value of a secret by its name; raises SecretMissing."""

Ask = Callable[[Any], Awaitable[Any]]
