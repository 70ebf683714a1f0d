from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from actors.errors import SchemaNarrowed, SourceError, SourceGarbled, SourceRefused
from actors.shapes import KEY_FIELDS
from runtimed.config_layers import ConfigError
from runtimed.connectors import singer
from runtimed.connectors.batch import Batch
from runtimed.connectors.singer import SingerDialect
from tests.runtimed.connectors.driving import World, settings
from tests.runtimed.connectors.test_child import is_alive
from wal.records import StoredItem

TAP = str(Path(__file__).with_name("tap_faults.py"))


def world(folder: Path, *, key: str | None = None, timeout: float = 30.0, options: Any = None, **config: Any) -> World:
    table = settings(
        "singer",
        command=[sys.executable, "-S", TAP],
        config=config,
        key=key,
        timeout=timeout,
        options={"grace": 0.05, **(options or {})},
    )
    return World(singer.make("people", table), folder / "people")


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.trio
@pytest.mark.slow
async def test_a_tap_is_read_whole_and_then_from_its_state(tmp_path: Path) -> None:
    """All records arrive once, the last STATE is the cursor, and the next poll hands it back to the tap."""
    tap = world(tmp_path, count=2_345, every=100)
    await tap.poll()
    assert tap.keys("people") == numbers(2_345)
    assert len(tap.taken) == 2_345
    assert tap.stored["people"]["7"] == {"id": 7, "name": "person 7", "email": None}
    assert tap.cursor == {"id": 2_345}
    await tap.poll()
    assert len(tap.taken) == 2_345
    assert tap.shapes.known["people"][KEY_FIELDS] == ["id"]
    assert os.listdir(tmp_path / "people") == []  # no configuration is left


@pytest.mark.trio
@pytest.mark.slow
async def test_a_crash_in_mid_batch_keeps_what_came_before(tmp_path: Path) -> None:
    """A tap that crashes says how; what it had said is taken, and the next poll goes on from the last STATE."""
    tap = world(tmp_path, count=20, every=5, at=13, fault="crash")
    with pytest.raises(SourceError, match=r"ended with code 3: Traceback: the source's \\x1b\[31mserver went away"):
        await tap.poll()
    assert tap.keys("people") == numbers(13)
    assert tap.cursor == {"id": 10}
    tap.spec = world(tmp_path, count=20, every=5).spec
    await tap.poll()
    assert tap.keys("people") == numbers(20)
    assert tap.cursor == {"id": 20}


@pytest.mark.trio
@pytest.mark.slow
async def test_our_own_death_between_pages_loses_nothing(tmp_path: Path) -> None:
    """Killed after any page, the next poll begins at a STATE whose records were all taken."""
    tap = world(tmp_path, count=4_000, every=700)
    for pages in (1, 2, 3, 1):
        await tap.poll(pages_max=pages)
        assert tap.keys("people")[: (tap.cursor or {"id": 0})["id"]] == numbers((tap.cursor or {"id": 0})["id"])
    await tap.poll()
    assert tap.keys("people") == numbers(4_000)


