"""The file read in the daemon's absence: exact, read-only, honest about how it was left."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import aiosqlite
import anyio
import pytest

from actors.errors import NotFound, RunNotFound
from tests.tui.driving import driven
from tests.tui.fake_daemon import NOW, FakeDaemon
from tests.tui.journals import small_journal
from tui import offline
from tui.journal_files import lock_is_held
from tui.offline import JournalFile, open_file
from tui.runs_index import RunFilter
from wal.errors import BadCursor, JournalError, JournalRefused
from wal.journal import Journal
from wal.lock import DataFolderLock
from wal.queries import Reader
from wal.records import Entry, RunsForgotten

pytestmark = pytest.mark.anyio


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "journal.db"


Refusing = Callable[[str], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """`refuse("mode=ro")`: opening the file in this way fails, as for a user who may not."""
    connect = offline._connect

    def of(mode: str) -> None:
        async def refusing(path: Path, query: str) -> aiosqlite.Connection:
            if query == mode:
                raise sqlite3.OperationalError("unable to open database file")
            return await connect(path, query)

        monkeypatch.setattr(offline, "_connect", refusing)

    return of


async def close(file: JournalFile) -> str:
    banner = await file.banner()
    await file.close()
    return banner


async def test_the_file_says_what_the_journal_says(journal: Path) -> None:
    """Runs, details, histories, events, approvals, sessions and counts are those of the journal's own reader."""
    small_journal(journal)
    file = await open_file(journal)
    with Reader.open(journal) as reader:
        assert (await file.runs(RunFilter())).items == reader.runs().items
        assert (await file.runs(RunFilter(statuses=("failed", "waiting")))).total == 3
        assert await file.run("order-3") == reader.run_view("order-3")
        page = reader.history_page("order-1")
        assert page is not None
        assert (await file.history("order-1")).items == page.items
        assert await file.events_before(10_000) == reader.events(0)
        assert await file.approvals() == reader.approval_page(status="open").items
        assert await file.approval("3") == reader.approval("3")
        assert (await file.sessions()).items == reader.sessions().items
        assert (await file.metrics()).counts == {"failed": 1, "waiting": 2}
    assert await close(file) == f"read-only, seq 11, clean=yes: {journal}"


async def test_a_forgotten_run_is_not_shown(journal: Path) -> None:
    """The records of a run that retention forgot have no bodies: they are skipped, and their digests count as held."""
    small_journal(journal)
    with Journal.open(journal) as writer:
        (ended,) = writer.reader().runs(status="failed").items
        gone = writer.reader().run(ended.id)
        assert gone is not None
        writer.commit([Entry(writer.head.seq + 1, 0, 0, 0, RunsForgotten([gone.run_key]))])
    file = await open_file(journal)
    try:
        with Reader.open(journal) as reader:
            assert await file.events_before(10_000) == reader.events(0)
        with pytest.raises(RunNotFound):
            await file.run(gone.id)
        found = await file.chain_of(gone.last_seq)
        assert found is not None
        assert found[2]
    finally:
        await file.close()


async def test_lists_are_filtered_and_paged(journal: Path) -> None:
    """The same filters and pages as the daemon's, with cursors of the file's own."""
    small_journal(journal)
    file = await open_file(journal)
    first = await file.runs(RunFilter(), limit=2)
    rest = await file.runs(RunFilter(), first.next, limit=2)
    assert [run.id for run in first.items + rest.items] == ["order-3", "order-2", "order-1"]
    assert (first.total, rest.next) == (3, None)
    assert [run.id for run in (await file.runs(RunFilter(tenant="acme"))).items] == ["order-2"]
    assert [run.id for run in (await file.runs(RunFilter(attributes={"color": "red"}))).items] == ["order-2"]
    assert (await file.history("order-1", after=2, limit=1)).next == "3"
    with pytest.raises(BadCursor):
        await file.runs(RunFilter(), "nonsense")
    with pytest.raises(RunNotFound):
        await file.run("nobody")
    with pytest.raises(NotFound):
        await file.approval("nothing")
    await file.close()


async def test_nothing_can_be_written(journal: Path) -> None:
    """The connection refuses to change anything."""
    small_journal(journal)
    file = await open_file(journal)
    with pytest.raises(Exception, match="readonly"):
        await file._rows("update runs set status = 'completed'")
    await file.close()


async def test_rows_in_the_wal_are_not_hidden(journal: Path) -> None:
    """After `kill -9` the rows that are only in SQLite's WAL are shown, and the banner says it was no clean stop."""
    small_journal(journal, clean=False)
    assert journal.with_name("journal.db-wal").stat().st_size > 0
    file = await open_file(journal)
    assert (await file.runs(RunFilter())).total == 3
    assert "clean=no" in await close(file)


