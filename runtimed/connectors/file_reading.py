"""The hands of a watched folder: which files there are, their records as items, and where they go when done."""

from __future__ import annotations

import glob
import os
from collections.abc import Generator, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import trio
from msgspec import Raw

from actors.connector_spec import PAGE_RECORDS_MAX, Page
from actors.errors import SourceError, SourceRefused
from runtimed.connectors.file_places import CHECK_BYTES, FILES_MAX, FilesCursor, Places, Resume, Seen, check_of
from runtimed.connectors.file_records import (
    BOM,
    EXCERPT_BYTES,
    BadRecord,
    Parse,
    Piece,
    RecordSplitter,
    csv_header,
    csv_parser,
    json_parser,
)
from runtimed.connectors.keys import NoKey, key_reader
from runtimed.escape import escape
from wal.records import DeliveryRefused, StoredItem

CHUNK_BYTES = 128 * 1024
"""Read on the loop: from the page cache that takes some 20 microseconds."""
PAGE_BYTES_MAX = 4 * 1024 * 1024
SCAN_STEP = 100
"""After so many names of a folder, others get their turn."""
NAMES_TRIED_MAX = 1_000
PARTIAL = (".part", ".tmp")

Format = Literal["csv", "jsonl"]


class Folder:
    """The files that match a pattern, and where those go that were read whole."""

    def __init__(self, pattern: str, done: str) -> None:
        self._pattern = pattern
        self._target = done.removeprefix("move:") if done.startswith("move:") else None

    async def scan(self) -> list[Seen]:
        """The files that match, oldest first. Raises SourceRefused for more than `FILES_MAX`."""
        seen = []
        for number, path in enumerate(glob.iglob(self._pattern, recursive=True)):
            if number % SCAN_STEP == 0:
                await trio.lowlevel.checkpoint()
            if (file := self._look(path)) is not None:
                seen.append(file)
            if len(seen) > FILES_MAX:
                raise SourceRefused(
                    f"more than {FILES_MAX:,} files match {escape(self._pattern)}",
                    hint='Have files moved when they were read: done = "move:done".',
                )
        return sorted(seen, key=lambda file: (file.mtime_ns, file.path))

    def _look(self, path: str) -> Seen | None:
        path, name = os.path.abspath(path), os.path.basename(path)
        if name.startswith(".") or name.endswith(PARTIAL):
            return None
        if self._target is not None and f"{os.path.dirname(path)}/".endswith(f"/{self._target.strip('/')}/"):
            return None  # it was put there
        try:
            stat = os.stat(path)
        except OSError:
            return None  # it left the folder while it was listed
        return Seen(path, stat.st_ino, stat.st_size, stat.st_mtime_ns) if os.path.isfile(path) else None

    def put_away(self, files: Iterable[Seen]) -> None:
        """Move files that were read whole, and whose records are on disk, if that is wanted. One that was written to
        meanwhile stays. Raises OSError."""
        if self._target is None:
            return
        for file in files:
            path = Path(file.path)
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # somebody else was faster
            if (stat.st_ino, stat.st_size, stat.st_mtime_ns) == file[1:]:
                folder = path.parent / self._target
                folder.mkdir(exist_ok=True)
                path.rename(_free_name(folder, path.name))


def _free_name(folder: Path, name: str) -> Path:
    for number in range(NAMES_TRIED_MAX):
        path = folder / (f"{name}.{number}" if number else name)
        if not path.exists():
            return path
    raise SourceRefused(f"{folder} holds {NAMES_TRIED_MAX:,} files of the name {name} already: clear it")


