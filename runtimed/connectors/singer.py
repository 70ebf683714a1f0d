"""Singer taps: SCHEMA, RECORD, STATE and ACTIVATE_VERSION messages of a child process as pages of keyed records.

The cursor is the value of the last STATE, whatever it is, and is committed with the records before it. See the Singer
specification, https://github.com/singer-io/getting-started/blob/master/docs/SPEC.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Raw

from actors.connector_spec import ConnectorSpec, Page, Poll, deliver_to
from actors.errors import SourceError, SourceGarbled, SourceRefused
from actors.shapes import KEY_FIELDS
from runtimed.connectors.batch import Batch
from runtimed.connectors.child import GRACE_S, GUARD_MARGIN_S, find_command
from runtimed.connectors.child_source import Announcement, Launch, read_child
from runtimed.connectors.json_lines import decode_block
from runtimed.connectors.keys import FIELDS_MAX, NoKey, Reader, key_reader
from runtimed.connectors.options import Seconds, command_of, read_options
from runtimed.connectors.scratch import Scratch, Secrets
from runtimed.escape import escape
from runtimed.settings import Connector
from wal.records import StoredItem

GONE = "_sdc_deleted_at"
"""The column in which taps of databases say when a row was deleted."""


class SingerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`streams` are those to take, empty for all; `catalog` is handed over as `--catalog`, a path or the whole of it;
    `env` is added to the environment; `grace` is the seconds from SIGTERM to SIGKILL."""

    streams: tuple[str, ...] = ()
    catalog: str | dict[str, Any] | None = None
    env: dict[str, str] = {}
    grace: Seconds = GRACE_S


class Record(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="RECORD"):
    """One row."""

    stream: str
    record: Raw


class Schema(msgspec.Struct, frozen=True, tag_field="type", tag="SCHEMA"):
    """What rows of a stream look like, and which fields are their key."""

    stream: str
    schema: dict[str, Any]
    key_properties: list[str] | None = None


class State(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="STATE"):
    """How far the tap has come."""

    value: Raw


class ActivateVersion(msgspec.Struct, frozen=True, tag_field="type", tag="ACTIVATE_VERSION"):
    """A full table was read: rows of earlier versions are gone. Rows stay in the store, so it is only taken note of."""

    stream: str


Message = Record | Schema | State | ActivateVersion
_decoder = msgspec.json.Decoder(Message)


def make(name: str, settings: Connector) -> ConnectorSpec:
    """The connector of a `kind = "singer"` table. Raises ConfigError."""
    command_of(name, settings.command)
    options = read_options(name, settings.options, SingerOptions)
    return ConnectorSpec(
        name=name, kind="singer", source=_source(settings, options),
        deliver=deliver_to(settings.deliver, settings.run_id_from), every=settings.every,
        timeout=settings.timeout + options.grace + GUARD_MARGIN_S, ahead=True, credential=settings.credential,
    )  # fmt: skip


def _source(settings: Connector, options: SingerOptions) -> Any:
    async def source(poll: Poll[Any]) -> AsyncIterator[Page]:
        scratch = Scratch(poll.folder)
        try:
            secrets = Secrets(poll.secret)
            arguments = _arguments(poll.cursor, secrets.fill(settings.config), options.catalog, scratch)
            command = [*find_command(settings.command, poll.folder), *arguments]
            launch = Launch(command, secrets.fill(options.env), options.grace, settings.timeout, secrets.hide)
            dialect = SingerDialect(options.streams, settings.key)
            async with aclosing(read_child(poll, launch, dialect, scratch)) as pages:  # type: ignore[type-var]
                async for page in pages:
                    yield page
        finally:
            scratch.close()

    return source


def _arguments(cursor: Any, config: Any, catalog: str | dict[str, Any] | None, scratch: Scratch) -> list[str]:
    """Configuration, state and catalog as files that only we can read."""
    arguments = ["--config", str(scratch.write("config.json", config))]
    if catalog is not None:
        path = catalog if isinstance(catalog, str) else str(scratch.write("catalog.json", catalog))
        arguments += ["--catalog", path]
    if cursor is not None:
        arguments += ["--state", str(scratch.write("state.json", cursor))]
    return arguments


class _Stream:
    """A stream whose schema is settled: where its records go and how their key is read."""

    def __init__(self, items: list[Any], read_key: Reader, tells_deletes: bool) -> None:
        self.items, self.read_key, self.tells_deletes = items, read_key, tells_deletes


class _Gone(msgspec.Struct):
    at: Any = msgspec.field(default=None, name=GONE)


_gone = msgspec.json.Decoder(_Gone)


class SingerDialect:
    """What the lines of a tap mean. `streams` are those to take, empty for all; `key` takes the place of the tap's own
    key properties."""

    def __init__(self, streams: Sequence[str] = (), key: str | None = None) -> None:
        self.batch = Batch()
        self._wanted, self._key = frozenset(streams), key
        self._streams: dict[str, _Stream | None] = {}  # None: not wanted

    def take(self, block: bytes) -> Iterator[Announcement]:
        """See `Dialect.take`."""
        self.batch.grew(len(block))
        streams, seal = self._streams, self.batch.seal
        for message in decode_block(block, _decoder, "Singer"):
            if type(message) is Record:
                stream = streams.get(message.stream)
                if stream is None:
                    self._check_unwanted(message.stream)
                elif stream.tells_deletes:
                    self._take_deletable(stream, message.record)
                else:
                    try:
                        stream.items.append(StoredItem(stream.read_key(message.record), message.record))
                    except NoKey:
                        stream.items.append(message.record)  # without a key it is set aside, and the tap goes on
            elif type(message) is State:
                seal(message.value)
            elif type(message) is Schema:
                yield from self._announce(message)

    def complaint(self) -> SourceError | None:
        """A tap says what is wrong to its stderr alone."""
        return None

    def _take_deletable(self, stream: _Stream, record: Raw) -> None:
        try:
            gone = _gone.decode(record).at is not None
            stream.items.append(StoredItem(stream.read_key(record), record, gone))
        except (NoKey, msgspec.MsgspecError):
            stream.items.append(record)

    def _check_unwanted(self, stream: str) -> None:
        if stream not in self._streams:
            raise SourceGarbled(f"a record of stream {escape(stream)[:100]!r} came before its schema")

    def _announce(self, message: Schema) -> Iterator[Announcement]:
        name = message.stream
        if self._wanted and name not in self._wanted:
            self._streams[name] = None
            return
        keys = [self._key.split(".")] if self._key else [[field] for field in message.key_properties or ()]
        if not keys:
            raise SourceRefused(
                f"stream {escape(name)[:100]!r} has no key properties",
                hint="Say which field tells two records apart: key = ... in the connector's table.",
            )
        if len(keys) > FIELDS_MAX or not all(map(all, keys)):
            raise SourceRefused(f"the key of stream {escape(name)[:100]!r} is not 1 to {FIELDS_MAX} names of fields")
        shape = {**message.schema, KEY_FIELDS: [".".join(path) for path in keys]}
        yield Announcement(name, Raw(msgspec.json.encode(shape)))
        properties = message.schema.get("properties")
        tells_deletes = isinstance(properties, dict) and GONE in properties
        self._streams[name] = _Stream(self.batch.items(name), key_reader(keys), tells_deletes)
