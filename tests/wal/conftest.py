"""What the journal's tests share: a log that numbers entries, random programs, and disks that fail on demand."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import apsw
import msgspec
import pytest
from msgspec import Raw

from wal import protocol, records
from wal.connections import checksum_vfs
from wal.journal import Journal
from wal.options import JournalOptions
from wal.records import Entry, Record

ROOT = Path(__file__).resolve().parent.parent.parent
NOW = 1_700_000_000_000_000
CLIENT_SECONDS = 30.0


class Log:
    """Numbers records as the runtime does: the next seq, and the seq before in the same run."""

    def __init__(self) -> None:
        self.seq = 0
        self.last: dict[int, int] = {}

    def add(self, run_key: int, record: Record, *, at: int | None = None) -> Entry:
        self.seq += 1
        entry = Entry(self.seq, run_key, self.last.get(run_key, 0), NOW + self.seq if at is None else at, record)
        if run_key:
            self.last[run_key] = self.seq
        return entry

    def start(self, run_key: int, **fields: Any) -> Entry:
        fields = {"id": f"run-{run_key}", "workflow": "shop", "input": Raw(b'{"cents":5}'), **fields}
        return self.add(run_key, records.RunStarted(**fields))

    def step(self, run_key: int, key: str = "0", payload: bytes = b"1") -> list[Entry]:
        scheduled = self.add(run_key, records.StepScheduled(key, "charge", Raw(b"[[],{}]")))
        return [scheduled, self.add(run_key, records.StepCompleted(key, "charge", Raw(payload)))]


@pytest.fixture
def log() -> Log:
    return Log()


class RandomProgram:
    """Batches of records that a runtime could have written, in an order no one would think of."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.log = Log()
        self.open: list[int] = []
        self.runs = 0
        self.sessions: list[str] = []
        self.versions: dict[str, int] = {}

    def batches(self, n: int, *, records_max: int = 8) -> Iterator[list[Entry]]:
        for _ in range(n):
            yield [self.entry() for _ in range(self.rng.randint(1, records_max))]

    def entry(self) -> Entry:
        if not self.open or self.rng.random() < 0.12:
            return self._start()
        if self.rng.random() < 0.2:
            return self.log.add(0, self._outside())
        run_key = self.rng.choice(self.open)
        record = self._inside()
        ends = isinstance(record, records.RunCompleted | records.RunFailed | records.RunCancelled)
        if ends and self.rng.random() < 0.7:  # sometimes records follow the end
            self.open.remove(run_key)
        return self.log.add(run_key, record)

    def _start(self) -> Entry:
        rng = self.rng
        self.runs += 1
        self.open.append(self.runs)
        return self.log.start(
            self.runs,
            workflow=rng.choice(["shop", "ship", "refund"]),
            start_at=rng.choice([None, None, NOW + rng.randint(0, 99)]),
            queue=rng.choice([None, None, "slow"]),
            tenant=rng.choice([None, "acme"]),
            session_id=rng.choice([None, *self.sessions]),
            attributes=rng.choice([{}, {"city": "Rome", "n": rng.randint(0, 3)}]),
        )

    def _inside(self) -> Record:
        rng = self.rng
        key = rng.choice(["0", "1", "2/0.1"])
        value = Raw(msgspec.json.encode("x" * rng.choice([0, 10, 300, 5000])))
        error = records.ErrorData("ValueError", "no", "charge")
        due = NOW + rng.randint(0, 10**6)
        return rng.choice(
            [
                lambda: records.StepScheduled(key, "charge", Raw(b"[[],{}]")),
                lambda: records.StepCompleted(key, "charge", value),
                lambda: records.StepCompleted(key, "charge", value),
                lambda: records.StepFailed(key, "charge", error, 2, rng.choice([None, due])),
                lambda: records.StepInterrupted(key, "charge"),
                lambda: records.StepUnknown(key, "charge"),
                lambda: records.StepResolved(key, True, value),
                lambda: records.CompensationScheduled(key + "!", "refund", Raw(b"[[],{}]")),
                lambda: records.CompensationCompleted(key + "!", "refund", value),
                lambda: records.CompensationFailed(key + "!", "refund", error, 1, due),
                lambda: records.TimerSet(key, due),
                lambda: records.TimerFired(rng.choice(["", key])),
                lambda: records.TimerCancelled(key),
                lambda: records.SignalReceived("go", value, rng.choice([None, f"s{self.log.seq}"])),
                lambda: records.RunWaiting(rng.choice(["timer", "signal", "retry"]), rng.choice([None, due])),
                records.RunPaused,
                records.RunResumed,
                lambda: records.RunBlocked("code_error", "TypeError", key),
                records.RunRetried,
                lambda: records.RunCancelRequested("enough"),
                lambda: records.RunCompensating(rng.choice([None, error])),
                lambda: records.AttributesSet(key, {"city": rng.choice(["Rome", "Oslo"]), "deep": [1]}),
                lambda: records.OutputEmitted(key, value),
                lambda: self._state("run:1"),
                lambda: records.RunCompleted(value),
                lambda: records.RunFailed(error),
                lambda: records.RunCancelled("enough"),
            ]
        )()

    def _outside(self) -> Record:
        rng = self.rng
        choice = rng.randint(0, 4)
        if choice == 0 or not self.sessions:
            self.sessions.append(f"session-{len(self.sessions)}")
            return records.SessionOpened(self.sessions[-1], tenant="acme", ttl=9.5, expires_at=NOW + rng.randint(0, 99))
        if choice == 1:
            return records.SessionTouched(rng.choice(self.sessions), NOW + rng.randint(0, 10**6))
        if choice == 2:
            return rng.choice([records.SessionExpired, records.SessionClosed])(rng.choice(self.sessions))
        if choice == 3:
            return records.RequestAnswered("uid:0", f"key-{self.log.seq}", "d", 201, Raw(b'{"ok":true}'))
        return self._state("global")

    def _state(self, scope: str) -> Record:
        name = self.rng.choice(["a", "b"])
        version = self.versions[scope + name] = self.versions.get(scope + name, 0) + 1
        deleted = self.rng.random() < 0.3
        return records.StateWritten("", scope, name, version, Raw(b"null") if deleted else Raw(b"[1]"), deleted)


