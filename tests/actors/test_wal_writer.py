"""The WAL writer: group commit without delay, whole units in one commit, and never a false acknowledgement."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import Raw
from trio.testing import wait_all_tasks_blocked

from actors.clock import SystemClock
from actors.errors import Draining
from actors.feed import Feed
from actors.journal_link import InlineLink, ProcessLink, _frames
from actors.wal_writer import PRODUCTION_BYTES_MAX, PRODUCTION_RECORDS_MAX, WalWriter
from wal import protocol
from wal import records as r
from wal.errors import CommitFailed, JournalCorrupt, JournalLocked, WriterGone
from wal.journal import Journal
from wal.options import JournalOptions
from wal.protocol import Head
from wal.records import Entry
from wal.verify import verify

RECORD = r.SessionExpired("s")


class SlowLink:
    """A link that commits when it is told to."""

    head = Head(seq=10, run_key=3, digest=b"", clean=True, created_at=0, schema=1, db_bytes=0)
    wal_bytes = db_bytes = 0

    def __init__(self, commit_timeout_s: float = math.inf) -> None:
        self.commit_timeout_s = commit_timeout_s
        self.batches: list[list[int]] = []
        self.begun: list[list[int]] = []
        self.go, self.error = trio.Event(), None
        self.given_up = False

    def begin(self, entries: list[Entry]) -> None:
        self.begun.append([entry.seq for entry in entries])

    async def commit(self, entries: list[Entry]) -> None:
        self.batches.append([entry.seq for entry in entries])
        await self.go.wait()
        if self.error is not None:
            raise self.error

    def fail(self, error: Exception) -> None:
        self.error = error  # type: ignore[assignment]
        self.go.set()

    def give_up(self) -> None:
        self.given_up = True

    async def lost(self) -> None:
        await trio.sleep_forever()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


def make(link: Any, records_max: int = 100, bytes_max: int = 1_000, farewell: r.Fact | None = None) -> WalWriter:
    return WalWriter(
        link, SystemClock(), Feed(link.head.seq), batch_records_max=records_max, batch_bytes_max=bytes_max,
        farewell=farewell,
    )  # fmt: skip


@pytest.mark.trio
async def test_what_waits_goes_into_one_commit() -> None:
    """While a batch is under way the next one grows; nothing happens before its receipt, and then in order."""
    link = SlowLink()
    writer = make(link)
    happened: list[int] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        assert writer.append(RECORD) == 11
        writer.when_durable(11, happened.append, 11)
        await wait_all_tasks_blocked()
        for seq in range(12, 20):
            assert writer.append(RECORD) == seq
            writer.when_durable(seq, happened.append, seq)
        await wait_all_tasks_blocked()
        assert (link.batches, happened, writer.durable_seq) == ([[11]], [], 10)
        assert writer.statistics().waiting_records == 8
        link.go.set()
        await writer.wait_durable(19)
        assert link.batches == [[11], [*range(12, 20)]]
        assert happened == [*range(11, 20)]
        assert (writer.durable_seq, writer.statistics().commits) == (19, 2)
        nursery.cancel_scope.cancel()
    assert writer.next_run_key() == 4


@pytest.mark.trio
async def test_a_kick_sends_at_once_what_the_next_turn_would() -> None:
    """With nothing under way a batch is on its way before the actor's turn comes, and is committed once, in order."""
    link = SlowLink()
    writer = make(link)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await wait_all_tasks_blocked()
        writer.append(RECORD)
        writer.kick()
        writer.append(RECORD)
        writer.kick()  # something is on its way: what comes now goes with the next batch
        assert (link.begun, link.batches) == ([[11]], [])
        await wait_all_tasks_blocked()
        writer.kick()
        assert (link.begun, link.batches) == ([[11]], [[11]])
        link.go.set()
        await writer.wait_durable(12)
        assert link.batches == [[11], [12]]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_batch_on_its_way_is_awaited_in_a_stop() -> None:
    """A stop that comes between the kick and the actor's turn still waits for that batch, and for the rest."""
    link = SlowLink()
    link.go.set()
    writer = make(link, farewell=r.DaemonStopped())
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await wait_all_tasks_blocked()
        writer.append(RECORD)
        writer.kick()
        nursery.cancel_scope.cancel()
    assert link.batches == [[11], [12]]


