"""A watched folder of CSV or JSON lines as pages of keyed records, resumable inside a file.

Files that are being written under another name and renamed, and files that only grow, are read rightly: names that
begin with a dot or end in `.part` or `.tmp` are left alone, and of a growing file whole lines are taken. A last line
without a newline is taken once the file has not changed between two polls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from typing import Annotated, Literal

import msgspec
import trio
from msgspec import Meta

from actors.connector_spec import ConnectorSpec, Page, Poll, deliver_to
from runtimed.connectors.file_places import FilesCursor
from runtimed.connectors.file_reading import Folder, Reading
from runtimed.connectors.options import read_options, wrong
from runtimed.settings import Connector


class FilesOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`path` is a pattern (`/data/in/*.csv`, `**` for folders below); `format` follows from the name's end if it is not
    said; `done` is `leave`, or `move:DIR` with DIR in each file's own folder unless it is absolute."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    format: Literal["csv", "jsonl"] | None = None
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    done: Annotated[str, Meta(pattern="^(leave|move:.+)$", description='"leave" or "move:DIR"')] = "leave"


def make(name: str, settings: Connector) -> ConnectorSpec:
    """The connector of a `kind = "files"` table. Raises ConfigError."""
    options = _checked(name, read_options(name, settings.options, FilesOptions))
    folder = Folder(options.path, options.done)

    async def source(poll: Poll[FilesCursor]) -> AsyncIterator[Page]:
        seen = await folder.scan()
        reading = Reading(poll.name, poll.cursor, seen, options.delimiter, options.encoding, settings.key)
        for file in seen:
            with closing(reading.read(file, options.format)) as steps:
                for _ in steps:
                    await trio.lowlevel.checkpoint()
                    if reading.is_full:
                        yield reading.page()
                        folder.put_away(reading.taken_whole())
        if reading.has_news:
            yield reading.page()
        folder.put_away(reading.taken_whole())
        reading.tell_troubles()

    return ConnectorSpec(
        name=name, kind="files", source=source, deliver=deliver_to(settings.deliver, settings.run_id_from),
        every=settings.every, timeout=settings.timeout, cursor_type=FilesCursor, credential=settings.credential,
    )  # fmt: skip


def _checked(name: str, options: FilesOptions) -> FilesOptions:
    try:
        as_newline = "\n".encode(options.encoding)
    except LookupError:
        raise wrong(name, "encoding", f"{options.encoding!r} is no encoding that Python knows") from None
    if as_newline != b"\n":
        raise wrong(name, "encoding", f"{options.encoding!r} does not write a newline as one byte")
    if not options.delimiter.isascii() or options.delimiter in '"\r\n':
        raise wrong(name, "delimiter", "expected one ASCII character that is no quote and no newline")
    return options
