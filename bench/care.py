"""Care for the data: a backup beside the writer, verification, restoring, forgetting; on journals made for it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Raw

from bench.figures import Figure, percentile
from wal import records as r
from wal.journal import Journal
from wal.records import Entry
from wal.restore import restore
from wal.verify import verify

BEGAN_US = 1_700_000_000_000_000
RECORDS = 1_000_000
LARGE_RECORDS, LARGE_PAYLOAD_BYTES = 1_200_000, 1_750
"""So many records with such results of their steps make a journal of a gigabyte."""
STEPS = 4
BATCH_RECORDS = 1_000
VERIFY_RECORDS_MIN = 100_000.0
BACKUP_SECONDS_MAX = 20.0
COMMIT_MS_MAX = 250.0
COMMIT_EVERY_S = 0.005
"""A busy daemon: 200 commits a second, of 10 records each and a payload of 8 kB, go on beside the backup."""
FORGET_RUNS = 200
FORGET_COMMITS = 20


class Maker:
    """Runs of a few steps, as a runtime records them."""

    def __init__(self, payload_bytes: int) -> None:
        self.seq = self.run_key = 0
        self._payload = Raw(b'"' + b"x" * payload_bytes + b'"')

    def run(self) -> Iterator[Entry]:
        """The records of the next run, whole."""
        self.run_key += 1
        previous = 0
        records: list[r.Record] = [
            r.RunStarted(f"run-{self.run_key}", "shop", Raw(b'{"cents":5}'), attributes={"city": self.run_key % 7})
        ]
        for step in range(STEPS):
            records.append(r.StepScheduled(str(step), "charge", Raw(b"[[],{}]")))
            records.append(r.StepCompleted(str(step), "charge", self._payload))
        records.append(r.RunCompleted(Raw(b"1")))
        for record in records:
            self.seq += 1
            yield Entry(self.seq, self.run_key, previous, BEGAN_US + self.seq, record)
            previous = self.seq

    def batch(self, records: int) -> list[Entry]:
        """Whole runs with at least so many records."""
        entries: list[Entry] = []
        while len(entries) < records:
            entries.extend(self.run())
        return entries

    def fill(self, journal: Journal, records: int) -> None:
        """Commit runs until there are so many records."""
        while self.seq < records:
            journal.commit(self.batch(BATCH_RECORDS))
            journal.upkeep(idle=False)


def _beside_backup(journal: Journal, maker: Maker, source: Path, target: Path) -> tuple[dict[str, float], list[float]]:
    """A backup by its process while this one commits at a busy pace: what it told, and the commits in ms, each with the
    checkpoint that was due before it."""
    command = [sys.executable, "-P", "-m", "wal.backup", str(source), str(target), "0", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    commits = []
    while process.poll() is None:
        batch = maker.batch(10)
        began = time.perf_counter()
        journal.commit(batch)
        journal.upkeep(idle=False)
        took = time.perf_counter() - began
        commits.append(1000 * took)
        time.sleep(max(0.0, COMMIT_EVERY_S - took))
    for _ in range(200):  # what was held back by the backup's snapshot is caught up with now
        began = time.perf_counter()
        journal.upkeep(idle=False)
        journal.commit(maker.batch(10))
        commits.append(1000 * (time.perf_counter() - began))
        time.sleep(COMMIT_EVERY_S)
    told: dict[str, float] = json.loads(process.communicate()[0])
    return told, commits


def _forget(journal: Journal, maker: Maker) -> list[float]:
    """The commits that forget runs, in ms."""
    commits = []
    for number in range(FORGET_COMMITS):
        keys = list(range(1 + number * FORGET_RUNS, 1 + (number + 1) * FORGET_RUNS))
        maker.seq += 1
        began = time.perf_counter()
        journal.commit([Entry(maker.seq, 0, 0, BEGAN_US, r.RunsForgotten(keys, BEGAN_US))])
        commits.append(1000 * (time.perf_counter() - began))
        journal.upkeep(idle=False)
    return commits


def measure(folder: Path) -> list[Figure]:
    """A million small records to verify; a gigabyte to back up beside commits, and to restore."""
    small, large, copy = folder / "small.db", folder / "large.db", folder / "copy.db"
    with Journal.open(small) as journal:
        Maker(60).fill(journal, RECORDS)
    report = verify(small)
    small.unlink()
    maker = Maker(LARGE_PAYLOAD_BYTES)
    with Journal.open(large) as journal:
        maker.fill(journal, LARGE_RECORDS)
        before = []
        for _ in range(500):
            batch = maker.batch(10)
            began = time.perf_counter()
            journal.commit(batch)
            before.append(1000 * (time.perf_counter() - began))
        told, commits = _beside_backup(journal, maker, large, copy)
        restored = restore(copy, folder / "data")
        forgot = _forget(journal, maker)
    copied = verify(copy)
    size = f"{told['size_bytes'] / 1e9:.2f} GB"
    if not (report.ok and copied.ok):
        raise SystemExit(f"a journal does not verify: {[*report.problems, *copied.problems][:3]}")
    return [
        Figure("verify, 1,000,000 records", report.records / report.seconds, "records/s", at_least=VERIFY_RECORDS_MIN),
        Figure(f"verify a copy of {size}", copied.records / copied.seconds, "records/s"),
        Figure(f"backup of {size} beside commits", told["seconds"], "s", at_most=BACKUP_SECONDS_MAX),
        Figure("commit of 10 records before it, p99", percentile(before, 0.99), "ms"),
        Figure("commit of 10 records beside it, p99", percentile(commits, 0.99), "ms", note=f"of {len(commits):,}"),
        Figure("commit of 10 records beside it, longest", max(commits), "ms", at_most=COMMIT_MS_MAX),
        Figure(f"restore of {size}, verified", restored.seconds, "s"),
        Figure(f"a commit that forgets {FORGET_RUNS} runs, longest", max(forgot), "ms", at_most=COMMIT_MS_MAX,
               note=f"{FORGET_RUNS * (2 * STEPS + 2):,} records"),
    ]  # fmt: skip
