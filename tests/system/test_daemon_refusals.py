from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.system.conftest import Running
from tests.system.daemon_process import Daemon, DaemonEnded
from wal.connections import open_reader
from wal.journal import Journal

pytestmark = [pytest.mark.trio, pytest.mark.slow]
TAP = '[connectors.crm]\nkind = "singer"\ncommand = ["tap"]\n'


async def refused(daemon: Daemon) -> str:
    """What a daemon says that refuses to start for a mistake of its owner's: exit 78, one line, no traceback."""
    with pytest.raises(DaemonEnded) as ended:
        await daemon.start()
    said = daemon.log_tail()
    assert ended.value.code == 78, said
    assert said.startswith("error: "), said
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 2  # the error, and what to do next
    return said


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[limits]\nthreads = 3\n", "limits.threads", "threads_max"),
        ('[limits]\nthreads_max = "many"\n', "limits.threads_max", "a whole number from 1"),
        ("[limits]\nthreads_max = 0\n", "limits.threads_max", "a whole number from 1"),
        ("[daemon]\ndrain_timeout = -1.0\n", "daemon.drain_timeout", "a number from 0.0"),
        ('[http]\nbind = "nowhere"\n', "http.bind", "HOST:PORT"),
        (TAP + 'deliver = "workflow:gone"\n', "connectors.crm.deliver", "there are: ending, resting, waiting"),
        (TAP + "options = { gone = 1 }\n", "connectors.crm.options", "gone"),
    ],
    ids=["unknown key", "wrong type", "out of range", "negative", "no address", "no workflow", "no option"],
)
async def test_a_mistake_in_the_settings_is_named(
    running: Running, short_dir: Path, text: str, key: str, expected: str
) -> None:
    """A wrong setting stops the start with 78, naming the file, the key, and what was expected."""
    config = short_dir / "wrong.toml"
    config.write_text(text)
    async with running(started=False, options=("--config", str(config))) as daemon:
        said = await refused(daemon)
    assert str(config) in said
    assert key in said
    assert expected in said


@pytest.mark.parametrize(
    ("name", "code", "app", "says"),
    [
        ("actors.py", "app = 1", "actors:app", "actors"),
        ("raising.py", "x = 1\nraise ValueError('mind the gap')", "raising:app", "mind the gap"),
        ("wrong.py", "def (:", "wrong:app", "SyntaxError"),
        ("empty.py", "x = 1", "empty", "App"),
        ("other.py", "app = 3", "other:app", "App"),
        ("there.py", "x = 1", "elsewhere:app", "elsewhere"),
        ("leaving.py", "import sys; sys.exit(0)", "leaving:app", "leaving.py"),
    ],
    ids=["ours", "raises", "syntax", "no app", "no App", "no module", "exits"],
)
async def test_a_mistake_in_the_users_code_is_one_clear_line(
    running: Running, short_dir: Path, name: str, code: str, app: str, says: str
) -> None:
    """A module that takes the name of one of ours, raises, is no Python, has no App or is not there: 78, one line."""
    (short_dir / name).write_text(code)
    async with running(started=False, app=app, cwd=short_dir) as daemon:
        assert says in await refused(daemon)


def foreign(path: Path) -> None:
    path.write_text("This is a letter, and no journal at all.\n" * 300)


def another_programs(path: Path) -> None:
    import apsw

    with apsw.Connection(str(path)) as database:
        database.execute("create table customers (id integer primary key) strict")
        database.execute("pragma application_id = 1234")


def newer(path: Path) -> None:
    import apsw

    Journal.open(path).close()
    with apsw.Connection(str(path)) as database:
        database.execute("pragma user_version = 999")


@pytest.mark.parametrize("make", [foreign, another_programs, newer])
async def test_a_journal_that_is_not_ours_is_refused_and_left_alone(
    running: Running, short_dir: Path, make: object
) -> None:
    """What is no journal, another program's database, and a newer version's journal: 78, not one byte changed."""
    async with running(started=False) as daemon:
        daemon.data_dir.mkdir()
        path = daemon.data_dir / "journal.db"
        make(path)  # type: ignore[operator]
        before = hashlib.sha256(path.read_bytes()).digest()
        assert "journal.db" in await refused(daemon)
        assert hashlib.sha256(path.read_bytes()).digest() == before


async def test_a_refusal_leaves_the_folder_to_the_next_start(running: Running, short_dir: Path) -> None:
    """Once the mistake is mended, the same folder serves: nothing half made stands in the way."""
    config = short_dir / "runtimed.toml"
    config.write_text("[limits]\nthreads_max = 0\n")
    async with running(started=False, options=("--config", str(config))) as daemon:
        await refused(daemon)
        config.write_text("[limits]\nthreads_max = 4\n")
        await daemon.start()
        assert await daemon.stop() == 0
        open_reader(daemon.data_dir / "journal.db").close()