@pytest.mark.trio
async def test_what_waits_is_bounded_in_records_and_in_bytes() -> None:
    """Too many records that wait for the disk, or too many bytes in few of them: nothing new is to be taken in."""
    few, many = make(SlowLink()), make(SlowLink())
    few.append(RECORD, weight=PRODUCTION_BYTES_MAX)
    for _ in range(PRODUCTION_RECORDS_MAX):
        many.append(RECORD)
    assert (few.crowded, many.crowded) == (False, False)
    few.append(RECORD, weight=1)
    many.append(RECORD)
    assert (few.crowded, many.crowded) == (True, True)


@pytest.mark.trio
async def test_units_stay_whole_and_batches_bounded() -> None:
    """A batch ends at a cut, within its bounds; a unit that is larger than the bounds goes alone, whole."""
    link = SlowLink()
    link.go.set()
    writer = make(link, records_max=5)
    for size in (2, 2, 3, 8, 1):
        for _ in range(size):
            writer.append(RECORD)
        writer.cut()
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await writer.wait_durable(writer.seq)
        nursery.cancel_scope.cancel()
    assert [len(batch) for batch in link.batches] == [4, 3, 8, 1]


@pytest.mark.trio
async def test_batches_are_bounded_in_bytes() -> None:
    """Payloads count: what would exceed the bound of bytes waits for the next commit."""
    link = SlowLink()
    link.go.set()
    writer = make(link, bytes_max=100)
    for weight in (60, 30, 50, 300, 10):
        writer.append(RECORD, weight=weight)
        writer.cut()
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await writer.wait_durable(writer.seq)
        nursery.cancel_scope.cancel()
    assert [len(batch) for batch in link.batches] == [2, 1, 1, 1]


@pytest.mark.trio
async def test_a_failed_commit_acknowledges_nothing() -> None:
    """The error leaves the actor; no callback of the batch or after it is called, ever."""
    link = SlowLink()
    writer = make(link)
    happened: list[int] = []
    with pytest.RaisesGroup(CommitFailed):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            writer.append(RECORD)
            writer.when_durable(11, happened.append, 11)
            await wait_all_tasks_blocked()
            link.fail(CommitFailed("EIO"))
    assert (happened, writer.durable_seq) == ([], 10)


@pytest.mark.trio
async def test_a_commit_that_hangs_ends_the_writer(autojump_clock: trio.testing.MockClock) -> None:
    """After the time limit the outcome is unknown: WriterGone, and the link gives up."""
    link = SlowLink(commit_timeout_s=30.0)
    writer = make(link)
    with pytest.RaisesGroup(WriterGone):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            writer.append(RECORD)
    assert (link.given_up, trio.current_time()) == (True, pytest.approx(30.0))


@pytest.mark.trio
async def test_the_end_is_clean() -> None:
    """Cancelled, it commits what is pending and its farewell, and takes nothing more."""
    with Journal.open(None) as journal:
        writer = make(InlineLink(journal), farewell=r.DaemonStopped("done"))
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            writer.append(r.DaemonStarted("1", 1))
            nursery.cancel_scope.cancel()
        assert (journal.head.seq, journal.reader().events(0)[-1].kind) == (2, "daemon_stopped")
        with pytest.raises(Draining):
            writer.append(RECORD)


@pytest.mark.trio
async def test_what_is_durable_already_happens_at_once() -> None:
    """A callback for a seq that is on disk is called without waiting for a commit."""
    writer = make(SlowLink())
    happened: list[str] = []
    writer.when_durable(10, happened.append, "now")
    assert happened == ["now"]
    with trio.fail_after(30):
        await writer.wait_durable(10)


# --- the real process


async def opened(folder: Path) -> ProcessLink:
    return await ProcessLink.start(folder / "journal.db", JournalOptions(), 60.0)


async def with_process(folder: Path, body: Callable[[WalWriter, ProcessLink], Awaitable[None]]) -> None:
    link = await opened(folder)
    writer = make(link)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            await body(writer, link)
            nursery.cancel_scope.cancel()
    finally:
        await link.close()


