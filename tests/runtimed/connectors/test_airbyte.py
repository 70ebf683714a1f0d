from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.errors import SchemaNarrowed, SourceError, SourceGarbled, SourceRefused
from runtimed.config_layers import ConfigError
from runtimed.connectors import airbyte
from runtimed.connectors.airbyte_messages import AirbyteDialect, Catalog, Name, Stream
from runtimed.connectors.keys import key_reader
from tests.runtimed.connectors.driving import World, settings

FAKE = str(Path(__file__).with_name("fake_airbyte.py"))


def world(folder: Path, *, key: str | None = None, options: Any = None, **config: Any) -> World:
    command = [sys.executable, "-S", FAKE]
    table = settings("airbyte", command=command, config=config, key=key, options=options or {})
    return World(airbyte.make("crm", table), folder / "crm")


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize("state", ["STREAM", "GLOBAL", "LEGACY"])
async def test_streams_are_discovered_and_read(tmp_path: Path, state: str) -> None:
    """All streams are read with their own keys, logs and messages of later protocols are passed over, and the next
    poll goes on from the state, whichever of the three kinds it is."""
    crm = world(tmp_path, count=1_500, state=state)
    await crm.poll()
    assert crm.keys("users") == [str(number) for number in range(1_500)]
    assert crm.stored["events"] == {'["e1","click"]': {"ref": {"id": "e1"}, "kind": "click"}}
    taken = len(crm.taken)
    crm.spec = world(tmp_path, count=1_502, state=state).spec
    await crm.poll()
    assert crm.taken[taken:] == [("users", "1500"), ("users", "1501"), ("events", '["e1","click"]')]
    assert os.listdir(tmp_path / "crm") == []


@pytest.mark.trio
@pytest.mark.slow
async def test_states_of_several_streams_are_kept_beside_each_other(tmp_path: Path) -> None:
    """The cursor is the last state of each stream, in the form that `--state` takes."""
    crm = world(tmp_path, count=2)
    await crm.poll()
    assert [(each["stream"]["stream_descriptor"]["name"], each["stream"]["stream_state"]) for each in crm.cursor] == [
        ("users", {"id": 2}),
        ("events", {"done": True}),
    ]


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "options", "kind", "sentence"),
    [
        ({"fault": "error"}, {}, SourceRefused, r"the token \\x1b\[31mhas expired"),
        ({"fault": "incomplete"}, {}, SourceError, "stream 'users' ended incomplete"),
        ({"fault": "no catalog"}, {}, SourceRefused, "`discover` ended without a catalog"),
        ({}, {"streams": ["orders"]}, SourceRefused, "there is no stream 'orders'; there are: events, users"),
    ],
)
async def test_what_a_connector_says_is_wrong_is_told(
    tmp_path: Path, config: Any, options: Any, kind: type[Exception], sentence: str
) -> None:
    """A traced error, an incomplete stream, no catalog, a stream that is not there: each has its sentence."""
    with pytest.raises(kind, match=sentence):
        await world(tmp_path, options=options, **config).poll()


@pytest.mark.trio
@pytest.mark.slow
async def test_streams_and_mode_are_chosen(tmp_path: Path) -> None:
    """Only the streams of the options are read, in the mode of the options."""
    crm = world(tmp_path, count=3, options={"streams": ["users"], "sync_mode": "full_refresh"})
    await crm.poll()
    await crm.poll()
    assert crm.taken == [("users", str(number)) for number in [0, 1, 2, 0, 1, 2]]


@pytest.mark.trio
@pytest.mark.slow
async def test_a_narrower_catalog_takes_nothing(tmp_path: Path) -> None:
    """What the catalog takes away from a stream's schema stops the poll before anything is read."""
    crm = world(tmp_path, count=3)
    await crm.poll()
    crm.spec = world(tmp_path, count=5, schema="narrow").spec
    with pytest.raises(SchemaNarrowed, match="stream users narrows: property name is gone"):
        await crm.poll()
    assert crm.keys("users") == ["0", "1", "2"]


def test_streams_without_a_key_and_of_one_name() -> None:
    """A stream without a primary key is refused unless the configuration names one; two streams of one name are told
    apart by their namespace."""
    one = Stream("t", namespace="a", source_defined_primary_key=[["id"]])
    other = Stream("t", namespace="b", source_defined_primary_key=[["id"]])
    chosen = airbyte.choose(Catalog([one, other]), (), "incremental", None)
    assert {name: stream.store_name for name, stream in chosen.items()} == {
        Name("t", "a"): "a.t",
        Name("t", "b"): "b.t",
    }
    with pytest.raises(SourceRefused, match="stream 's' has no primary key"):
        airbyte.choose(Catalog([Stream("s")]), (), "incremental", None)
    (found,) = airbyte.choose(Catalog([Stream("s")]), (), "incremental", "ref.id").values()
    assert (found.key, found.configured["sync_mode"]) == ([["ref", "id"]], "full_refresh")


def test_a_message_that_is_known_and_broken_is_no_noise() -> None:
    """Half a record is not passed over like a log, nor is a record of a stream that nobody asked for."""
    dialect = AirbyteDialect(None)
    dialect.expect(Name("s"), "s", key_reader([["id"]]))
    good = b'{"type":"RECORD","record":{"stream":"s","data":{"id":1},"emitted_at":1}}\n'
    for bad in (b'{"type":"RECORD","record":{"stream":"s","da\n', b'{"type":"STATE"}\n', good.replace(b'"s"', b'"t"')):
        with pytest.raises(SourceGarbled):
            list(dialect.take(good + bad))
    assert len(dialect.batch.items("s")) == 3


def test_options_are_read_strictly() -> None:
    """A sync mode that does not exist stops the start, and is named."""
    with pytest.raises(ConfigError, match=r"connectors\.crm\.options\.sync_mode"):
        airbyte.make("crm", settings("airbyte", command=["x"], options={"sync_mode": "sometimes"}))
