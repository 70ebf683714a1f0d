"""Airbyte connectors: `discover` and `read` of a child process as pages of keyed records.

The cursor is what `--state` takes: a list of state messages, the last of each stream or the last global one, or the
data of a legacy state. See the Airbyte protocol, https://docs.airbyte.com/understanding-airbyte/airbyte-protocol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

import msgspec
from msgspec import Raw

from actors.connector_spec import ConnectorSpec, Page, Poll, deliver_to
from actors.errors import SourceRefused
from actors.shapes import KEY_FIELDS
from runtimed.connectors.airbyte_messages import AirbyteDialect, Catalog, Name, Stream
from runtimed.connectors.child import GRACE_S, GUARD_MARGIN_S, find_command
from runtimed.connectors.child_source import Launch, read_child
from runtimed.connectors.keys import FIELDS_MAX, key_reader
from runtimed.connectors.options import Seconds, command_of, read_options
from runtimed.connectors.scratch import Scratch, Secrets
from runtimed.escape import escape
from runtimed.settings import Connector

SyncMode = Literal["incremental", "full_refresh"]
NAMES_SHOWN_MAX = 20


class AirbyteOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`streams` are those to read, empty for all; `sync_mode` is what is asked for where a stream can do both; `env` is
    added to the environment; `grace` is the seconds from SIGTERM to SIGKILL."""

    streams: tuple[str, ...] = ()
    sync_mode: SyncMode = "incremental"
    env: dict[str, str] = {}
    grace: Seconds = GRACE_S


class Chosen(msgspec.Struct, frozen=True):
    """A stream that is read: its name in the record store, the paths of its key, and what the connector is told."""

    store_name: str
    key: list[list[str]]
    configured: dict[str, Any]
    shape: Raw


def make(name: str, settings: Connector) -> ConnectorSpec:
    """The connector of a `kind = "airbyte"` table. Raises ConfigError."""
    command_of(name, settings.command)
    options = read_options(name, settings.options, AirbyteOptions)
    return ConnectorSpec(
        name=name, kind="airbyte", source=_source(settings, options),
        deliver=deliver_to(settings.deliver, settings.run_id_from), every=settings.every,
        timeout=2 * (settings.timeout + options.grace + GUARD_MARGIN_S),  # `discover` and the first page of `read`
         ahead=True, credential=settings.credential,
    )  # fmt: skip


def _source(settings: Connector, options: AirbyteOptions) -> Any:
    async def source(poll: Poll[Any]) -> AsyncIterator[Page]:
        scratch = Scratch(poll.folder)
        try:
            command = find_command(settings.command, poll.folder)
            secrets = Secrets(poll.secret)
            environ, config = secrets.fill(options.env), secrets.fill(settings.config)

            def launch(*arguments: str) -> Launch:
                return Launch([*command, *arguments], environ, options.grace, settings.timeout, secrets.hide)

            discover = launch("discover", "--config", str(scratch.write("config.json", config)))
            catalog = await _discover(poll, discover, scratch)
            chosen = choose(catalog, options.streams, options.sync_mode, settings.key)
            if poll.shapes is not None:
                for stream in chosen.values():
                    await poll.shapes.settle(stream.store_name, stream.shape)
            dialect = AirbyteDialect(poll.cursor)
            for known, stream in chosen.items():
                dialect.expect(known, stream.store_name, key_reader(stream.key))
            configured = {"streams": [stream.configured for stream in chosen.values()]}
            arguments = [
                "read", "--config", str(scratch.write("config.json", config)),
                "--catalog", str(scratch.write("catalog.json", configured)),
            ]  # fmt: skip
            if poll.cursor is not None:
                arguments += ["--state", str(scratch.write("state.json", poll.cursor))]
            async with aclosing(read_child(poll, launch(*arguments), dialect, scratch)) as pages:  # type: ignore[type-var]
                async for page in pages:
                    yield page
        finally:
            scratch.close()

    return source


async def _discover(poll: Poll[Any], launch: Launch, scratch: Scratch) -> Catalog:
    dialect = AirbyteDialect(None)
    async with aclosing(read_child(poll, launch, dialect, scratch)) as pages:  # type: ignore[type-var]
        async for _ in pages:
            pass  # records are not expected here, and none would be known
    scratch.forget_files()
    if dialect.catalog is None:
        raise SourceRefused("`discover` ended without a catalog")
    return dialect.catalog


def choose(catalog: Catalog, wanted: tuple[str, ...], sync_mode: SyncMode, key: str | None) -> dict[Name, Chosen]:
    """The streams to read, by name. Raises SourceRefused for one that is not there, or has no key."""
    there = {stream.name for stream in catalog.streams}
    if missing := [name for name in wanted if name not in there]:
        known = ", ".join(sorted(there)[:NAMES_SHOWN_MAX])
        raise SourceRefused(f"there is no stream {missing[0]!r}; there are: {escape(known)}")
    streams = [stream for stream in catalog.streams if not wanted or stream.name in wanted]
    names = [stream.name for stream in streams]
    chosen = {}
    for stream in streams:
        plain = names.count(stream.name) == 1 or not stream.namespace
        store_name = stream.name if plain else f"{stream.namespace}.{stream.name}"
        chosen[Name(stream.name, stream.namespace)] = _configure(stream, store_name, sync_mode, key)
    return chosen


def _configure(stream: Stream, store_name: str, sync_mode: SyncMode, key: str | None) -> Chosen:
    paths = [key.split(".")] if key else list(stream.source_defined_primary_key or ())
    if not 0 < len(paths) <= FIELDS_MAX or not all(paths):
        raise SourceRefused(
            f"stream {escape(stream.name)[:100]!r} has no primary key",
            hint="Say which field tells two records apart: key = ... in the connector's table.",
        )
    modes = stream.supported_sync_modes or ["full_refresh"]
    mode = sync_mode if sync_mode in modes else modes[0]
    configured = {
        "stream": msgspec.to_builtins(stream),
        "sync_mode": mode,
        "destination_sync_mode": "append_dedup",
        "primary_key": paths,
    }
    if mode == "incremental" and stream.default_cursor_field:
        configured["cursor_field"] = stream.default_cursor_field
    shape = {**stream.json_schema, KEY_FIELDS: [".".join(path) for path in paths]}
    return Chosen(store_name, paths, configured, Raw(msgspec.json.encode(shape)))
