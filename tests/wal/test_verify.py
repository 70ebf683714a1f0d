"""P6 and P17: damage and tampering are seen."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from wal import connections
from wal import records as r
from wal.errors import JournalError, JournalRefused
from wal.journal import Journal
from wal.queries import Reader
from wal.verify import PROBLEMS_MAX, verify


@pytest.fixture
def filled(journal_path: Path, random_program: Any) -> Path:
    with Journal.open(journal_path) as journal:
        for batch in random_program(9).batches(150):
            journal.commit(batch)
    return journal_path


def test_an_untouched_journal_is_right(filled: Path) -> None:
    """Structure, chain and tables hold; verifying changes nothing."""
    before = filled.read_bytes()
    report = verify(filled)

    assert (report.ok, report.problems) == (True, [])
    with Reader.open(filled) as reader:
        assert report.seq == report.records == reader.head_seq()
    assert filled.read_bytes() == before


def test_a_live_journal_can_be_verified(journal_path: Path, random_program: Any) -> None:
    """Verifying works beside the writer, up to the commit that it catches up with."""
    batches = list(random_program(4).batches(20))
    with Journal.open(journal_path) as journal:
        for batch in batches:
            journal.commit(batch)
            report = verify(journal_path)
            assert (report.problems, report.seq) == ([], batch[-1].seq)


TAMPERED = [
    ("update records set body = replace(body, 'kind', 'Kind') where seq = 50", "record 50 is not what was written"),
    ("update records set at = at + 1 where seq = 50", "record 50 is not"),
    ("update records set run_key = run_key + 1 where seq = 50", "record 50 is not"),
    ("update records set prev_seq = 1 where seq = 50", "record 50 is not"),
    ("update records set digest = randomblob(16) where seq = 50", "record 50 is not"),
    ("delete from records where seq = (select max(seq) from records)", "was written last"),
    ("delete from records where seq = 50", "records 50 to 50 are missing"),
    ("delete from records where seq <= 3", "records 1 to 3 are missing"),
    ("update records set seq = -1 where seq = 50", "records 50 to 50 are missing"),
    (
        "update records set seq = -50 where seq = 50; update records set seq = 50 where seq = 51;"
        "update records set seq = 51 where seq = -50",
        "record 50 is not",
    ),
    ("insert into records select max(seq) + 1, 0, 0, 0, zeroblob(16), '{}' from records", "is not what was written"),
    ("update runs set status = 'completed' where run_key = 1", "table runs"),
    ("delete from runs where run_key = 2", "table runs"),
    ("insert into timers values (1, 'x', 5)", "table timers"),
    ("update run_counts set n = n + 1", "table run_counts"),
    ("update state set value = '[2]'", "table state"),
    ("delete from sessions", "table sessions"),
    ("update answers set status = 500", "table answers"),
    ("delete from signals", "table signals"),
    ("delete from run_attributes", "table run_attributes"),
]


@pytest.mark.parametrize(("sql", "problem"), TAMPERED, ids=[sql[:40] for sql, _ in TAMPERED])
def test_tampering_is_seen(filled: Path, sql: str, problem: str) -> None:
    """P17: whoever changes, drops, adds or reorders anything with a database tool is found out."""
    connection = apsw.Connection(str(filled), vfs=connections.checksum_vfs())
    connection.execute(sql)
    connection.close()
    report = verify(filled)

    assert not report.ok
    assert any(problem in one for one in report.problems), report.problems
    assert len(report.problems) <= PROBLEMS_MAX


def _tamper(kind: str, rng: random.Random, seqs: list[int]) -> list[str]:
    """Statements that change, drop or reorder rows of the log, somewhere in it."""
    at = rng.choice(seqs)
    if kind == "change":
        part = rng.choice(["body = replace(body, substr(body, 12, 3), 'xyz')", "at = at + 1", "run_key = run_key + 1"])
        return [f"update records set {part} where seq = {at}"]
    if kind == "drop":
        last = min(at + rng.choice([0, 0, 1, 5, 1_000_000]), seqs[-1])
        return [f"delete from records where seq between {at} and {last}"]
    if kind == "drop and close the gap":
        moved = "update records set seq = seq - 1 where seq = {}"
        return [f"delete from records where seq = {at}", *(moved.format(seq) for seq in seqs if seq > at)]
    other = rng.choice([seq for seq in seqs if seq != at])
    return [
        f"update records set seq = -1 where seq = {at}",
        f"update records set seq = {at} where seq = {other}",
        f"update records set seq = {other} where seq = -1",
    ]


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["change", "drop", "drop and close the gap", "reorder"])
def test_tampering_with_the_log_is_always_seen(
    filled: Path, tmp_path: Path, kind: str, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P17: rows that were changed, dropped (from the end too) or reordered anywhere in the log are reported, always."""
    with Reader.open(filled) as reader:
        seqs = list(range(1, reader.head_seq() + 1))
    rng = random.Random(kind)
    path = tmp_path / "tampered.db"
    tries = scale(25, 1_000)
    seen = 0
    for _ in range(tries):
        path.write_bytes(filled.read_bytes())
        connection = apsw.Connection(str(path), vfs=connections.checksum_vfs())
        for statement in _tamper(kind, rng, seqs):
            connection.execute(statement)
        connection.close()
        seen += not verify(path).ok
    figures("P17", **{f"{kind.replace(' ', '_')}_tries": tries, f"{kind.replace(' ', '_')}_seen": seen})
    assert seen == tries


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["file", "backup"])
def test_a_turned_bit_is_seen(
    filled: Path, tmp_path: Path, kind: str, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P6: one bit turned anywhere in the file or in a backup: the file is refused, or the report names it."""
    path = tmp_path / "flipped.db"
    source = filled
    if kind == "backup":
        source = tmp_path / "backup.db"
        with Journal.open(filled) as journal:
            journal.backup(source)
    whole = source.read_bytes()
    rng = random.Random(17)
    flips = scale(100, 1_000)
    seen = 0
    for _ in range(flips):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            seen += not verify(path).ok
        except (JournalError, apsw.Error):
            seen += 1
    figures("P6", **{f"{kind}_flips": flips, f"{kind}_seen": seen})
    assert seen == flips


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    """A report is about a journal; anything else is refused."""
    with pytest.raises(JournalRefused):
        verify(tmp_path / "journal.db")


def test_records_that_contradict_each_other_are_named(journal_path: Path, log: Any) -> None:
    """A log whose digests hold but whose records cannot be folded is a report, not a crash."""
    with Journal.open(journal_path) as journal:
        journal._projector.apply = lambda entries: None  # type: ignore[method-assign]
        journal.commit([log.add(1, r.RunPaused())])
    report = verify(journal_path)
    assert report.problems == ["the records contradict each other: record 1 (run_paused) is of run 1: there is none"]
