"""The writer process: frames in, one commit a batch, receipts out; it ends when the daemon's end of the socket does.

It is a process of its own because a busy event loop starves threads of the interpreter's lock. It ignores the signals
that stop or reload a daemon: the daemon decides when the last batch is sent, and closing the socket ends the writer
after the batch at hand, however the daemon ended. A frame that is not whole by then was never acknowledged and is
dropped.
"""

from __future__ import annotations

import gc
import signal
import socket
import struct
import time

from wal.errors import JournalError, RuntimedError
from wal.journal import Journal
from wal.options import JournalOptions
from wal.protocol import (
    Checkpoint,
    Close,
    Commit,
    Done,
    Failure,
    FrameDecoder,
    Hello,
    Message,
    Receipt,
    Request,
    decode_request,
    encode_frame,
)
from wal.records import Entry

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
IDLE_SECONDS = 0.5
"""With nothing to do for this long, the writer looks after its files."""

GC_THRESHOLDS = (50_000, 20, 50)
"""A batch is many thousands of objects and no cycle: to look for some each 700 of them cost 6 % of a large commit."""

_RECEIVE_BYTES = 1024 * 1024


def serve(link: socket.socket, path: str, options: JournalOptions) -> int:
    """Open the journal and serve the daemon at the other end of a connected socket, in blocking mode, until it closes
    its end. Returns the exit code of the process: 0, or that of the error, which was also sent as a `Failure`."""
    try:
        journal = Journal.open(path, options)
        try:
            _send(link, Hello(journal.head))
            journal.fill_wal()  # while the daemon still starts
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            _serve(link, journal)
        finally:
            journal.close()
    except RuntimedError as error:
        _send(link, Failure(error.code, str(error), error.exit_code))
        return error.exit_code
    except OSError as error:
        failure = JournalError(f"the writer failed: {error}")
        _send(link, Failure(failure.code, str(failure), failure.exit_code))
        return failure.exit_code
    return 0


def _serve(link: socket.socket, journal: Journal) -> None:
    decoder = FrameDecoder()
    incoming = Incoming(link)
    begun: list[Entry] = []  # of a batch that takes several frames
    while True:
        data = incoming.take(IDLE_SECONDS)
        if data is None:
            journal.upkeep()
            data = incoming.take(None)
        if not data:
            return
        for body in decoder.feed(data):
            request = decode_request(body)
            if isinstance(request, Commit) and (request.more or begun):
                begun += request.entries
                if request.more:
                    continue
                request, begun = Commit(begun), []
            _send(link, answer(journal, request))
            if isinstance(request, Close):
                return
        journal.upkeep(idle=False)


def answer(journal: Journal, request: Request) -> Message:
    """Do what a request asks; the message that says that it is done."""
    if isinstance(request, Commit):
        began = time.perf_counter()
        journal.commit(request.entries)
        seconds = time.perf_counter() - began
        return Receipt(journal.head.seq, seconds, journal.wal_bytes, journal.db_bytes)
    if isinstance(request, Checkpoint):
        journal.checkpoint(request.mode)
    elif isinstance(request, Close):
        journal.close()
    what = str(request.__struct_config__.tag)
    return Done(what, journal.head.seq, journal.wal_bytes, journal.db_bytes)


class Incoming:
    """What the daemon sends. (To look for it for 0.1 ms before sleeping made a run alone slower, not faster, wherever
    another process wanted the core.)"""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._timeout_seconds: float | None = None
        self._buffer = bytearray(_RECEIVE_BYTES)  # kept: to allocate it for each batch would cost more than to read one

    def take(self, timeout_seconds: float | None) -> bytes | None:
        """What comes next: empty at the end of the stream, None if nothing comes within the timeout."""
        if timeout_seconds != self._timeout_seconds:
            self._limit(timeout_seconds)
        try:
            size = self._link.recv_into(self._buffer)
        except BlockingIOError:
            return None
        except ConnectionError:
            return b""  # the daemon is gone, which is how it says that it is done
        return bytes(memoryview(self._buffer)[:size])

    def _limit(self, timeout_seconds: float | None) -> None:
        # The kernel's own time limit, as a 64-bit host has it: one by Python's socket or by `poll` is another system
        # call for each batch.
        seconds, rest = divmod(timeout_seconds or 0.0, 1.0)
        value = struct.pack("@ll", int(seconds), int(rest * 1e6))
        self._link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._timeout_seconds = timeout_seconds


def _send(link: socket.socket, message: Message) -> None:
    try:
        link.sendall(encode_frame(message))
    except ConnectionError:
        pass  # nobody is left to hear it; the end of the stream is read next
