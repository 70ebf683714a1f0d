"""The disk's own speed: single-row commits by apsw, `synchronous=FULL`, the SQLite WAL; nothing of ours."""

from __future__ import annotations

import time
from pathlib import Path

import apsw

SECONDS = 1.5


def commits_per_second(folder: Path, seconds: float = SECONDS) -> float:
    """Insert one row a transaction for `seconds`; returns commits a second."""
    connection = apsw.Connection(str(folder / "raw.db"))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, body BLOB) STRICT")
    body = b"x" * 100
    count = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        connection.execute("INSERT INTO log (body) VALUES (?)", (body,))
        count += 1
    rate = count / (time.perf_counter() - began)
    connection.close()
    return rate
