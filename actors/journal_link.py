"""The link to a journal: a writer process behind a socket pair, or the journal in this process."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from wal import errors as wal_errors
from wal import protocol
from wal.errors import CommitFailed, FrameRefused, JournalError, RuntimedError, WriterGone
from wal.journal import Journal
from wal.options import JournalOptions
from wal.protocol import Head
from wal.records import Entry

RECEIVE_BYTES = 65_536
HELLO_TIMEOUT_S = 60.0


class Link(Protocol):
    """The way to a journal: a process behind a socket, or the journal itself in this process."""

    head: Head
    wal_bytes: int
    db_bytes: int

    commit_timeout_s: float

    def begin(self, entries: list[Entry]) -> None:
        """Send a batch on its way as far as that goes without waiting. Never raises: `commit` of it tells."""

    async def commit(self, entries: list[Entry]) -> None:
        """Return once the entries are on disk. Raises CommitFailed or WriterGone."""

    def give_up(self) -> None:
        """A commit took too long, and its outcome is not waited for any more."""

    async def lost(self) -> None:
        """Wait for as long as there is a way to the journal, then raise WriterGone."""

    async def close(self) -> None:
        """Give the journal up in good order."""


class InlineLink:
    """The journal in this process: for tests on virtual time and small embeddings."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.head = journal.head
        self.wal_bytes = self.db_bytes = 0
        self.commit_timeout_s = math.inf

    def begin(self, entries: list[Entry]) -> None:
        """Nothing: a commit in this process is one call."""

    async def commit(self, entries: list[Entry]) -> None:
        self.journal.commit(entries)
        await trio.lowlevel.checkpoint()

    def give_up(self) -> None:
        raise AssertionError("a commit in this process has no time limit")

    async def lost(self) -> None:
        await trio.sleep_forever()

    async def close(self) -> None:
        self.journal.close()


class ProcessLink:
    """The writer process at the other end of a socket pair."""

    def __init__(self, process: subprocess.Popen[bytes], link: socket.socket, commit_timeout_s: float) -> None:
        self._process, self._socket, self.commit_timeout_s = process, link, commit_timeout_s
        link.setblocking(False)
        self._decoder = protocol.FrameDecoder()
        self._replies: deque[protocol.Reply] = deque()
        self._begun: list[Entry] | None = None
        self._rest = memoryview(b"")  # of what is being sent
        self._broken: Exception | None = None
        self.head: Head
        self.wal_bytes = self.db_bytes = 0

    @classmethod
    async def start(cls, path: Path, options: JournalOptions, commit_timeout_s: float) -> ProcessLink:
        """Start the process and wait until its journal is open. Raises what opening the journal raised there."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable,
                "-P",
                "-m",
                "wal",
                str(theirs.fileno()),
                str(path),
                msgspec.json.encode(options).decode(),
            ]
            # Its own session keeps a terminal's signals away; a plain Popen because its end is awaited by the socket.
            try:
                process = subprocess.Popen(  # noqa: ASYNC220 - it returns once the process runs, in about a millisecond
                    command,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(import_path())},
                )
            except BaseException:
                ours.close()
                raise
        link = cls(process, ours, commit_timeout_s)
        try:
            with trio.fail_after(HELLO_TIMEOUT_S):
                hello = await link._receive()
        except BaseException as error:
            if isinstance(error, trio.TooSlowError):
                process.kill()
                error = WriterGone("the writer process did not open the journal in time")
            await link.abandon()
            raise error from None
        assert isinstance(hello, protocol.Hello)
        link.head = hello.head
        return link

    @property
    def pid(self) -> int:
        """The process id of the writer."""
        return self._process.pid

    def begin(self, entries: list[Entry]) -> None:
        self._begun = entries
        try:
            frames = _frames(entries)
            self._rest = memoryview(frames[0] if len(frames) == 1 else b"".join(frames))
            self._push()
        except Exception as error:  # noqa: BLE001 - whoever calls this is not whom it concerns; commit raises it
            self._broken = error

    async def commit(self, entries: list[Entry]) -> None:
        if self._begun is not entries:
            self.begin(entries)
        self._begun = None
        try:
            await self._send_rest()
        except WriterGone:
            pass  # it may have said why before it went, which is still to be read
        receipt = await self._receive()
        if not isinstance(receipt, protocol.Receipt) or receipt.seq != entries[-1].seq:
            raise CommitFailed(f"expected the receipt for seq {entries[-1].seq}, got {receipt!r}")
        self.wal_bytes, self.db_bytes = receipt.wal_bytes, receipt.db_bytes

    def give_up(self) -> None:
        self._process.kill()  # else the journal's lock, and the end of this process, would wait for it still longer

    async def lost(self) -> None:
        """Wait until the process has ended, also while there is nothing to commit, then raise WriterGone: a runtime
        without its journal must not look alive."""
        exited = os.pidfd_open(self._process.pid)
        try:
            await trio.lowlevel.wait_readable(exited)
        finally:
            os.close(exited)
        raise WriterGone(f"the writer process ended with {self._process.poll()}")

    async def close(self) -> None:
        try:
            with trio.move_on_after(self.commit_timeout_s):
                self._broken, self._rest = None, memoryview(protocol.encode_frame(protocol.Close()))
                await self._send_rest()
                await self._receive()
        except WriterGone:
            pass  # it ended on its own: everything that was acknowledged is on disk, and there is no more to give up
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Close our end; the process ends at that. One that does not within the time limit is killed."""
        with trio.CancelScope(shield=True):
            self._socket.close()
            await trio.to_thread.run_sync(self._reap, abandon_on_cancel=False)

    def _reap(self) -> None:
        try:
            self._process.wait(self.commit_timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _push(self) -> None:
        # A plain socket: trio's stream costs a run that goes on alone a tenth of each commit.
        try:
            self._rest = self._rest[self._socket.send(self._rest) :]
        except BlockingIOError:
            pass  # the rest when it can be written
        except OSError as error:
            raise WriterGone("the writer process is gone") from error

    async def _send_rest(self) -> None:
        if self._broken is not None:
            raise self._broken
        while self._rest:
            self._push()
            if self._rest:
                await trio.lowlevel.wait_writable(self._socket)

    async def _receive(self) -> protocol.Reply:
        while not self._replies:
            try:
                await trio.lowlevel.wait_readable(self._socket)
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                raise WriterGone("the writer process ended without a receipt")
            self._replies.extend(protocol.decode_reply(body) for body in self._decoder.feed(data))
        reply = self._replies.popleft()
        if isinstance(reply, protocol.Failure):
            raise _error_named(reply)
        return reply


def _frames(entries: list[Entry], *, more: bool = False) -> list[bytes]:
    """A batch as one frame. What is kept whole may be longer than a frame takes, and weights only estimate: that goes
    in several frames, of one commit."""
    try:
        return [protocol.encode_frame(protocol.Commit(entries, more))]
    except FrameRefused:
        if len(entries) == 1:
            raise
        half = len(entries) // 2
        return [*_frames(entries[:half], more=True), *_frames(entries[half:], more=more)]


def _error_named(failure: protocol.Failure) -> RuntimedError:
    for kind in vars(wal_errors).values():
        if isinstance(kind, type) and issubclass(kind, JournalError) and kind.code == failure.code:
            return kind(failure.message)
    return WriterGone(failure.message)


def import_path() -> list[str]:
    """Where the writer finds `wal`: beside this package, in a checkout as when installed."""
    here = str(Path(__file__).resolve().parent.parent)
    before = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != here]
    return [here, *before]
