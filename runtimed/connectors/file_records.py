"""Bytes of a growing text file to whole records, sans I/O: lines, or CSV records whose quoted fields may hold newlines.

What is too long is given as a fault, with its beginning, and the next record is the one behind it. A quote that nobody
closes costs one line, not the rest of the file.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw

RECORD_MAX_BYTES = 16 * 1024 * 1024
QUOTED_MAX_BYTES = 256 * 1024
"""How far a quoted field with newlines in it may make a record reach."""
EXCERPT_BYTES = 1_000
UNCLOSED = "a quote in it is not closed"
BOM = b"\xef\xbb\xbf"


class Piece(NamedTuple):
    """A record without its newline, the offsets of its beginning and of what follows it, and what is wrong with it."""

    data: bytes
    begin: int
    end: int
    fault: str = ""


class RecordSplitter:
    """Collects chunks from `offset` on and gives the records that are whole."""

    def __init__(
        self,
        offset: int,
        *,
        quoted: bool,
        record_max_bytes: int = RECORD_MAX_BYTES,
        quoted_max_bytes: int = QUOTED_MAX_BYTES,
    ) -> None:
        self._begin = offset  # of the record that has not ended
        self._held = bytearray()
        self._looked = 0  # so many bytes of `_held` hold no end of a record
        self._quotes = 0  # in those
        self._skipped = 0  # bytes that followed `_held`, of a line that is too long to be held
        self._quoted, self._record_max, self._quoted_max = quoted, record_max_bytes, quoted_max_bytes

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """The records that this chunk completes. All of them must be taken before the next chunk."""
        if self._skipped:
            end = chunk.find(b"\n")
            self._skipped += len(chunk) if end < 0 else end
            if end < 0:
                return
            yield self._piece(bytes(self._held), len(self._held) + self._skipped + 1, self._too_long)
            chunk = chunk[end + 1 :]
            self._held, self._skipped = bytearray(), 0
        self._held += chunk
        yield from self._records()
        while len(self._held) > self._record_max:
            if not (self._quoted and self._looked):
                kept = min(EXCERPT_BYTES, self._record_max)
                self._skipped = len(self._held) - kept
                del self._held[kept:]
                self._looked = self._quotes = 0
                return
            yield self._give_up_line(0)
            yield from self._records()

    def rest(self) -> Iterator[Piece]:
        """What has no newline yet, for a file that has come to its end."""
        while self._held:
            if self._skipped:
                yield self._piece(bytes(self._held), len(self._held) + self._skipped, self._too_long)
                self._held, self._skipped = bytearray(), 0
            elif self._quoted and self._held.count(b'"') % 2 and b"\n" in self._held:
                yield self._give_up_line(0)
                yield from self._records()
            else:
                fault = UNCLOSED if self._quoted and self._held.count(b'"') % 2 else ""
                yield self._piece(bytes(self._held), len(self._held), fault)
                self._held, self._looked, self._quotes = bytearray(), 0, 0

    def _records(self) -> Iterator[Piece]:
        start = 0
        while (end := self._held.find(b"\n", start + self._looked)) >= 0:
            if self._quoted:
                self._quotes += self._held.count(b'"', start + self._looked, end)
                self._looked = end + 1 - start
                if self._quotes % 2 and self._looked <= self._quoted_max:
                    continue
                if self._quotes % 2:
                    yield self._give_up_line(start)
                    start = 0
                    continue
            fault = self._too_long if end - start > self._record_max else ""
            yield self._piece(bytes(self._held[start:end]), end + 1 - start, fault)
            start, self._looked, self._quotes = end + 1, 0, 0
        del self._held[:start]
        if not self._quoted:
            self._looked = len(self._held)

    def _give_up_line(self, start: int) -> Piece:
        """Only the first line of a record whose quotes do not end is lost: what follows is looked at anew."""
        end = self._held.find(b"\n", start)
        piece = self._piece(bytes(self._held[start:end]), end + 1 - start, UNCLOSED)
        del self._held[: end + 1]
        self._looked = self._quotes = 0
        return piece

    def _piece(self, data: bytes, size: int, fault: str) -> Piece:
        begin = self._begin
        self._begin = begin + size
        return Piece(data[:EXCERPT_BYTES] if fault else data.removesuffix(b"\r"), begin, self._begin, fault)

    @property
    def _too_long(self) -> str:
        return f"it is longer than {self._record_max:,} bytes"


class BadRecord(ValueError):
    """A record that cannot be read; the text says why."""


Parse = Callable[[bytes], Raw]
"""A record's bytes as JSON. Raises BadRecord."""


def json_parser(encoding: str) -> Parse:
    """Lines of JSON, kept as they are but for the encoding, which is always UTF-8 afterwards."""

    def parse(line: bytes) -> Raw:
        try:
            text = line.decode(encoding)
            msgspec.json.decode(text)
        except UnicodeDecodeError as error:
            raise BadRecord(f"it is not {encoding}: {error.reason}") from None
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadRecord(f"it is no JSON: {error}") from None
        return Raw(text.strip().encode())

    return parse


def csv_parser(names: Sequence[str], delimiter: str, encoding: str) -> Parse:
    """Records of CSV as JSON objects of texts, under the names of the header."""

    def parse(record: bytes) -> Raw:
        row = csv_row(record, delimiter, encoding)
        if len(row) != len(names):
            raise BadRecord(f"it has {len(row)} fields, and the header {len(names)}")
        return Raw(msgspec.json.encode(dict(zip(names, row, strict=True))))

    return parse


def csv_row(record: bytes, delimiter: str, encoding: str) -> list[str]:
    """The fields of one record. Raises BadRecord."""
    try:
        return next(csv.reader([record.decode(encoding)], delimiter=delimiter, strict=True), [])
    except UnicodeDecodeError as error:
        raise BadRecord(f"it is not {encoding}: {error.reason}") from None
    except csv.Error as error:
        raise BadRecord(f"it is no CSV: {error}") from None


def csv_header(record: bytes, delimiter: str, encoding: str) -> list[str]:
    """The names in a header. Raises BadRecord if one is empty or there twice."""
    names = [name.strip() for name in csv_row(record.removeprefix(BOM), delimiter, encoding)]
    if not names or not all(names):
        raise BadRecord("the header has a column without a name")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadRecord(f"the header has {twice[0]!r} twice")
    return names