@pytest.mark.trio
@pytest.mark.slow
async def test_what_comes_twice_is_one_record(tmp_path: Path) -> None:
    """A tap that repeats records at the boundary makes no second record."""
    tap = world(tmp_path, count=10, fault="duplicates")
    await tap.poll()
    tap.spec = world(tmp_path, count=15, fault="duplicates").spec
    await tap.poll()
    assert tap.keys("people") == numbers(15)
    assert len(tap.taken) == 22


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        ("huge", SourceGarbled, "a line is longer than 16,777,216 bytes"),
        ("garbled", SourceGarbled, "a line is no Singer message .*: INFO this tap logs to its output"),
        ("latin1", SourceGarbled, "a line is no Singer message .*utf-8"),
        ("unknown", SourceGarbled, "a line is no Singer message .*BATCH"),
        ("stranger", SourceGarbled, "a record of stream 'others' came before its schema"),
        ("half", SourceGarbled, "ended in the middle of a line of 30 bytes"),
    ],
)
async def test_garbage_is_told_as_such(tmp_path: Path, fault: str, kind: type[Exception], sentence: str) -> None:
    """A huge line, no JSON, no UTF-8, an unknown message, half a line: each has its sentence, and what came before it
    is taken with the last state."""
    tap = world(tmp_path, count=20, every=5, at=13, fault=fault)
    with pytest.raises(kind, match=sentence):
        await tap.poll()
    assert tap.keys("people") == numbers(13)
    assert tap.cursor == {"id": 10}


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hang", "stubborn"])
async def test_a_tap_that_hangs_is_ended(tmp_path: Path, fault: str, silent_from: Callable[[Path], None]) -> None:
    """After the timeout without a word the tap is ended, also if it ignores SIGTERM, and its last words are taken."""
    silent_from(tmp_path / "pid")
    tap = world(tmp_path, count=20, every=5, at=13, fault=fault, timeout=0.3, pid_file=str(tmp_path / "pid"))
    with pytest.raises(SourceError, match=r"it has said nothing for 0\.3 s"):
        await tap.poll()
    assert tap.cursor == {"id": 10}
    assert not is_alive(int((tmp_path / "pid").read_text(encoding="utf-8")))


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize("own_session", [False, True])
async def test_a_grandchild_neither_blocks_nor_stays(tmp_path: Path, own_session: bool) -> None:
    """A tap that leaves somebody behind who holds its output open ends all the same, and takes them along."""
    pids = tmp_path / "pids"
    tap = world(tmp_path, count=20, at=13, fault="grandchild", pid_file=str(pids), own_session=own_session)
    await tap.poll()
    assert tap.keys("people") == numbers(20)
    assert not any(is_alive(int(pid)) for pid in pids.read_text(encoding="utf-8").split())


@pytest.mark.trio
@pytest.mark.slow
async def test_a_state_without_records_is_kept(tmp_path: Path) -> None:
    """A tap that found nothing new and says how far it looked has moved."""
    tap = world(tmp_path, fault="state_only")
    await tap.poll()
    assert (tap.taken, tap.cursor) == ([], {"id": 0, "seen": True})


@pytest.mark.trio
@pytest.mark.slow
async def test_a_narrower_schema_takes_nothing(tmp_path: Path) -> None:
    """A wider schema is taken over; of a narrower one no record is taken and the cursor stays."""
    tap = world(tmp_path, count=10)
    await tap.poll()
    tap.spec = world(tmp_path, count=20, schema="wide").spec
    await tap.poll()
    assert "phone" in tap.shapes.known["people"]["properties"]
    for schema, keys, sentence in [
        ("narrow", ["id"], "property email is gone"),
        ("wide", ["name"], "its key was id and is name"),
    ]:
        tap.spec = world(tmp_path, count=30, schema=schema, keys=keys).spec
        with pytest.raises(SchemaNarrowed, match=sentence):
            await tap.poll()
    assert tap.keys("people") == numbers(20)
    assert tap.cursor == {"id": 20}


@pytest.mark.trio
@pytest.mark.slow
async def test_keys(tmp_path: Path) -> None:
    """A compound key is one text; a key of the configuration takes the tap's place; a record without one is passed on
    without; a stream without one is refused with what to do."""
    tap = world(tmp_path, count=3, keys=["id", "name"])
    await tap.poll()
    assert tap.keys("people") == ['[0,"person 0"]', '[1,"person 1"]', '[2,"person 2"]']
    tap = world(tmp_path, count=3, key="name", keys=[])
    await tap.poll()
    assert tap.keys("people") == ["person 0", "person 1", "person 2"]
    tap = world(tmp_path, count=3, at=1, fault="keyless")
    await tap.poll()
    assert (tap.keys("people"), tap.keyless) == (numbers(3), [{"name": "nobody"}])
    with pytest.raises(SourceRefused, match="stream 'people' has no key properties"):
        await world(tmp_path, count=3, keys=[]).poll()


