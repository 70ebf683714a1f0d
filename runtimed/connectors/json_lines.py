"""A block of lines of JSON as messages: decoded at once, and line by line only where something in it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from actors.errors import SourceGarbled
from runtimed.escape import escape

EXCERPT_BYTES = 200

T = TypeVar("T")


def decode_block(
    block: bytes, decoder: msgspec.json.Decoder[T], kind: str, is_noise: Callable[[bytes], bool] | None = None
) -> Iterable[T]:
    """The messages of whole lines. Iterating raises SourceGarbled at the first line that is none, when those before it
    have been given; lines that `is_noise` says are nobody's message are left out."""
    try:
        str(block, "utf-8")  # what is kept as raw JSON is not looked at by the decoder
        return decoder.decode_lines(block)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _one_by_one(block, decoder, kind, is_noise)


def _one_by_one(
    block: bytes, decoder: msgspec.json.Decoder[T], kind: str, is_noise: Callable[[bytes], bool] | None
) -> Iterator[T]:
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        try:
            str(line, "utf-8")
            message = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if is_noise is not None and is_noise(line):
                continue
            raise SourceGarbled(f"a line is no {kind} message ({error}): {excerpt(line)}") from None
        yield message


def excerpt(line: bytes) -> str:
    """The beginning of a line, made harmless."""
    return escape(line[:EXCERPT_BYTES].decode("utf-8", "replace"))
