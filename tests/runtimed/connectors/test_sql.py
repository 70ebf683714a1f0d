from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing

from actors.errors import SchemaNarrowed, SourceError
from runtimed.config_layers import ConfigError
from runtimed.connectors import sql
from tests.runtimed.connectors.driving import World, settings


class Theirs:
    """Somebody else's database, and what was taken from it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "their.db"
        self.db = apsw.Connection(str(self.path))
        self.db.execute("create table if not exists users (id integer primary key, name text, changed integer)")
        self.world = World(self.spec(**options), None)

    def spec(self, **options: Any) -> Any:
        said = {"database": str(self.path), "table": "users", "cursor": "changed", "page_size": 2, **options}
        return sql.make("users", settings("sql", key="id", options=said))

    def put(self, *rows: tuple[int, str, int]) -> None:
        self.db.executemany("insert or replace into users values (?, ?, ?)", rows)

    async def poll(self, pages_max: int | None = None) -> list[str]:
        before = len(self.world.taken)
        await self.world.poll(pages_max)
        return [key for _, key in self.world.taken[before:]]


@pytest.mark.trio
async def test_a_table_is_read_along_its_cursor(tmp_path: Path) -> None:
    """All rows arrive in pages, changes arrive again, and the next poll reads the last value again, and no more."""
    theirs = Theirs(tmp_path)
    theirs.put((1, "a", 10), (2, "b", 20), (3, "c", 30), (4, "d", 30), (5, "e", 40))
    assert await theirs.poll() == ["1", "2", "3", "4", "5"]
    assert theirs.world.cursor == 40
    theirs.put((1, "a2", 50))
    assert await theirs.poll() == ["5", "1"]
    assert theirs.world.stored["users"]["1"] == {"id": 1, "name": "a2", "changed": 50}


@pytest.mark.trio
async def test_a_late_row_with_the_same_value_is_not_missed(tmp_path: Path) -> None:
    """A row that comes with the very value at which the last poll ended is read by the next one."""
    theirs = Theirs(tmp_path)
    theirs.put((5, "a", 10))
    assert await theirs.poll() == ["5"]
    theirs.put((3, "late", 10))
    assert await theirs.poll() == ["3", "5"]


@pytest.mark.trio
async def test_many_rows_of_one_value_and_a_death_between_pages(tmp_path: Path) -> None:
    """More rows of one value than a page holds are read in one poll; killed after any page, none is missed."""
    theirs = Theirs(tmp_path)
    theirs.put(*((number, "x", 7) for number in range(9)))
    await theirs.poll(pages_max=1)
    assert theirs.world.cursor == 7
    await theirs.poll(pages_max=3)
    await theirs.poll()
    assert theirs.world.keys("users") == [str(number) for number in range(9)]


@pytest.mark.trio
async def test_a_column_that_is_gone_stops_the_poll(tmp_path: Path) -> None:
    """A column less is a narrower shape: nothing is taken before somebody has said so; one more is taken over."""
    theirs = Theirs(tmp_path)
    theirs.put((1, "a", 1))
    await theirs.poll()
    theirs.db.execute("alter table users add column phone text")
    await theirs.poll()
    theirs.db.execute("alter table users drop column name")
    theirs.db.execute("insert into users values (2, 9, null)")
    with pytest.raises(SchemaNarrowed, match="property name is gone"):
        await theirs.poll()
    assert theirs.world.keys("users") == ["1"]


@pytest.mark.trio
async def test_what_is_no_key_is_set_aside_and_what_is_no_cursor_is_told(tmp_path: Path) -> None:
    """A row whose key is null is refused by itself; a cursor that is no number and no text fails the poll."""
    theirs = Theirs(tmp_path)
    theirs.db.execute("drop table users")
    theirs.db.execute("create table users (id any, changed any)")
    theirs.db.execute("insert into users values (null, 1), (2, 1), (3, x'00')")
    theirs.world.spec = theirs.spec(page_size=500)
    with pytest.raises(SourceError, match=r"column 'changed' holds b'\\x00', which is no cursor"):
        await theirs.poll()
    theirs.db.execute("delete from users where id = 3")
    assert await theirs.poll() == ["2"]
    assert [refusal.code for refusal in theirs.world.refused] == ["no_key"]


@pytest.mark.trio
async def test_a_locked_file_is_waited_for_without_blocking(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """While somebody writes, others go on and the poll waits; one that lasts fails the poll, with a sentence."""
    theirs = Theirs(tmp_path)
    theirs.put((1, "a", 1))
    theirs.db.execute("begin exclusive")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.poll)
        await trio.sleep(1.0)
        assert theirs.world.taken == []
        theirs.db.execute("rollback")
    assert theirs.world.keys("users") == ["1"]
    theirs.db.execute("begin exclusive")
    with pytest.raises(SourceError, match="has been locked for 5 s"):
        await theirs.poll()
    theirs.db.execute("rollback")


@pytest.mark.trio
async def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """A missing file, table or column fails the poll with its name."""
    theirs = Theirs(tmp_path)
    for options, sentence in [
        ({"database": str(tmp_path / "no.db")}, "there is no file"),
        ({"table": "orders"}, "has no table 'orders'"),
        ({"cursor": "at"}, "has no column 'at'"),
    ]:
        theirs.world.spec = theirs.spec(**options)
        with pytest.raises(SourceError, match=sentence):
            await theirs.poll()


def test_options_are_read_strictly() -> None:
    """A missing column, a wrong size and a missing key stop the start, and are named."""
    for options, named in [
        ({"database": "a", "table": "b"}, r"connectors\.users\.options\.cursor"),
        ({"database": "a", "table": "b", "cursor": "c", "page_size": 0}, r"connectors\.users\.options\.page_size"),
    ]:
        with pytest.raises(ConfigError, match=named):
            sql.make("users", settings("sql", key="id", options=options))
    with pytest.raises(ConfigError, match=r"connectors\.users\.key"):
        sql.make("users", settings("sql", options={"database": "a", "table": "b", "cursor": "c"}))
