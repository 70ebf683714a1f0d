"""P13: a file moves from schema to schema in whole steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from wal.errors import JournalRefused
from wal.journal import Journal
from wal.migrations import SCHEMA_VERSION, STEPS, Step, migrate, user_version
from wal.records import DaemonStopped, Entry

# Two steps of a future version, as SQL, so that a process that is to be killed can be told them.
TWO = [
    "create table two (a integer) strict",
    "with recursive n (a) as (select 1 union all select a + 1 from n limit 500) insert into two select a from n",
]
THREE = ["alter table two add column b text not null default ''", "update two set b = 'new'"]
BROKEN = ["create table broken (a)", "insert into nowhere values (1)"]


def step(statements: list[str]) -> Step:
    def run(connection: apsw.Connection) -> None:
        for sql in statements:
            connection.execute(sql)

    return run


FUTURE = (*STEPS, step(TWO), step(THREE))


def test_each_step_is_taken_once() -> None:
    """A file of any older version comes to the newest; one that is there stays as it is."""
    connection = apsw.Connection(":memory:")
    assert migrate(connection, STEPS) == len(STEPS)
    assert migrate(connection, FUTURE) == 2
    assert migrate(connection, FUTURE) == 0
    assert user_version(connection) == len(FUTURE)
    assert connection.execute("select count(*) from two where b = 'new'").get == 500


def test_a_step_that_fails_leaves_the_version_before() -> None:
    """An error in a step takes back all of that step and nothing of the one before."""
    connection = apsw.Connection(":memory:")
    with pytest.raises(apsw.SQLError):
        migrate(connection, (*STEPS, step(TWO), step(BROKEN)))
    assert user_version(connection) == len(STEPS) + 1
    assert connection.execute("select count(*) from sqlite_schema where name = 'broken'").get == 0
    assert migrate(connection, FUTURE) == 1


KILLED = """
import json, os, signal, sys
import apsw
from wal.connections import checksum_vfs
from wal.migrations import STEPS, migrate

left = int(sys.argv[2])
connection = apsw.Connection(sys.argv[1], vfs=checksum_vfs())
def trace(cursor, sql, bindings):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return True
connection.exec_trace = trace
future = [lambda connection, sqls=sqls: [connection.execute(sql) for sql in sqls] for sqls in json.loads(sys.argv[3])]
migrate(connection, (*STEPS, *future))
"""


@pytest.mark.slow
def test_a_kill_in_migration_leaves_a_whole_version(journal_path: Path, tmp_path: Path) -> None:
    """P13: killed before any statement of any step, the file is of one version, whole, and the next start goes on."""
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONPATH": str(here.parent.parent.parent)}
    outcomes = set()
    for n in range(12):
        path = tmp_path / f"{n}.db"
        with Journal.open(path) as journal:
            journal.commit([Entry(1, 0, 0, 0, DaemonStopped())])
        arguments = [str(path), str(n), json.dumps([TWO, THREE])]
        done = subprocess.run([sys.executable, "-P", "-c", KILLED, *arguments], env=environment, check=False)
        assert done.returncode in (0, -signal.SIGKILL)
        outcomes.add(done.returncode)
        connection = apsw.Connection(str(path))
        version = user_version(connection)
        tables = {row[0] for row in connection.execute("select name from sqlite_schema where type = 'table'")}
        assert ("two" in tables) == (version > SCHEMA_VERSION)
        if version == len(FUTURE):
            assert connection.execute("select count(*) from two where b = 'new'").get == 500
        assert migrate(connection, FUTURE) == len(FUTURE) - version
        assert connection.execute("select count(*) from records").get == 1
        connection.close()
    assert outcomes == {0, -signal.SIGKILL}


def test_an_older_runtimed_refuses_a_migrated_file(journal_path: Path) -> None:
    """P13: what a newer version has migrated is not touched by this one."""
    Journal.open(journal_path).close()
    connection = apsw.Connection(str(journal_path))
    migrate(connection, FUTURE)
    connection.close()
    with pytest.raises(JournalRefused, match=f"schema {len(FUTURE)}"):
        Journal.open(journal_path)
