"""Bytes in chunks to whole lines, without I/O: nothing is copied again and again, and no line may grow without end."""

from __future__ import annotations

LINE_MAX_BYTES = 16 * 1024 * 1024
"""The longest line that is taken, its newline not counted."""


class LineTooLong(ValueError):
    """A line is longer than the limit, or what has come of it is."""

    def __init__(self, line_max_bytes: int) -> None:
        super().__init__(f"a line is longer than {line_max_bytes:,} bytes")


class LineSplitter:
    """Collects chunks and gives blocks of whole lines. A block is handed on whole, because decoding many lines at once
    is several times as fast as one by one."""

    def __init__(self, line_max_bytes: int = LINE_MAX_BYTES) -> None:
        self._line_max_bytes = line_max_bytes
        self._held = bytearray()  # the line that has not ended: it grows in place, so a long one costs no square

    @property
    def held_bytes(self) -> int:
        """Bytes of the line that has begun and not ended."""
        return len(self._held)

    def feed(self, chunk: bytes) -> bytes:
        """All lines that are whole now, each with its newline; empty if there is none. Raises LineTooLong."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._hold(chunk)
            return b""
        if self._held:
            self._held += chunk[:end]
            block = bytes(self._held)
            self._held = bytearray()
        else:
            block = chunk[:end]
        if len(block) > self._line_max_bytes:  # else no line of it can be
            self._check(block)
        self._hold(chunk[end:])
        return block

    def rest(self) -> bytes:
        """What was left without a newline at the end of the stream."""
        left = bytes(self._held)
        self._held = bytearray()
        return left

    def _hold(self, part: bytes) -> None:
        self._held += part
        if len(self._held) > self._line_max_bytes:
            raise LineTooLong(self._line_max_bytes)

    def _check(self, block: bytes) -> None:
        if max(map(len, block.split(b"\n"))) > self._line_max_bytes:
            raise LineTooLong(self._line_max_bytes)
