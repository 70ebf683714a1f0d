"""P1: what was acknowledged survives a power cut.

A VFS notes every write, truncation and sync that the real journal makes. From the notes, the disk after a cut at any
instant is rebuilt: what was synced is there; of what was not, each write may be there, be missing, or be torn into
sectors. Each such disk is opened by the real journal.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wal.errors import JournalError
from wal.journal import Journal
from wal.records import Entry
from wal.verify import verify

SECTOR = 512
BATCHES = 60
FILES = ("journal.db", "journal.db-wal")

Image = dict[str, bytearray]


class Notes:
    """A disk that remembers what was done to it, and which batches were acknowledged in between."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, ...]] = []

    def writing(self, name: str, data: bytes, offset: int) -> None:
        """What matters is what arrives."""

    def written(self, name: str, data: bytes, offset: int) -> None:
        self.operations.append(("write", name, offset, data))

    def truncate(self, name: str, size: int) -> None:
        self.operations.append(("truncate", name, size))

    def sync(self, name: str) -> None:
        """Only a sync that returned has synced."""

    def synced(self, name: str) -> None:
        self.operations.append(("sync", name))

    def delete(self, name: str) -> None:
        self.operations.append(("delete", name))

    def acknowledge(self, seq: int) -> None:
        self.operations.append(("acknowledge", "", seq))


def apply(image: Image, operation: tuple[Any, ...]) -> None:
    kind, name, *rest = operation
    data = image.setdefault(name, bytearray())
    if kind == "truncate":
        del data[rest[0] :]
        return
    offset, new = rest
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(new)] = new


class PowerCuts:
    """Disks after a cut, walking once through the notes: `at` must not go back."""

    def __init__(self, base: Image, notes: Notes, rng: random.Random) -> None:
        self.durable = {name: bytearray(data) for name, data in base.items()}
        self.unsynced: dict[str, list[tuple[Any, ...]]] = {}
        self.acknowledged = 0
        self._operations, self._done, self._rng = notes.operations, 0, rng

    def at(self, cut: int) -> Image:
        for operation in self._operations[self._done : cut]:
            self._step(operation)
        self._done = cut
        image = {name: bytearray(data) for name, data in self.durable.items()}
        for operations in self.unsynced.values():
            for operation in operations:
                self._maybe(image, operation)
        return image

    def _step(self, operation: tuple[Any, ...]) -> None:
        kind, name = operation[:2]
        if kind == "acknowledge":
            self.acknowledged = operation[2]
        elif kind == "sync":
            for waiting in self.unsynced.pop(name, []):
                apply(self.durable, waiting)
        elif kind == "delete":
            self.durable.pop(name, None)
            self.unsynced.pop(name, None)
        else:
            self.unsynced.setdefault(name, []).append(operation)

    def _maybe(self, image: Image, operation: tuple[Any, ...]) -> None:
        fate = self._rng.random()
        if fate < 0.5:
            apply(image, operation)
        elif fate < 0.75 and operation[0] == "write":
            _, name, offset, data = operation
            for start in range(0, len(data), SECTOR):
                if self._rng.random() < 0.5:
                    apply(image, ("write", name, offset + start, data[start : start + SECTOR]))


def record_life(path: Path, vfs: str, notes: Notes, batches: list[list[Entry]], **how: Any) -> Image:
    """Let a journal live on the watched disk; the disk as it was at first."""
    early = how.pop("acknowledge_early", False)
    Journal.open(path).close()
    base = {path.name: bytearray(path.read_bytes())}
    journal = Journal.open(path, vfs=vfs, checkpoint_bytes=64 * 1024, wal_max_bytes=256 * 1024, **how)
    for batch in batches:
        if early:
            notes.acknowledge(batch[-1].seq)
        journal.commit(batch)
        if not early:
            notes.acknowledge(batch[-1].seq)
        journal.upkeep(idle=False)
    journal.close()
    return base


def open_after(folder: Path, image: Image) -> tuple[int, str]:
    """The last seq that the journal finds on this disk, and what is wrong with it."""
    for name in FILES:
        if name in image:
            (folder / name).write_bytes(image[name])
        else:
            (folder / name).unlink(missing_ok=True)
    (folder / "journal.db-shm").unlink(missing_ok=True)
    try:
        journal = Journal.open(folder / "journal.db")
    except JournalError as error:
        return 0, str(error)
    seq = journal.head.seq
    journal.close()
    return seq, ""


@pytest.fixture
def life(ram_dir: Path, watched: Callable[..., str], random_program: Callable[..., Any]) -> Callable[..., Any]:
    """`life(cuts, **how)`: counts of what went wrong over that many cuts."""

    def run(cuts: int, seed: int, **how: Any) -> dict[str, int]:
        rng = random.Random(seed)
        batches = list(random_program(seed).batches(BATCHES))
        notes = Notes()
        folder = Path(tempfile.mkdtemp(dir=ram_dir))
        base = record_life(folder / "journal.db", watched(notes), notes, batches, **how)
        whole = {0, *(batch[-1].seq for batch in batches)}
        disks = PowerCuts(base, notes, rng)
        found = {"cuts": cuts, "lost": 0, "half": 0, "corrupt": 0}
        for n, cut in enumerate(sorted(rng.randrange(len(notes.operations) + 1) for _ in range(cuts))):
            seq, damage = open_after(folder, disks.at(cut))
            found["corrupt"] += bool(damage)
            found["half"] += not damage and seq not in whole
            found["lost"] += not damage and seq < disks.acknowledged
            if n % 100 == 0 and not damage:
                report = verify(folder / "journal.db")
                found["corrupt"] += not report.ok
        shutil.rmtree(folder)
        return found

    return run


@pytest.mark.slow
@pytest.mark.chaos
def test_nothing_acknowledged_is_lost_in_a_power_cut(
    life: Callable[..., dict[str, int]], scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P1: after a power cut at any instant, all that was acknowledged is there, in whole batches, undamaged."""
    rounds = scale(10, 2_000)
    total = {"cuts": 0, "lost": 0, "half": 0, "corrupt": 0}
    for seed in range(rounds):
        for name, n in life(500, seed).items():
            total[name] += n

    figures("P1", **total)
    assert total == {"cuts": rounds * 500, "lost": 0, "half": 0, "corrupt": 0}


@pytest.mark.slow
def test_the_power_cuts_would_catch_normal_synchronous(life: Callable[..., dict[str, int]]) -> None:
    """P1, first negative control: a journal that does not sync each commit is seen to lose acknowledged batches."""
    assert life(300, 1, synchronous="normal")["lost"] > 0


@pytest.mark.slow
def test_the_power_cuts_would_catch_an_early_acknowledgement(life: Callable[..., dict[str, int]]) -> None:
    """P1, second negative control: an acknowledgement before the commit is seen to be false."""
    assert life(300, 1, acknowledge_early=True)["lost"] > 0
