from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.errors import SourceError, SourceRefused
from runtimed.config_layers import ConfigError
from runtimed.connectors import file_reading, files
from runtimed.connectors.file_places import FilesCursor
from tests.runtimed.connectors.driving import World, settings


class Folder:
    """A watched folder and what was taken from it."""

    def __init__(self, folder: Path, pattern: str = "*.jsonl", key: str | None = "id", **options: Any) -> None:
        self.folder = folder
        table = settings("files", key=key, options={"path": str(folder / pattern), **options})
        self.world = World(files.make("inbox", table), None)

    def put(self, name: str, text: str | bytes, mtime: int = 0) -> Path:
        path = self.folder / name
        hidden = self.folder / f".{name}.tmp"
        hidden.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.utime(hidden, (mtime, mtime))
        hidden.rename(path)
        return path

    def append(self, name: str, text: str) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    async def poll(self, pages_max: int | None = None) -> list[str]:
        """The keys that this poll took, in order."""
        before = len(self.world.taken)
        try:
            await self.world.poll(pages_max)
        finally:
            cursor = msgspec.json.encode(self.world.cursor)
            self.world.cursor = None if self.world.cursor is None else msgspec.json.decode(cursor, type=FilesCursor)
        return [key for _, key in self.world.taken[before:]]

    @property
    def data(self) -> dict[str, Any]:
        return self.world.stored.get("inbox", {})

    @property
    def refused(self) -> list[str]:
        return [f"{refusal.code}: {refusal.message}" for refusal in self.world.refused]


def rows(*ids: int) -> str:
    return "".join(f'{{"id":{number},"name":"n{number}"}}\n' for number in ids)


@pytest.mark.trio
async def test_files_are_read_oldest_first_and_once(tmp_path: Path) -> None:
    """Files are taken by their age and then by name; a second poll finds nothing and moves nothing."""
    inbox = Folder(tmp_path)
    inbox.put("b.jsonl", rows(3), mtime=100)
    inbox.put("a.jsonl", rows(4), mtime=100)
    inbox.put("z.jsonl", rows(1, 2), mtime=50)
    assert await inbox.poll() == ["1", "2", "4", "3"]
    assert inbox.data["1"] == {"id": 1, "name": "n1"}
    assert (await inbox.poll(), inbox.world.pages) == ([], 0)


@pytest.mark.trio
async def test_what_is_not_finished_is_left_alone(tmp_path: Path) -> None:
    """Dotfiles, `.part` and `.tmp` files and folders are no input; once renamed, a file is."""
    inbox = Folder(tmp_path, pattern="*")
    for name in (".hidden", "a.part", "b.tmp"):
        (tmp_path / name).write_text(rows(1), encoding="utf-8")
    (tmp_path / "folder").mkdir()
    assert await inbox.poll() == []
    (tmp_path / "a.part").rename(tmp_path / "a.jsonl")
    assert await inbox.poll() == ["1"]


@pytest.mark.trio
async def test_a_growing_file_gives_whole_lines(tmp_path: Path) -> None:
    """Of a file that is being written to, whole lines are taken; the last one without a newline once it rests."""
    inbox = Folder(tmp_path)
    inbox.put("log.jsonl", rows(1) + '{"id":2,')
    assert await inbox.poll() == ["1"]
    inbox.append("log.jsonl", '"name":"n2"}\n' + '{"id":3}')
    assert await inbox.poll() == ["2"]
    assert await inbox.poll() == ["3"]
    assert await inbox.poll() == []
    inbox.append("log.jsonl", "\n" + rows(4))
    assert await inbox.poll() == ["4"]
    assert inbox.refused == []


@pytest.mark.trio
async def test_a_poll_that_dies_goes_on_inside_the_file(tmp_path: Path) -> None:
    """Killed after any page, the next poll begins at the record behind it, and no record is missed."""
    inbox = Folder(tmp_path)
    inbox.put("big.jsonl", rows(*range(20_000)), mtime=1)
    inbox.put("small.jsonl", rows(20_000), mtime=2)
    first = await inbox.poll(pages_max=1)
    second = await inbox.poll(pages_max=2)
    third = await inbox.poll()
    assert first + second + third == [str(number) for number in range(20_001)]


@pytest.mark.trio
async def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    """A file that was replaced, cut short or written over is read from its beginning; one that was only renamed is
    not."""
    inbox = Folder(tmp_path)
    inbox.put("a.jsonl", rows(1, 2, 3))
    assert await inbox.poll() == ["1", "2", "3"]
    inbox.put("a.jsonl", rows(1, 2, 3, 4), mtime=5)
    assert await inbox.poll() == ["1", "2", "3", "4"]
    (tmp_path / "a.jsonl").write_text(rows(7), encoding="utf-8")
    assert await inbox.poll() == ["7"]
    (tmp_path / "a.jsonl").write_text(rows(8, 9), encoding="utf-8")  # longer, and not the same before
    assert await inbox.poll() == ["8", "9"]
    (tmp_path / "a.jsonl").write_text(rows(6, 5), encoding="utf-8")  # as long as before
    os.utime(tmp_path / "a.jsonl", (9, 9))
    assert await inbox.poll() == ["6", "5"]
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    assert await inbox.poll() == []
    inbox.append("b.jsonl", rows(10))
    assert await inbox.poll() == ["10"]