@pytest.mark.slow
@pytest.mark.trio
async def test_the_process_commits_and_ends_with_us(tmp_path: Path) -> None:
    """What it confirmed is in the file; closed, it is gone and the lock free for the next."""

    async def body(writer: WalWriter, link: ProcessLink) -> None:
        for _ in range(3):
            writer.append(r.DaemonStarted("1", 1))
            await writer.wait_durable(writer.seq)

    await with_process(tmp_path, body)
    await with_process(tmp_path, body)
    with Journal.open(tmp_path / "journal.db") as journal:
        assert journal.head.seq == 6


@pytest.mark.slow
@pytest.mark.trio
async def test_what_is_too_long_for_a_frame_goes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is longer than a frame goes in several, and is one commit all the same: a kill in between leaves
    nothing of it."""
    monkeypatch.setattr(protocol, "FRAME_BYTES_MAX", 2_000)

    async def body(writer: WalWriter, link: ProcessLink) -> None:
        for _ in range(2):
            for number in range(100):
                writer.append(r.SessionOpened(f"s{writer.seq}-{number}"))
            await writer.wait_durable(writer.seq)
        assert writer.statistics().commits == 2

    await with_process(tmp_path, body)
    with Journal.open(tmp_path / "journal.db") as journal:
        assert journal.head.seq == 200
    assert verify(tmp_path / "journal.db").ok

    async def killed(writer: WalWriter, link: ProcessLink) -> None:
        for number in range(100):
            writer.append(r.SessionOpened(f"late-{number}"))
        begun = writer._take()
        frames = _frames(begun)
        for frame in frames[:-1]:
            await trio.to_thread.run_sync(link._socket.sendall, frame)
        link._socket.shutdown(socket.SHUT_WR)
        await link.lost()

    with pytest.RaisesGroup(WriterGone):
        await with_process(tmp_path, killed)
    with Journal.open(tmp_path / "journal.db") as journal:
        assert journal.head.seq == 200


@pytest.mark.slow
@pytest.mark.trio
@pytest.mark.parametrize("idle", [False, True], ids=["in a commit", "idle"])
async def test_a_killed_writer_is_noticed(tmp_path: Path, idle: bool) -> None:
    """Killed in the middle or while nothing is to be committed, it ends in WriterGone and acknowledges nothing."""
    acknowledged: list[int] = []

    async def body(writer: WalWriter, link: ProcessLink) -> None:
        writer.append(r.DaemonStarted("1", 1))
        await writer.wait_durable(1)
        os.kill(link.pid, signal.SIGKILL)
        if idle:
            await link.lost()
        writer.when_durable(writer.append(RECORD), acknowledged.append, 2)
        await trio.sleep(60)

    with pytest.RaisesGroup(WriterGone):
        await with_process(tmp_path, body)
    assert acknowledged == []


@pytest.mark.slow
@pytest.mark.trio
async def test_what_opening_raised_there_is_raised_here(tmp_path: Path) -> None:
    """A journal that another writer holds is refused by name, and the process is not left behind."""
    with Journal.open(tmp_path / "journal.db"):
        options = JournalOptions(lock_wait_seconds=0.05)
        with pytest.raises(JournalLocked, match=str(os.getpid())):
            await ProcessLink.start(tmp_path / "journal.db", options, 60.0)


@pytest.mark.trio
@pytest.mark.parametrize("pieces", [1, 2])
async def test_why_the_writer_ended_is_told(monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    """It says why and ends while the rest of a batch is still on its way: what it said counts, not that it is gone."""
    if pieces > 1:
        monkeypatch.setattr(protocol, "FRAME_BYTES_MAX", 3 << 20)
    large = Raw(b'"' + b"x" * (1 << 20) + b'"')
    entries = [Entry(seq, 1, seq - 1, 0, r.OutputEmitted("0", large)) for seq in range(1, 5)]
    ours, theirs = socket.socketpair()

    def refuses() -> None:
        decoder = protocol.FrameDecoder()
        while not decoder.feed(theirs.recv(1 << 20)):
            pass
        theirs.sendall(protocol.encode_frame(protocol.Failure("journal_corrupt", "a page does not match", 78)))
        theirs.close()

    thread = threading.Thread(target=refuses)
    thread.start()
    with ours:
        with pytest.raises(JournalCorrupt, match="a page"):
            await ProcessLink(None, ours, 60.0).commit(entries)  # type: ignore[arg-type]
        thread.join()