class Reading:
    """One poll of a folder: the records of file after file, collected into pages with the cursor of each."""

    def __init__(
        self,
        connector: str,
        cursor: FilesCursor | None,
        seen: list[Seen],
        delimiter: str,
        encoding: str,
        key: str | None,
    ) -> None:
        self._connector, self._delimiter, self._encoding = connector, delimiter, encoding
        self._read_key = key_reader([key.split(".")]) if key else None
        self._key = key
        self._places = Places(cursor, seen)
        self._records: list[Any] = []
        self._bytes = 0
        self._whole: list[Seen] = []
        self._troubles: list[str] = []

    # --- pages

    @property
    def is_full(self) -> bool:
        """Whether it is time for a page."""
        return len(self._records) >= PAGE_RECORDS_MAX or self._bytes >= PAGE_BYTES_MAX

    @property
    def has_news(self) -> bool:
        """Whether there is anything to hand on: records, or that files were read."""
        return bool(self._records) or self._places.changed

    def page(self) -> Page:
        """What was collected, with how far all files have been read by it."""
        page = Page(records=self._records, cursor=self._places.cursor())
        self._records, self._bytes, self._places.changed = [], 0, False
        return page

    def taken_whole(self) -> list[Seen]:
        """The files that were read to their end since this was last asked."""
        files, self._whole = self._whole, []
        return files

    def tell_troubles(self) -> None:
        """Raise SourceError if a file could not be read; the others were."""
        if self._troubles:
            raise SourceError("; ".join(self._troubles[:3]))

    # --- one file

    def read(self, file: Seen, format: Format | None) -> Generator[None]:
        """Collect the records of a file from where it stands, a step at a time."""
        resume = self._places.resume(file)
        if resume is None:
            self._whole.append(file)  # a crash came between its last page and its move
            return
        try:
            with open(file.path, "rb", buffering=0) as opened:
                if os.fstat(opened.fileno()).st_ino == file.inode:  # else it was replaced; the next poll sees it
                    yield from self._read_opened(opened, file, self._checked(opened, resume), format)
        except OSError as error:
            self._troubles.append(f"{escape(file.path)} cannot be read: {error.strerror}")

    def _checked(self, opened: BinaryIO, resume: Resume) -> Resume:
        """The same, or the beginning if what was read before is not there any more."""
        if resume.offset and _check_before(opened, resume.offset) != resume.check:
            return Resume(0, False, "")
        return resume

    def _read_opened(self, opened: BinaryIO, file: Seen, resume: Resume, format: Format | None) -> Iterator[None]:
        is_csv = format == "csv" or (format is None and file.path.endswith(".csv"))
        offset, parse = resume.offset, json_parser(self._encoding)
        if is_csv:
            header = None
            try:
                header = self._header(opened, file, resume.is_final)
                if header is None:
                    self._places.note(file, 0, "")
                    return
                names = csv_header(header.data, self._delimiter, self._encoding)
                if self._key is not None and self._key not in names:
                    raise BadRecord(f"the header has no {self._key!r}, which is to be the key")
            except BadRecord as error:
                self._set_aside(file, header or Piece(b"", 0, 0), f"nothing of the file is taken: {error}")
                self._places.note(file, file.size, _check_before(opened, file.size))
                return
            parse, offset = csv_parser(names, self._delimiter, self._encoding), max(offset, header.end)
        yield from self._read_records(opened, file, RecordSplitter(offset, quoted=is_csv), offset, resume, parse)

    def _header(self, opened: BinaryIO, file: Seen, is_final: bool) -> Piece | None:
        splitter, found = RecordSplitter(0, quoted=True), None
        for place in range(0, file.size, CHUNK_BYTES):
            chunk = os.pread(opened.fileno(), min(CHUNK_BYTES, file.size - place), place)
            if (found := next(splitter.feed(chunk), None)) is not None:
                break
        if found is None and is_final:
            found = next(splitter.rest(), None)
        if found is not None and found.fault:
            raise BadRecord(f"in its header, {found.fault}")
        return found

    def _read_records(
        self, opened: BinaryIO, file: Seen, splitter: RecordSplitter, offset: int, resume: Resume, parse: Parse
    ) -> Iterator[None]:
        place = offset
        while place < file.size:  # as it was listed: what comes meanwhile is for the next poll
            chunk = os.pread(opened.fileno(), min(CHUNK_BYTES, file.size - place), place)
            if not chunk:
                break
            place += len(chunk)
            for piece in splitter.feed(chunk):
                offset = self._take(file, piece, parse)
            self._places.note(file, offset, _check_before(opened, offset))
            yield
        if resume.is_final:
            for piece in splitter.rest():
                offset = self._take(file, piece, parse)
        self._places.note(file, offset, _check_before(opened, offset))
        if offset == file.size:
            self._whole.append(file)

    def _take(self, file: Seen, piece: Piece, parse: Parse) -> int:
        """Collect one record, or why it is none; gives the offset behind it."""
        data = piece.data.removeprefix(BOM) if piece.begin == 0 else piece.data
        self._bytes += len(data)
        if piece.fault:
            self._set_aside(file, piece, piece.fault)
        elif data.strip():
            try:
                record = parse(data)
                self._records.append(StoredItem(self._key_of(file, piece, record), record))
            except (BadRecord, NoKey) as error:
                self._set_aside(file, piece, str(error))
        return piece.end

    def _key_of(self, file: Seen, piece: Piece, record: Raw) -> str:
        """The key that the configuration names, else the record's place and digest: a file that is read anew tells the
        same keys where it says the same."""
        if self._read_key is not None:
            return self._read_key(record)
        digest = blake2b(piece.data, digest_size=8).hexdigest()
        return f"{os.path.basename(file.path)}:{piece.begin}:{digest}"

    def _set_aside(self, file: Seen, piece: Piece, why: str) -> None:
        excerpt = piece.data[:EXCERPT_BYTES].decode("utf-8", "replace")
        where = f"{escape(os.path.basename(file.path))}, byte {piece.begin}: {why}"
        data = Raw(msgspec.json.encode(excerpt))
        self._records.append(DeliveryRefused(self._connector, "", "bad_record", where, data))


def _check_before(opened: BinaryIO, offset: int) -> str:
    begin = max(0, offset - CHECK_BYTES)
    return check_of(os.pread(opened.fileno(), offset - begin, begin))
