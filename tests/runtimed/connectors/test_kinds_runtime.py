"""Folders and foreign tables in the real runtime: from the source to the store or a run, and what was set aside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from runtimed import App, Context, open_runtime
from runtimed.config_layers import ConfigError
from runtimed.runtime import Runtime
from runtimed.settings import Settings
from tests.runtimed.connectors.driving import settings as table
from tests.runtimed.connectors.test_singer_runtime import until
from wal.intake import StreamRow

pytestmark = [pytest.mark.trio, pytest.mark.slow]
app = App("people")


class Person(msgspec.Struct, frozen=True):
    id: str
    name: str


@app.workflow
async def onboard(ctx: Context, person: Person) -> str:
    return person.name


@asynccontextmanager
async def opened(folder: Path, kind: str, **values: Any) -> AsyncIterator[Runtime]:
    settings = Settings(connectors={"people": table(kind, key="id", every=0.1, **values)})
    async with open_runtime(app, folder, settings=settings, writer="inline") as runtime:
        yield runtime


async def test_each_row_of_a_file_starts_one_run(tmp_path: Path) -> None:
    """A CSV file starts a run for each row, once, sets aside what is none, and is moved away when all is on disk; the
    next file goes on, also after a restart."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    options = {"path": str(inbox / "*.csv"), "done": "move:done"}
    (inbox / "a.csv").write_text("id,name\n1,ann\n2,bob\n3\n4,dan\n", encoding="utf-8")
    async with opened(tmp_path / "data", "files", deliver="workflow:onboard", options=options) as runtime:
        shown = await until(runtime, lambda view: view.polls_total >= 2)
        assert [await runtime.result(f"people:{id}") for id in (1, 2, 4)] == ["ann", "bob", "dan"]
        assert (shown.refused_total, shown.errors_total) == (1, 0)
        assert shown.last_error == "bad_record: a.csv, byte 20: it has 1 fields, and the header 2"
        assert [path.name for path in (inbox / "done").iterdir()] == ["a.csv"]
    (inbox / "b.csv").write_text("id,name\n4,again\n5,eve\n", encoding="utf-8")
    async with opened(tmp_path / "data", "files", deliver="workflow:onboard", options=options) as runtime:
        await until(runtime, lambda view: (inbox / "done" / "b.csv").exists())
        assert [await runtime.result(f"people:{id}") for id in (4, 5)] == ["dan", "eve"]
        assert len((await runtime.runs()).items) == 4


async def test_a_foreign_table_is_followed(tmp_path: Path) -> None:
    """Rows go into the store and follow their changes; what is read again at the border changes nothing."""
    their = apsw.Connection(str(tmp_path / "their.db"))
    their.execute("create table users (id integer, name text, changed integer)")
    their.execute("insert into users values (1, 'ann', 10), (2, 'bob', 10)")
    options = {"database": str(tmp_path / "their.db"), "table": "users", "cursor": "changed"}
    async with opened(tmp_path / "data", "sql", options=options) as runtime:
        await until(runtime, lambda view: bytes(view.cursor) == b"10")
        their.execute("update users set name = 'bert', changed = 11 where id = 2")
        await until(runtime, lambda view: bytes(view.cursor) == b"11")
        shown = await until(runtime, lambda view: view.polls_total >= 4)
        page = await runtime.read(lambda reader: reader.stored("people"))
        assert {item.key: msgspec.json.decode(item.data)["name"] for item in page.items} == {"1": "ann", "2": "bert"}
        assert await runtime.read(lambda reader: reader.streams()) == [StreamRow("people", 2)]
        assert shown.errors_total == 0
    their.close()


async def test_a_wrong_table_of_the_configuration_ends_the_start(tmp_path: Path) -> None:
    """An option that does not fit is found before anything starts, and the data folder stays empty."""
    with pytest.raises(ConfigError, match=r"connectors\.people\.options\.cursor"):
        async with opened(tmp_path / "data", "sql", options={"database": "a", "table": "b"}):
            pass
