"""A command on a terminal of its own: a real pty, whose other end a test reads and types on."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import trio

SECONDS = 30.0
SIZE = (24, 80)
_WITH_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """Runs a command with a terminal as its stdin, stdout, stderr and controlling terminal, 80 by 24, on which
    `typed_ahead` was typed before the command was there."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], *, typed_ahead: bytes = b"") -> None:
        self._command, self._environ, self._typed_ahead = command, dict(environ), typed_ahead
        self._seen = b""

    async def __aenter__(self) -> Self:
        ours, theirs = os.openpty()
        self.name = os.ttyname(theirs).removeprefix("/dev/")
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
        os.write(ours, self._typed_ahead)
        try:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-c", _WITH_TERMINAL, *self._command],
                stdin=theirs, stdout=theirs, stderr=theirs, env=self._environ,
            )  # fmt: skip
        finally:
            os.close(theirs)
        self._stream = trio.lowlevel.FdStream(ours)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            if self.running:
                self._process.kill()
            await self._process.wait()
            await self._stream.aclose()

    @property
    def running(self) -> bool:
        """Whether the command has not ended."""
        return self._process.poll() is None

    async def write(self, data: bytes) -> None:
        """Type this."""
        await self._stream.send_all(data)

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal sends it."""
        os.kill(self._process.pid, signal.SIGINT)

    async def until(self, wanted: bytes) -> bytes:
        """All that was shown since the last `until`, up to and with `wanted`. Raises AssertionError at the end."""
        with trio.fail_after(SECONDS):
            while wanted not in self._seen:
                data = await self._read()
                assert data, self._seen
                self._seen += data
        shown, _, rest = self._seen.partition(wanted)
        self._seen = rest
        return shown + wanted

    async def end(self) -> tuple[int, bytes]:
        """The exit code, and all that was shown since the last `until`."""
        with trio.fail_after(SECONDS):
            while data := await self._read():
                self._seen += data
            return await self._process.wait(), self._seen

    async def _read(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(65_536))
        except (OSError, trio.BrokenResourceError):  # Linux says EIO once nobody has the other end open
            return b""