@pytest.mark.trio
@pytest.mark.slow
async def test_files_are_ours_alone_and_secrets_are_filled_in(tmp_path: Path) -> None:
    """Configuration, state and catalog are 0600 files in a 0700 folder, gone once the tap speaks; secrets are theirs
    alone to see, and what a killed daemon left is removed."""
    code = """
import json, os, sys
files = [sys.argv[i + 1] for i, word in enumerate(sys.argv) if word.startswith("--")]
seen = {word: json.load(open(sys.argv[i + 1])) for i, word in enumerate(sys.argv) if word.startswith("--")}
seen["modes"] = [oct(os.stat(f).st_mode & 0o777) for f in [os.path.dirname(files[0]), *files]]
seen["env"] = os.environ["TOKEN"]
def say(**message):
    print(json.dumps(message), flush=True)
say(type="SCHEMA", stream="s", schema={}, key_properties=["id"])
while any(map(os.path.exists, files)):
    pass
say(type="RECORD", stream="s", record={"id": 1, **seen})
say(type="STATE", value=3)
"""
    script = tmp_path / "tap.py"
    script.write_text(code, encoding="utf-8")
    table = settings(
        "singer",
        command=[sys.executable, "-S", str(script)],
        config={"auth": {"key": "secret:crm"}, "list": ["secret:crm", "plain"]},
        options={"catalog": {"streams": []}, "env": {"TOKEN": "secret:crm"}},
    )
    folder = tmp_path / "crm"
    left = folder / "poll-killed"
    left.mkdir(parents=True)
    tap = World(singer.make("crm", table), folder, {"crm": "s3cret"})
    tap.cursor = {"at": 1}
    await tap.poll()
    seen = tap.stored["s"]["1"]
    assert seen["--config"] == {"auth": {"key": "s3cret"}, "list": ["s3cret", "plain"]}
    assert (seen["--state"], seen["--catalog"], seen["env"]) == ({"at": 1}, {"streams": []}, "s3cret")
    assert seen["modes"] == ["0o700", "0o600", "0o600", "0o600"]
    assert os.listdir(folder) == []


@pytest.mark.trio
@pytest.mark.slow
async def test_paths_are_those_of_the_daemons_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path in the command or the configuration means what it means to the daemon, whatever else is handed
    over; and what the tap takes for its home and for temporary files is a folder that goes with the poll."""
    (tmp_path / "tap.py").write_text(
        """
import json, os, sys
with open(json.load(open(sys.argv[sys.argv.index("--config") + 1]))["path"]) as rows:
    print(json.dumps({"type": "SCHEMA", "stream": "people", "schema": {}, "key_properties": ["id"]}))
    homes = [os.environ["HOME"], os.environ["TMPDIR"]]
    for row in rows:
        print(json.dumps({"type": "RECORD", "stream": "people", "record": {**json.loads(row), "homes": homes}}))
""",
        encoding="utf-8",
    )
    (tmp_path / "people.jsonl").write_text('{"id": 1}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    table = settings("singer", command=[sys.executable, "-S", "tap.py"], config={"path": "people.jsonl"})
    tap = World(singer.make("crm", table), tmp_path / "crm")
    await tap.poll()
    (row,) = tap.stored["people"].values()
    assert [Path(home).parent for home in row["homes"]] == [tmp_path / "crm"] * 2
    assert os.listdir(tmp_path / "crm") == []


@pytest.mark.trio
@pytest.mark.slow
async def test_a_tap_that_tells_its_secrets_is_not_repeated(tmp_path: Path) -> None:
    """A secret that a tap writes to its stderr, or into a line that is no message, is not in the error."""
    script = tmp_path / "tap.py"
    script.write_text(
        "import json, sys\n"
        "key = json.load(open(sys.argv[sys.argv.index('--config') + 1]))['key']\n"
        "print('using', key, flush=True) if 'aloud' in sys.argv else sys.exit('bad key ' + key)\n",
        encoding="utf-8",
    )
    for more, sentence in [([], r"ended with code 1: bad key \[hidden\]"), (["aloud"], r"message .*using \[hidden\]")]:
        command = [sys.executable, "-S", str(script), *more]
        spec = singer.make("crm", settings("singer", command=command, config={"key": "secret:crm"}))
        with pytest.raises(SourceError, match=sentence) as caught:
            await World(spec, tmp_path / "crm", {"crm": "s3cret\x1b"}).poll()
        assert "s3cret" not in str(caught.value)


class Talker:
    """In the place of a child, on the clock of the test: it says a version every four seconds, and ends."""

    def __init__(self) -> None:
        self.words, self.next_at = 12, trio.current_time() + 4.0

    async def __aenter__(self) -> Talker:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read(self, wait_s: float) -> bytes | None:
        with trio.move_on_after(wait_s):
            await trio.sleep_until(self.next_at)
            self.words, self.next_at = self.words - 1, self.next_at + 4.0
            return b'{"type":"ACTIVATE_VERSION","stream":"s","version":1}\n' if self.words else b""
        return None

    async def check_end(self, rest: bytes) -> None:
        assert rest == b""


@pytest.mark.trio
async def test_a_tap_that_talks_is_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A tap that says only versions for longer than the timeout gives empty pages, so that nobody gives it up."""
    monkeypatch.setattr("runtimed.connectors.child_source.Child.start", lambda *_, **options: Talker())
    tap = World(singer.make("crm", settings("singer", command=[sys.executable], timeout=5.0)), tmp_path / "crm")
    await tap.poll()
    assert trio.current_time() == 12 * 4.0
    assert (tap.pages > 0, tap.taken, tap.cursor) == (True, [], None)