@pytest.mark.trio
async def test_bad_lines_are_set_aside_and_the_file_goes_on(tmp_path: Path) -> None:
    """A line that is no JSON, has no key or is in another encoding is refused with its place; the rest is taken."""
    inbox = Folder(tmp_path)
    inbox.put("a.jsonl", rows(1).encode() + b'oops\n{"x":1}\n\n{"id":"\xff"}\n' + rows(2).encode())
    assert await inbox.poll() == ["1", "2"]
    assert len(inbox.refused) == 3
    assert inbox.refused[0].startswith("bad_record: a.jsonl, byte 21: it is no JSON")
    assert "its key id is missing" in inbox.refused[1]
    assert "it is not utf-8" in inbox.refused[2]
    assert bytes(inbox.world.refused[0].data) == b'"oops"'


@pytest.mark.trio
async def test_csv(tmp_path: Path) -> None:
    """CSV with a header becomes objects of texts; quotes, newlines in fields, another delimiter and encoding too."""
    inbox = Folder(tmp_path, "*.csv", delimiter=";", encoding="cp1252")
    inbox.put("a.csv", 'id;name\r\n1;"two\nlines; and ""quotes"""\r\n2;caf\xe9\r\n3\r\n'.encode("cp1252"))
    assert await inbox.poll() == ["1", "2"]
    assert inbox.data == {
        "1": {"id": "1", "name": 'two\nlines; and "quotes"'},
        "2": {"id": "2", "name": "café"},
    }
    assert inbox.refused == ["bad_record: a.csv, byte 48: it has 1 fields, and the header 2"]
    with (tmp_path / "a.csv").open("ab") as file:
        file.write(b"4;four\n")
    assert await inbox.poll() == ["4"]
    assert inbox.data["4"] == {"id": "4", "name": "four"}


@pytest.mark.trio
@pytest.mark.parametrize(
    ("text", "why"),
    [("id,id\n1,2\n", "the header has 'id' twice"), ("name\nx\n", "the header has no 'id'"), ('"', "not closed")],
)
async def test_a_bad_header_sets_the_file_aside(tmp_path: Path, text: str, why: str) -> None:
    """Nothing of a file with a bad header is taken, which is told once, and other files are read."""
    inbox = Folder(tmp_path, "*.csv")
    inbox.put("a.csv", text)
    inbox.put("b.csv", "id\n1\n", mtime=9)
    taken = await inbox.poll() + await inbox.poll() + await inbox.poll()
    assert taken == ["1"]
    assert [why in refusal for refusal in inbox.refused] == [True]


@pytest.mark.trio
async def test_without_a_key_the_place_and_the_content_are_the_key(tmp_path: Path) -> None:
    """Equal lines in different places are different records; a file read anew has the same keys for the same lines."""
    inbox = Folder(tmp_path, key=None)
    inbox.put("a.jsonl", '{"a":1}\n{"a":1}\n')
    first = await inbox.poll()
    assert len(set(first)) == 2
    inbox.put("a.jsonl", '{"a":1}\n{"a":1}\n{"a":2}\n', mtime=5)
    assert (await inbox.poll())[:2] == first


@pytest.mark.trio
async def test_files_that_are_done_are_moved(tmp_path: Path) -> None:
    """A file is moved once its records are on disk, also by the poll after a crash, and never onto another."""
    inbox = Folder(tmp_path, "**/*.jsonl", done="move:done")
    inbox.put("a.jsonl", rows(1))
    inbox.put("b.jsonl", rows(2) + "{", mtime=9)
    assert await inbox.poll(pages_max=1) == ["1", "2"]  # killed before it could move anything
    assert (tmp_path / "a.jsonl").exists()
    await inbox.poll()
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["a.jsonl", "b.jsonl"]
    assert len(inbox.refused) == 1  # the half line, once the file rested
    inbox.put("a.jsonl", rows(3), mtime=7)
    assert await inbox.poll() == ["3"]
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["a.jsonl", "a.jsonl.1", "b.jsonl"]
    assert (await inbox.poll(), inbox.world.pages) == ([], 0)


@pytest.mark.trio
async def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that left the folder are forgotten; more than can be remembered is refused with what to do."""
    monkeypatch.setattr(file_reading, "FILES_MAX", 3)
    inbox = Folder(tmp_path)
    for number in range(3):
        inbox.put(f"{number}.jsonl", rows(number))
    assert len(await inbox.poll()) == 3
    (tmp_path / "0.jsonl").unlink()
    inbox.put("3.jsonl", rows(3))
    assert await inbox.poll() == ["3"]
    assert [os.path.basename(place.path) for place in inbox.world.cursor.files] == ["1.jsonl", "2.jsonl", "3.jsonl"]
    inbox.put("4.jsonl", rows(4))
    with pytest.raises(SourceRefused, match="more than 3 files match"):
        await inbox.poll()


@pytest.mark.trio
async def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other files are taken, and then the poll fails with the file's name."""
    inbox = Folder(tmp_path)
    locked = inbox.put("a.jsonl", rows(1))
    inbox.put("b.jsonl", rows(2))

    def refuse(path: str, *arguments: Any, **named: Any) -> Any:
        if path == str(locked):
            raise PermissionError(13, "Permission denied")
        return open(path, *arguments, **named)

    monkeypatch.setattr(file_reading, "open", refuse, raising=False)
    with pytest.raises(SourceError, match=r"a\.jsonl cannot be read: Permission denied"):
        await inbox.poll()
    assert inbox.world.keys("inbox") == ["2"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("encoding", "utf-16"), ("encoding", "no-such"), ("delimiter", '"'), ("done", "delete"), ("format", "xml")],
)
def test_options_are_read_strictly(option: str, value: str) -> None:
    """An encoding whose newlines are not one byte, and other nonsense, stops the start and is named."""
    with pytest.raises(ConfigError, match=rf"connectors\.inbox\.options\.{option}"):
        files.make("inbox", settings("files", options={"path": "/data/*.csv", option: value}))