@pytest.fixture(scope="session")
def random_program() -> Callable[[int], RandomProgram]:
    return RandomProgram


# --- the writer process, as a daemon sees it ------------------------------------------------------------------------


class WriterClient:
    """A small synchronous daemon: the writer process at the other end of a socketpair."""

    def __init__(self, path: Path, options: JournalOptions | None = None, *, python: Sequence[str] = ()) -> None:
        self.link, theirs = socket.socketpair()
        self.link.settimeout(CLIENT_SECONDS)
        encoded = msgspec.json.encode(options or JournalOptions()).decode()
        command = python or [sys.executable, "-P", "-m", "wal"]
        self.process = subprocess.Popen(
            [*command, str(theirs.fileno()), str(path), encoded],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        theirs.close()
        self._decoder = protocol.FrameDecoder()
        self._waiting: list[protocol.Reply] = []

    def send(self, message: protocol.Message) -> None:
        self.link.sendall(protocol.encode_frame(message))

    def receive(self) -> protocol.Reply | None:
        """The next message, or None at the end of the stream."""
        while not self._waiting:
            try:
                data = self.link.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._waiting += [protocol.decode_reply(body) for body in self._decoder.feed(data)]
        return self._waiting.pop(0)

    def hello(self) -> protocol.Head:
        reply = self.receive()
        assert isinstance(reply, protocol.Hello), reply
        return reply.head

    def ask(self, message: protocol.Message) -> protocol.Reply | None:
        self.send(message)
        return self.receive()

    def wait(self) -> int:
        return self.process.wait(CLIENT_SECONDS)

    def close(self) -> None:
        self.link.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(CLIENT_SECONDS)


@pytest.fixture
def writer() -> Iterator[Callable[..., WriterClient]]:
    """`writer(path, options)`: a writer process, ended with the test."""
    clients: list[WriterClient] = []

    def start(path: Path, options: JournalOptions | None = None, **more: Any) -> WriterClient:
        clients.append(WriterClient(path, options, **more))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


# --- disks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ram_dir() -> Iterator[Path]:
    """A folder where a sync costs nothing, for tests that open thousands of files."""
    place = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="rtd-", dir=place if os.access(place, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


class Disk(Protocol):
    """Told of every change to a file of the journal. What is called before it happens may raise instead of it."""

    def writing(self, name: str, data: bytes, offset: int) -> None: ...
    def written(self, name: str, data: bytes, offset: int) -> None: ...
    def truncate(self, name: str, size: int) -> None: ...
    def sync(self, name: str) -> None: ...
    def synced(self, name: str) -> None: ...
    def delete(self, name: str) -> None: ...


_BASE = checksum_vfs() or "unix"


class _WatchedFile(apsw.VFSFile):
    def __init__(self, disk: Disk, filename: Any, flags: Any) -> None:
        name = filename.filename() if isinstance(filename, apsw.URIFilename) else filename
        super().__init__(_BASE, filename, flags)
        self._disk, self._name = disk, os.path.basename(name or "temporary")

    def excepthook(self, *_: Any) -> None:
        """A fault is raised on purpose; SQLite has its code already."""

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.writing(self._name, bytes(data), offset)
        super().xWrite(data, offset)
        self._disk.written(self._name, super().xRead(len(data), offset), offset)  # the checksums are added below us

    def xTruncate(self, size: int) -> None:
        self._disk.truncate(self._name, size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self._disk.sync(self._name)
        super().xSync(flags)
        self._disk.synced(self._name)


class WatchedVfs(apsw.VFS):
    """The VFS that the journal uses, with somebody looking on."""

    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(name, _BASE)

    def excepthook(self, *_: Any) -> None:
        """As for its files."""

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:
        return _WatchedFile(self._disk, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        self._disk.delete(os.path.basename(name))
        super().xDelete(name, sync)


@pytest.fixture
def watched() -> Iterator[Callable[[Disk], str]]:
    """`watched(disk)`: the name of a VFS for `JournalOptions.vfs` that tells the disk of every change."""
    made: list[WatchedVfs] = []

    def make(disk: Disk) -> str:
        name = f"watched-{os.getpid()}-{id(made)}-{len(made)}"
        made.append(WatchedVfs(name, disk))
        return name

    yield make
    for vfs in made:
        vfs.unregister()


@pytest.fixture
def journal_path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def memory() -> Iterator[Journal]:
    with Journal.open(None) as journal:
        yield journal