def test_options_are_read_strictly() -> None:
    """An unknown option and a wrong type stop the start, and are named."""
    for options, named in [
        ({"stream": ["a"]}, r"connectors\.crm\.options\.stream"),
        ({"grace": "long"}, r"connectors\.crm\.options\.grace"),
    ]:
        with pytest.raises(ConfigError, match=named):
            singer.make("crm", settings("singer", command=["tap"], options=options))
    with pytest.raises(ConfigError, match=r"connectors\.crm\.command: it is needed"):
        singer.make("crm", settings("singer"))


def lines(*messages: str) -> bytes:
    return "".join(message + "\n" for message in messages).encode()


SCHEMA = '{"type":"SCHEMA","stream":"s","schema":%s,"key_properties":["id"]}'


def test_streams_that_are_not_wanted_are_left_out() -> None:
    """Only the streams of the options are taken; the state counts all the same."""
    dialect = SingerDialect(["s"])
    block = lines(
        SCHEMA % "{}",
        SCHEMA.replace('"s"', '"t"') % "{}",
        '{"type":"RECORD","stream":"t","record":{"id":1}}',
        '{"type":"RECORD","stream":"s","record":{"id":2}}',
        '{"type":"ACTIVATE_VERSION","stream":"s","version":1}',
        '{"type":"STATE","value":{"t":1}}',
    )
    assert [announcement.stream for announcement in dialect.take(block)] == ["s"]
    assert [(page.stream, page.records, page.cursor) for page in dialect.batch.pages()] == [
        ("s", [StoredItem("2", Raw(b'{"id":2}'))], Raw(b'{"t":1}'))
    ]


def test_deleted_rows_are_told() -> None:
    """A row that says when it was deleted, where the schema has that column, is deleted in the store."""
    dialect = SingerDialect()
    column = '{"properties":{"_sdc_deleted_at":{}}}'
    rows = ['{"id":1,"_sdc_deleted_at":null}', '{"id":2,"_sdc_deleted_at":"2026-01-01T00:00:00Z"}', '{"id":3}']
    block = lines(SCHEMA % column, *(f'{{"type":"RECORD","stream":"s","record":{row}}}' for row in rows))
    assert len(list(dialect.take(block))) == 1
    (page,) = dialect.batch.pages(everything=True)
    assert [(item.key, item.deleted) for item in page.records] == [("1", False), ("2", True), ("3", False)]


operations = st.lists(st.sampled_from(["a", "b", "c", "STATE", "pages", "everything"]), max_size=60)


@given(operations)
def test_a_state_never_goes_before_its_records(steps: list[str]) -> None:
    """In whatever order records of several streams and states come, and pages are cut: a page that moves the cursor
    comes after all records before that state, nothing is lost, nothing comes twice, each stream keeps its order."""
    batch, added, handed_on, states = Batch(), 0, [], 0
    owed: dict[bytes, int] = {}
    for step in [*steps, "everything"]:
        if step in "abc":
            batch.items(step).append((step, added))
            added += 1
        elif step == "STATE":
            states += 1
            owed[str(states).encode()] = added
            batch.seal(Raw(str(states).encode()))
        else:
            for page in batch.pages(everything=step == "everything"):
                handed_on += page.records
                assert all(stream == page.stream for stream, _ in page.records)
                if page.cursor is not None:
                    gone = {number for _, number in handed_on}
                    assert gone >= set(range(owed[bytes(page.cursor)]))
    assert sorted(number for _, number in handed_on) == list(range(added))
    for stream in "abc":
        mine = [number for name, number in handed_on if name == stream]
        assert mine == sorted(mine)
    assert not batch.waits
