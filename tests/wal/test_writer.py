"""The writer process, seen through its socket: what it answers, and that nothing ends it at a wrong moment."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wal import protocol
from wal.journal import Journal
from wal.options import JournalOptions
from wal.records import DaemonStarted, Entry
from wal.verify import verify
from wal.writer import Incoming

Start = Callable[..., Any]


def entry(seq: int) -> Entry:
    return Entry(seq, 0, 0, seq, DaemonStarted("1", seq))


@pytest.mark.slow
def test_a_batch_is_answered_by_a_receipt(writer: Start, journal_path: Path) -> None:
    """Each commit gets one receipt with its last seq; closing is answered and ends the process with 0."""
    client = writer(journal_path)
    head = client.hello()
    receipt = client.ask(protocol.Commit([entry(1), entry(2)]))
    pong = client.ask(protocol.Ping())
    moved = client.ask(protocol.Checkpoint("truncate"))
    closed = client.ask(protocol.Close())

    assert (head.seq, head.clean) == (0, True)
    assert receipt.seq == 2
    assert receipt.seconds > 0
    assert receipt.wal_bytes > 0
    assert (pong.what, pong.seq) == ("ping", 2)
    assert (moved.what, moved.wal_bytes) == ("checkpoint", 0)
    assert (closed.what, client.receive()) == ("close", None)
    assert client.wait() == 0


@pytest.mark.slow
def test_requests_in_one_burst_are_all_answered_in_order(writer: Start, journal_path: Path) -> None:
    """Frames that arrive together are taken one by one."""
    client = writer(journal_path)
    client.hello()
    client.link.sendall(b"".join(protocol.encode_frame(protocol.Commit([entry(n)])) for n in range(1, 51)))

    assert [client.receive().seq for _ in range(50)] == list(range(1, 51))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_the_daemons_signals_do_not_end_the_writer(writer: Start, journal_path: Path, number: signal.Signals) -> None:
    """Ctrl-C or a service manager signals the whole group; the daemon decides when the last batch is sent."""
    client = writer(journal_path)
    client.hello()
    client.process.send_signal(number)

    assert client.ask(protocol.Commit([entry(1)])).seq == 1


@pytest.mark.slow
def test_the_end_of_the_stream_ends_the_writer_after_the_batch_at_hand(writer: Start, journal_path: Path) -> None:
    """A daemon that was killed in the middle of sending: whole frames are committed, the torn one never was."""
    client = writer(journal_path)
    client.hello()
    whole = protocol.encode_frame(protocol.Commit([entry(1), entry(2)]))
    torn = protocol.encode_frame(protocol.Commit([entry(3)]))[:-1]
    client.link.sendall(whole + torn)
    client.link.close()

    assert client.wait() == 0
    with Journal.open(journal_path) as journal:
        assert journal.head.seq == 2


@pytest.mark.slow
def test_a_failed_commit_is_told_and_ends_the_writer(writer: Start, journal_path: Path) -> None:
    """A batch that contradicts the log is a defect: failure, exit 75, nothing of it is kept."""
    client = writer(journal_path)
    client.hello()
    failure = client.ask(protocol.Commit([entry(1), entry(3)]))

    assert (failure.code, failure.exit_code) == ("commit_failed", 75)
    assert client.receive() is None
    assert client.wait() == 75
    with Journal.open(journal_path) as journal:
        assert journal.head.seq == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x02\x00\x00\x00{}", "frame_refused"),
        (b"\xff\xff\xff\xff", "frame_refused"),
        (b'\x0a\x00\x00\x00["unheard"', "frame_refused"),
        (b'\x0f\x00\x00\x00["commit",[[1]]', "frame_refused"),
    ],
)
def test_a_frame_that_is_none_ends_the_writer(writer: Start, journal_path: Path, frame: bytes, code: str) -> None:
    """What breaks the protocol is told and committed in no part."""
    client = writer(journal_path)
    client.hello()
    client.link.sendall(frame)

    assert client.receive().code == code
    assert client.wait() == 75


@pytest.mark.slow
def test_an_error_of_opening_is_told_with_its_exit_code(writer: Start, journal_path: Path) -> None:
    """The daemon can raise the same error that the writer met, and end with its code."""
    journal_path.write_bytes(b"not a journal" * 100)
    client = writer(journal_path)
    failure = client.receive()

    assert (failure.code, failure.exit_code) == ("journal_refused", 78)
    assert client.wait() == 78


@pytest.mark.slow
def test_a_second_writer_waits_for_the_first(writer: Start, journal_path: Path) -> None:
    """A new daemon starts while the writer of a killed one lives: it waits, and gives up after its limit with 75."""
    first = writer(journal_path)
    first.hello()
    impatient = writer(journal_path, JournalOptions(lock_wait_seconds=0.1))
    refused = impatient.receive()
    patient = writer(journal_path)
    first.ask(protocol.Commit([entry(1)]))
    first.link.close()

    assert (refused.code, refused.exit_code) == ("journal_locked", 75)
    assert str(first.process.pid) in refused.message
    assert patient.hello().seq == 1


@pytest.mark.slow
def test_a_stopped_writer_acknowledges_nothing_until_it_goes_on(writer: Start, journal_path: Path) -> None:
    """P4: SIGSTOP shows as silence, which the daemon can time; going on, the writer answers as if nothing was."""
    client = writer(journal_path)
    client.hello()
    client.process.send_signal(signal.SIGSTOP)
    os.waitpid(client.process.pid, os.WUNTRACED)
    client.send(protocol.Commit([entry(1)]))
    client.link.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.receive()

    client.process.send_signal(signal.SIGCONT)
    client.link.settimeout(30)
    assert client.receive().seq == 1


@pytest.mark.slow
@pytest.mark.chaos
def test_a_killed_writer_lost_nothing_that_it_acknowledged(
    writer: Start,
    journal_path: Path,
    random_program: Callable[[int], Any],
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """P4: kill -9 of the writer under load: every acknowledged batch is there, in whole batches, and the tables
    follow from the records."""
    rng = random.Random(11)
    kills = scale(30, 1_000)
    program = random_program(5)
    pending: list[list[Entry]] = []
    boundaries = {0}
    acknowledged = in_doubt = 0
    for _ in range(kills):
        client = writer(journal_path)
        head = client.hello()
        assert head.seq in boundaries
        assert head.seq >= acknowledged
        in_doubt += head.seq > acknowledged
        pending = [batch for batch in pending if batch[0].seq > head.seq]
        timer = threading.Timer(rng.uniform(0.0, 0.03), client.process.kill)
        receipts_first = rng.choice(
            (0, 1, 4, 16)
        )  # on a slow disk a time alone would mostly be over before there is one
        acknowledged = max(head.seq, acknowledged)
        for receipts in itertools.count():
            if receipts == receipts_first:
                timer.start()
            if not pending:
                pending = list(program.batches(1))
                boundaries.add(pending[0][-1].seq)
            try:
                client.send(protocol.Commit(pending[0]))
            except OSError:
                break
            reply = client.receive()
            if reply is None:
                break
            assert reply.seq == pending.pop(0)[-1].seq
            acknowledged = reply.seq
        timer.join()
        client.close()

    report = verify(journal_path)
    figures("P4", writer_kills=kills, in_doubt=in_doubt, acknowledged=acknowledged, lost=0)
    assert report.problems == []
    assert report.seq >= acknowledged


def test_what_comes_in_is_taken_within_the_time_given() -> None:
    """None if nothing comes, the bytes if something does, and nothing at the end of the stream, whatever the limit."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        incoming = Incoming(ours)
        started = time.monotonic()
        assert incoming.take(0.05) is None
        assert 0.04 < time.monotonic() - started < 30
        theirs.sendall(b"one")
        assert incoming.take(0.05) == b"one"
        theirs.sendall(b"two")
        assert incoming.take(None) == b"two"
        theirs.close()
        assert incoming.take(0.05) == b""
        assert incoming.take(None) == b""
