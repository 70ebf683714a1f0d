from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from wal.foreign import ForeignBusy, ForeignRefused, ForeignTable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "their.db"
    db = apsw.Connection(str(made))
    db.execute('create table "odd ""name""" (id integer, "at;" text, body blob, gone as (id * 2))')
    db.executemany(
        'insert into "odd ""name""" values (?, ?, ?)',
        [(1, "a", b"\x00\xff"), (2, "b", None), (3, "b", None), (None, "b", None), (4, None, None), (5, "c", None)],
    )
    db.close()
    return made


def read(path: Path, limit: int, since: Any = None) -> list[Any]:
    with ForeignTable(path, 'odd "name"', "at;", "id") as table:
        rows = table.first(since, limit)
        ids = [row["id"] for row in rows]
        while len(rows) == limit:
            rows = table.after(*table.place(), limit)
            ids += [row["id"] for row in rows]
    return ids


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_of_any_size_give_each_row_once(path: Path, limit: int) -> None:
    """Rows come in the order of cursor and key, equal cursors and a null key at the border of a page included; a row
    without a cursor has no place yet."""
    assert read(path, limit) == [1, None, 2, 3, 5]
    assert read(path, limit, "b") == [None, 2, 3, 5]  # inclusively


def test_values_and_names(path: Path) -> None:
    """Odd names are quoted, generated columns are read, bytes are base64, chosen columns bring cursor and key along."""
    with ForeignTable(path, 'odd "name"', "at;", "id") as table:
        assert table.first(None, 1) == [{"id": 1, "at;": "a", "body": "AP8=", "gone": 2}]
    with ForeignTable(path, 'odd "name"', "at;", "id", ["body"]) as table:
        assert table.first("c", 1) == [{"body": None, "at;": "c", "id": 5}]


@pytest.mark.parametrize(
    ("table", "cursor", "key", "columns", "sentence"),
    [
        ("users", "id", "id", [], "has no table 'users'"),
        ('odd "name"', "id; drop", "id", [], "has no column 'id; drop'; it has id, at;, body, gone"),
        ('odd "name"', "id", "key", [], "has no column 'key'"),
        ('odd "name"', "id", "id", ["x"], "has no column 'x'"),
    ],
)
def test_names_that_are_not_there_are_refused(
    path: Path, table: str, cursor: str, key: str, columns: list[str], sentence: str
) -> None:
    """A table or column that the file does not have never reaches a statement."""
    with pytest.raises(ForeignRefused, match=sentence):
        ForeignTable(path, table, cursor, key, columns)


def test_files_that_are_no_database(tmp_path: Path) -> None:
    """A file that is not there is not made, and one that is no SQLite file is refused."""
    with pytest.raises(ForeignRefused, match="there is no file"):
        ForeignTable(tmp_path / "none.db", "t", "id", "id")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text").write_text("no database, however long this text may be" * 50, encoding="utf-8")
    with pytest.raises(ForeignRefused, match="file is not a database"):
        ForeignTable(tmp_path / "text", "t", "id", "id")


def test_nothing_is_written_and_a_lock_is_told_at_once(path: Path) -> None:
    """The file stays byte for byte what it was; whoever holds it locked is not waited for."""
    before = path.read_bytes()
    read(path, 2)
    assert (path.read_bytes(), [file.name for file in path.parent.iterdir()]) == (before, [path.name])
    owner = apsw.Connection(str(path))
    owner.execute("begin exclusive")
    with pytest.raises(ForeignBusy):
        ForeignTable(path, 'odd "name"', "at;", "id")
    owner.close()
