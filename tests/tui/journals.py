"""Journals on disk for the dashboard to read while no daemon is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from tests.tui.fake_daemon import NOW
from wal import records
from wal.journal import Journal
from wal.records import Entry, Record


class Writer:
    """Writes records as the runtime does, into a journal of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal.open(path)
        self._seq = 0
        self._last: dict[int, int] = {}

    def write(self, run_key: int, *facts: Record) -> None:
        """Commit these, in one batch."""
        self.write_many((run_key, fact) for fact in facts)

    def write_many(self, facts: Iterable[tuple[int, Record]]) -> None:
        """Commit records of several runs, in one batch."""
        entries = []
        for run_key, fact in facts:
            self._seq += 1
            entries.append(Entry(self._seq, run_key, self._last.get(run_key, 0), NOW - 60_000_000 + self._seq, fact))
            if run_key:
                self._last[run_key] = self._seq
        self.journal.commit(entries)

    def start(self, run_key: int, id: str, **fields: Any) -> None:
        """A run."""
        self.write(
            run_key, records.RunStarted(**{"id": id, "workflow": "checkout", "input": Raw(b'{"cents":5}'), **fields})
        )

    def close(self, *, clean: bool = True) -> None:
        """Stop: with the daemon's last record, or as after `kill -9` with the rows in SQLite's WAL."""
        if clean:
            self.write(0, records.DaemonStopped("drained"))
            self.journal.close()
            return
        folder = self.path.parent
        kept = folder.with_name(folder.name + ".kept")
        shutil.copytree(folder, kept)
        self.journal.close()
        for file in folder.iterdir():
            file.unlink()
        for file in kept.iterdir():
            if not file.name.endswith(("-shm", "lock")):
                os.replace(file, folder / file.name)
        shutil.rmtree(kept)


def small_journal(path: Path, *, clean: bool = True) -> None:
    """Three runs: one that waits for people, one that sleeps, one that failed; a session."""
    writer = Writer(path)
    writer.write(0, records.DaemonStarted("0.1.0", 4711))
    writer.start(1, "order-1")
    writer.write(1, records.ApprovalRequested("1", "Ship order?", "ab" * 32, Raw(b'{"amount":1240}'), ["ops"]))
    writer.write(1, records.RunWaiting("approval", None, [records.OpenCallData("1", "approval", "Ship order?")]))
    writer.start(2, "order-2", tenant="acme", attributes={"color": "red"})
    writer.write(2, records.TimerSet("1", NOW + 3_600_000_000), records.RunWaiting("timer", NOW + 3_600_000_000))
    writer.start(3, "order-3")
    writer.write(3, records.RunFailed(records.ErrorData("CardDeclined", "no money")))
    writer.write(0, records.SessionOpened("session-1", "acme", "alice"))
    writer.close(clean=clean)


def hostile_journal(path: Path, texts: Iterable[str]) -> None:
    """A run, an approval, a failure, a session and a connector for each text, which stands wherever text may stand."""
    writer = Writer(path)
    for number, text in enumerate(texts):
        encodable = text.encode("utf-8", "replace").decode()
        payload = Raw(msgspec.json.encode({"note": encodable}))
        a, b = 3 * number + 1, 3 * number + 2
        writer.start(a, f"{encodable[:60]}{number}", workflow=encodable[:100], input=payload, tenant=encodable[:50])
        writer.write(
            a, records.ApprovalRequested(encodable[:60], encodable, "ab" * 32, payload, [encodable[:30]], risk="high")
        )
        writer.write(a, records.RunWaiting("approval", None, [records.OpenCallData("1", "approval", encodable)]))
        writer.start(b, f"b{number}")
        writer.write(b, records.RunFailed(records.ErrorData(encodable[:80], encodable, encodable[:40])))
        writer.start(b + 1, f"c{number}")
        writer.write(b + 1, records.RunBlocked(encodable[:40], encodable))
        writer.write(0, records.SessionOpened(f"{encodable[:40]}{number}", encodable[:40], encodable))
        name = f"{encodable[:40]}{number}"
        writer.write(0, records.CursorAdvanced(name, payload, encodable[:30] or "x", 1, [encodable[:200]]))
        writer.write(0, records.DeliveryRefused(name, encodable[:200], encodable[:30], encodable, payload))
        writer.write(0, records.ConnectorQuarantined(name, records.ErrorData(encodable[:40], encodable), 5))
    writer.close()
