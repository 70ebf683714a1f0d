"""The frames between the daemon and its writer process: messages and an incremental codec, without any I/O.

A frame is a little-endian u32, the length of what follows in bytes, and then one message as JSON: an array whose
first item names the message. A frame is whole or it is nothing: what is left in the decoder at the end of the
stream is dropped. Both sides decode with the types below, so a malformed message is refused where it arrives.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import msgspec

from wal.errors import FrameRefused
from wal.records import Entry

FRAME_BYTES_MAX = 64 * 1024 * 1024
"""Largest frame that either side takes. A batch is far below it as a rule, and goes in several if it is not: a longer
frame is damage, not data."""

_LENGTH = struct.Struct("<I")


class Head(msgspec.Struct, frozen=True, gc=False):
    """Where the journal stands: the last seq and run key in use, the end of the digest chain, whether the daemon
    before stopped cleanly, the instant of creation (microseconds), the schema version and the file's size."""

    seq: int
    run_key: int
    digest: bytes
    clean: bool
    created_at: int
    schema: int
    db_bytes: int


class Message(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Base of all messages; on the wire an array that begins with the tag."""


# --- daemon -> writer -------------------------------------------------------------------------------------------


class Commit(Message, frozen=True, gc=False, tag="commit"):
    """Put these entries into the journal in one transaction. Answered by `Receipt`; with `more` by nothing, for more of
    the same transaction is in the next frame."""

    entries: list[Entry]
    more: bool = False


class Checkpoint(Message, frozen=True, gc=False, tag="checkpoint"):
    """Move SQLite's WAL into the file; `mode` is `passive`, `full`, `restart` or `truncate`. Answered by `Done`."""

    mode: Literal["passive", "full", "restart", "truncate"] = "passive"


class Ping(Message, frozen=True, gc=False, tag="ping"):
    """Say that you make progress. Answered by `Done`."""


class Close(Message, frozen=True, gc=False, tag="close"):
    """Checkpoint, close and end with exit code 0. Answered by `Done`."""


Request = Commit | Checkpoint | Ping | Close


# --- writer -> daemon -------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, gc=False, tag="hello"):
    """The journal is open; nothing is taken before this."""

    head: Head


class Receipt(Message, frozen=True, gc=False, tag="receipt"):
    """The batch that ends with `seq` is on disk; the commit took `seconds`; then the sizes of SQLite's WAL and file."""

    seq: int
    seconds: float
    wal_bytes: int = 0
    db_bytes: int = 0


class Done(Message, frozen=True, gc=False, tag="done"):
    """A request other than a commit is done; `what` is its tag."""

    what: str
    seq: int
    wal_bytes: int = 0
    db_bytes: int = 0


class Failure(Message, frozen=True, gc=False, tag="failure"):
    """The writer ends, with this exit code; `code` names one of our errors. Nothing further is acknowledged."""

    code: str
    message: str
    exit_code: int = 1


Reply = Hello | Receipt | Done | Failure

_encoder = msgspec.json.Encoder()
_request_decoder = msgspec.json.Decoder(Request)
_reply_decoder = msgspec.json.Decoder(Reply)


def encode_frame(message: Message) -> bytes:
    """One message as a frame. Raises `FrameRefused` if it would be longer than `FRAME_BYTES_MAX`."""
    frame = bytearray(_LENGTH.size)
    _encoder.encode_into(message, frame, _LENGTH.size)
    length = len(frame) - _LENGTH.size
    if length > FRAME_BYTES_MAX:
        raise FrameRefused(f"a frame of {length} bytes; at most {FRAME_BYTES_MAX} are sent")
    _LENGTH.pack_into(frame, 0, length)
    return bytes(frame)


def decode_request(body: bytes) -> Request:
    """The daemon's message in a frame's body. Raises `FrameRefused` for anything else."""
    return _decode(_request_decoder, body)  # type: ignore[no-any-return]


def decode_reply(body: bytes) -> Reply:
    """The writer's message in a frame's body. Raises `FrameRefused` for anything else."""
    return _decode(_reply_decoder, body)  # type: ignore[no-any-return]


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:  # malformed JSON, a wrong type, an unknown tag
        raise FrameRefused(f"a frame that is no message: {error}") from error


class FrameDecoder:
    """Turns a stream of bytes, cut anywhere, into the bodies of whole frames."""

    def __init__(self, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._frame_bytes_max = frame_bytes_max

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not whole yet; what is pending at the end of the stream is to be dropped."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; give the bodies that became whole, in order. Raises `FrameRefused` for a
        length over the limit, as soon as the length is known and before its body is buffered."""
        buffer = self._buffer
        size = len(data) - _LENGTH.size
        if not buffer and 0 <= size <= self._frame_bytes_max and _LENGTH.unpack_from(data)[0] == size:
            return [data[_LENGTH.size :]]  # one whole frame and nothing else, as nearly always
        buffer += data
        bodies: list[bytes] = []
        start, end = 0, len(buffer)
        while end - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > self._frame_bytes_max:
                raise FrameRefused(f"a frame of {length} bytes; at most {self._frame_bytes_max} are taken")
            body = start + _LENGTH.size
            if end - body < length:
                break
            bodies.append(bytes(memoryview(buffer)[body : body + length]))
            start = body + length
        if start:
            del buffer[:start]
        return bodies