async def test_after_a_clean_stop_a_reader_without_rights_to_the_folder_reads(journal: Path, refuse: Refusing) -> None:
    """Where SQLite may not make its files, a journal without rows in the WAL is read as it is."""
    small_journal(journal)
    refuse("mode=ro")
    file = await open_file(journal)
    assert (await file.runs(RunFilter())).total == 3
    await file.close()


async def test_rows_in_the_wal_are_read_from_a_copy(journal: Path, refuse: Refusing) -> None:
    """Where they cannot be read in place, the files are copied for the look; the copy is private and goes away."""
    small_journal(journal, clean=False)
    refuse("mode=ro")
    file = await open_file(journal)
    assert (await file.runs(RunFilter())).total == 3
    copy = file._copy
    assert copy is not None
    assert copy.stat().st_mode & 0o777 == 0o700
    assert (await close(file)).startswith("copy of ")
    assert not copy.exists()


async def test_a_journal_that_is_held_is_not_copied(journal: Path, refuse: Refusing) -> None:
    """While a daemon writes, two files copied one after the other would not belong together."""
    small_journal(journal, clean=False)
    refuse("mode=ro")
    with DataFolderLock(journal.parent), pytest.raises(JournalRefused, match="a daemon holds it"):
        await open_file(journal)


async def test_a_daemon_that_does_not_answer_is_told_from_none(journal: Path) -> None:
    """If the lock is held the banner says that somebody is there."""
    small_journal(journal)
    assert not lock_is_held(journal.parent)
    with DataFolderLock(journal.parent):
        assert lock_is_held(journal.parent)
        assert "does not answer" in await close(await open_file(journal))
    assert not lock_is_held(journal.parent)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is no journal"), (b"", "is not a journal"), (b"x" * 200, "is not a journal")],
)
def test_what_is_no_journal_is_refused(journal: Path, content: bytes | None, sentence: str) -> None:
    """A missing, an empty and a foreign file: each with a sentence, and untouched."""
    if content is not None:
        journal.write_bytes(content)
    with pytest.raises(JournalRefused, match=sentence):
        anyio.run(open_file, journal)
    assert content is None or journal.read_bytes() == content


def test_a_newer_journal_is_refused(journal: Path) -> None:
    """A schema that this version does not know is not guessed at."""
    small_journal(journal)
    data = bytearray(journal.read_bytes())
    data[60:64] = (99).to_bytes(4, "big")
    journal.write_bytes(data)
    with pytest.raises(JournalRefused, match="newer runtimed"):
        anyio.run(open_file, journal)


@pytest.mark.slow
async def test_the_dashboard_falls_back_to_the_file_and_returns(journal: Path) -> None:
    """Killed, the daemon's file is shown, read-only and with the time; when it is back, it is live again."""
    small_journal(journal, clean=False)
    daemon = FakeDaemon()
    async with driven(daemon, journal=journal, size=(120, 30)) as shown:
        await shown.sees("LIVE", "nothing needs you")
        daemon.go_down()
        await shown.sees("OFFLINE", "DOWN since 14:13:20Z - read-only, seq 10, clean=no", "Ship order?")
        assert shown.app.mode_word == "ro"
        assert shown.app.client is None
        assert "down" in shown.app.why_not()
        await shown.press("2")
        await shown.sees("order-1", "order-2")
        await shown.press("4")
        await shown.sees("has actors")
        daemon.up = True
        await shown.sees("LIVE")
        assert shown.app.mode_word == "rw"


async def test_a_file_that_was_closed_is_no_crash(journal: Path) -> None:
    """The daemon is back and the file is closed under somebody's question: an error that says so, as for any other."""
    small_journal(journal)
    file = await open_file(journal)
    await file.close()
    with pytest.raises(JournalError, match="closed"):
        await file.runs(RunFilter())


@pytest.mark.parametrize(
    ("days", "clean", "since"),
    [(3, True, "2026-09-21 14:12:20Z"), (0, True, "14:12:20Z"), (3, False, "14:13:20Z")],
)
async def test_down_since_is_when_it_stopped(journal: Path, days: int, clean: bool, since: str) -> None:
    """Not when somebody began to look, if its last record says when it stopped; with the day if that is not today."""
    small_journal(journal, clean=clean)
    daemon = FakeDaemon()
    daemon.up = False
    then = NOW + days * 86_400_000_000
    async with driven(daemon, journal=journal, connected=False, now=lambda: then) as shown:
        await shown.sees(
            f"DOWN since {since} - ", "DOWN (file 2026-09-21)" if days and clean else f"DOWN (file {since})"
        )


@pytest.mark.slow
async def test_without_a_file_it_says_what_is_wrong(journal: Path) -> None:
    """No daemon and no file: a sentence, and it goes on trying."""
    daemon = FakeDaemon()
    daemon.up = False
    async with driven(daemon, journal=journal, connected=False) as shown:
        await shown.sees("there is no journal at")
        daemon.up = True
        await shown.sees("LIVE")
