"""What the lines of an Airbyte connector mean: records, states of all three kinds, traces, and noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.connectors.batch import Batch
from runtimed.connectors.child_source import Announcement
from runtimed.connectors.json_lines import decode_block
from runtimed.connectors.keys import NoKey, Reader
from runtimed.escape import escape
from wal.records import StoredItem

SAID_CHARACTERS_MAX = 1_000


class Name(NamedTuple):
    """A stream by its name and namespace."""

    name: str
    namespace: str | None = None


class Stream(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stream that a connector offers. What we do not know of it is not handed back."""

    name: str
    json_schema: dict[str, Any] = {}
    supported_sync_modes: list[str] | None = None
    source_defined_cursor: bool | None = None
    default_cursor_field: list[str] | None = None
    source_defined_primary_key: list[list[str]] | None = None
    namespace: str | None = None
    is_resumable: bool | None = None


class Catalog(msgspec.Struct, frozen=True):
    """The streams that a connector offers."""

    streams: list[Stream]


class _Record(msgspec.Struct, frozen=True, gc=False):
    stream: str
    data: Raw
    namespace: str | None = None


class _Descriptor(msgspec.Struct, frozen=True):
    name: str
    namespace: str | None = None


class _StreamState(msgspec.Struct, frozen=True):
    stream_descriptor: _Descriptor
    stream_state: Any = None


class _State(msgspec.Struct, frozen=True):
    type: str = "LEGACY"
    stream: _StreamState | None = None
    global_: Any = msgspec.field(default=None, name="global")
    data: Any = None


class _Error(msgspec.Struct, frozen=True):
    message: str = ""
    internal_message: str | None = None
    failure_type: str | None = None


class _Status(msgspec.Struct, frozen=True):
    stream_descriptor: _Descriptor
    status: str


class _Trace(msgspec.Struct, frozen=True):
    type: str
    error: _Error | None = None
    stream_status: _Status | None = None


class RecordMessage(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="RECORD"):
    """One row."""

    record: _Record


class StateMessage(msgspec.Struct, frozen=True, tag_field="type", tag="STATE"):
    """How far the connector has come."""

    state: _State


class CatalogMessage(msgspec.Struct, frozen=True, tag_field="type", tag="CATALOG"):
    """The answer to `discover`."""

    catalog: Catalog


class TraceMessage(msgspec.Struct, frozen=True, tag_field="type", tag="TRACE"):
    """What happens: an error, a stream's progress, an estimate."""

    trace: _Trace


class LogMessage(msgspec.Struct, frozen=True, tag_field="type", tag="LOG"):
    """Words for people."""


class SpecMessage(msgspec.Struct, frozen=True, tag_field="type", tag="SPEC"):
    """The answer to `spec`, which is not asked."""


Message = RecordMessage | StateMessage | CatalogMessage | TraceMessage | LogMessage | SpecMessage
OURS = {"RECORD", "STATE", "CATALOG", "TRACE", "LOG", "SPEC"}


class _AnyMessage(msgspec.Struct):
    type: str


_decoder = msgspec.json.Decoder(Message)
_any = msgspec.json.Decoder(_AnyMessage)


def is_noise(line: bytes) -> bool:
    """A line that is no JSON object is a log of some library (the protocol has it so), and a message of a type that we
    do not know is of a later protocol. A message that we know and cannot read is neither."""
    if not line.lstrip().startswith(b"{"):
        return True
    try:
        return _any.decode(line).type not in OURS
    except msgspec.MsgspecError:
        return False


class AirbyteDialect:
    """See `runtimed.connectors.child_source.Dialect`. `cursor` is where the connector was told to begin."""

    def __init__(self, cursor: Any) -> None:
        self.batch = Batch()
        self.catalog: Catalog | None = None
        self._known: dict[Name, tuple[list[Any], Reader]] = {}
        self._states = {_name_of(each): each for each in cursor} if isinstance(cursor, list) else {}
        self._error: SourceError | None = None
        self._statuses: dict[str, str] = {}

    def expect(self, name: Name, store_name: str, read_key: Reader) -> None:
        """A stream that was asked for."""
        self._known[name] = (self.batch.items(store_name), read_key)

    def take(self, block: bytes) -> Iterator[Announcement]:
        """See `Dialect.take`. Shapes are settled before the read, from the catalog."""
        self.batch.grew(len(block))
        known = self._known
        for message in decode_block(block, _decoder, "Airbyte", is_noise):
            if type(message) is RecordMessage:
                record = message.record
                found = known.get(Name(record.stream, record.namespace))
                if found is None:
                    raise SourceGarbled(f"a record of stream {escape(record.stream)[:100]!r}, which was not asked for")
                items, read_key = found
                try:
                    items.append(StoredItem(read_key(record.data), record.data))
                except NoKey:
                    items.append(record.data)  # without a key it is set aside, and the connector goes on
            elif type(message) is StateMessage:
                self.batch.seal(Raw(msgspec.json.encode(self._cursor_with(message.state))))
            elif type(message) is TraceMessage:
                self._trace(message.trace)
            elif type(message) is CatalogMessage:
                self.catalog = message.catalog
        yield from ()

    def complaint(self) -> SourceError | None:
        """The error that it traced, or the stream that it said it could not finish."""
        if self._error is not None:
            return self._error
        broken = [name for name, status in self._statuses.items() if status == "INCOMPLETE"]
        return SourceError(f"stream {escape(broken[0])[:100]!r} ended incomplete") if broken else None

    def _cursor_with(self, state: _State) -> Any:
        """What `--state` takes next time. A stream's state is kept beside those of the others; a global one and a
        legacy one are the whole of it."""
        if state.type == "STREAM" and state.stream is not None:
            made = {"type": "STREAM", "stream": msgspec.to_builtins(state.stream)}
            self._states[_name_of(made)] = made
            return list(self._states.values())
        if state.type == "GLOBAL":
            self._states = {}
            return [{"type": "GLOBAL", "global": state.global_}]
        return state.data

    def _trace(self, trace: _Trace) -> None:
        if trace.type == "ERROR" and trace.error is not None:
            said = escape(trace.error.message or trace.error.internal_message or "no reason given")
            kind = SourceRefused if trace.error.failure_type == "config_error" else SourceError
            self._error = kind(said[:SAID_CHARACTERS_MAX])
        elif trace.type == "STREAM_STATUS" and trace.stream_status is not None:
            self._statuses[trace.stream_status.stream_descriptor.name] = trace.stream_status.status


def _name_of(state: Any) -> Name:
    """The stream that a state in the cursor's list is of; a global one has no name."""
    try:
        descriptor = state["stream"]["stream_descriptor"]
        return Name(descriptor["name"], descriptor.get("namespace"))
    except (KeyError, TypeError):
        return Name("")
