"""P13: a journal that any released version wrote opens, verifies and says what it said then."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wal.journal import Journal
from wal.queries import Reader
from wal.records import RECORD_TYPES, DaemonStarted, Entry
from wal.verify import verify

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
NAMES = sorted(path.name.removesuffix(".db.gz") for path in GOLDEN.glob("*.db.gz"))


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unpack(name: str, folder: Path) -> Path:
    path = folder / f"{name}.db"
    path.write_bytes(gzip.decompress((GOLDEN / f"{name}.db.gz").read_bytes()))
    return path


def expected(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_journal_says_what_it_said(name: str, tmp_path: Path, maker: ModuleType) -> None:
    """P13: every golden journal opens for writing, migrates, verifies, reads as it did, and takes new records."""
    path = unpack(name, tmp_path)
    wanted = expected(name)
    with Journal.open(path) as journal:
        assert journal.head.digest.hex() == wanted.pop("digest")
        assert journal.head.clean
        with journal.reader() as reader:
            assert maker.expectation(reader) == wanted
        journal.commit([Entry(journal.head.seq + 1, 0, 0, 0, DaemonStarted("later", 1))])
    assert verify(path).problems == []


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_journal_can_be_read_without_a_daemon(name: str, tmp_path: Path, maker: ModuleType) -> None:
    """P13: readers take a file of an older version as it is, read-only."""
    path = unpack(name, tmp_path)
    before = path.read_bytes()
    with Reader.open(path) as reader:
        assert maker.expectation(reader)["runs"] == expected(name)["runs"]
    assert path.read_bytes() == before


def test_the_golden_journals_hold_every_kind_of_record() -> None:
    """A new kind of record is not done before a golden journal holds one (see tests/golden/make.py)."""
    kinds = {event["kind"] for name in NAMES for event in expected(name)["events"]}
    assert kinds >= {kind.__struct_config__.tag for kind in RECORD_TYPES}


def test_making_is_repeatable(tmp_path: Path, maker: ModuleType) -> None:
    """The same version writes the same bytes for the same records: nothing of the machine or the hour is in them."""
    for name in ("one", "two"):
        maker.make(name, tmp_path)
    assert (tmp_path / "one.db.gz").read_bytes() == (tmp_path / "two.db.gz").read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
