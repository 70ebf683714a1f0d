"""What people pass in: JSON as an argument, from a file or from stdin; names with values; instants."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw

from actors.errors import InvalidInput, PayloadTooLarge

INPUT_BYTES_MAX = 64 * 1024**2
"""More than any daemon takes; the daemon's own limit is the one that counts."""


def read_json(text: str, what: str) -> Raw:
    """JSON from the argument itself, from `@file`, or from stdin for `-`. Raises `InvalidInput` with the position."""
    data, where = _read(text, what)
    check_json(data, where)
    return Raw(data)


def read_text(text: str, what: str) -> str:
    """Text from the argument itself, from `@file`, or from stdin for `-`. Raises `InvalidInput`."""
    data, where = _read(text, what)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{where} is not UTF-8 at {_position(data, error.start)}") from None


def _read(text: str, what: str) -> tuple[bytes, str]:
    """The bytes, and where they are from."""
    if text == "-":
        data, where = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1), f"{what} (stdin)"
    elif text.startswith("@"):
        data, where = _read_file(text[1:], what), f"{what} ({text[1:]})"
    else:
        data, where = text.encode("utf-8", "surrogateescape"), what
    if len(data) > INPUT_BYTES_MAX:
        raise PayloadTooLarge(f"{where} is larger than {INPUT_BYTES_MAX:,} bytes")
    return data, where


def check_json(data: bytes, where: str) -> None:
    """Raise `InvalidInput`, naming line and column, unless this is one JSON value in UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{where} is not UTF-8 at {_position(data, error.start)}") from None
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{where} is not JSON: {_sentence(data, str(error))}", hint=_quoting(data)) from None
    except RecursionError:
        raise InvalidInput(f"{where} is nested too deeply") from None


def _read_file(name: str, what: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read(INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"{what}: {name}: {error.strerror}") from None


def _sentence(data: bytes, text: str) -> str:
    """msgspec's message, its byte offset as line and column."""
    if not data.strip():
        return "it is empty"
    text = text.removeprefix("JSON is malformed: ")
    before, found, number = text.rpartition("(byte ")
    if found:
        return f"{before.strip()} at {_position(data, int(number.rstrip(')')))}"
    return f"{text} at {_position(data, len(data))}"


def _position(data: bytes, offset: int) -> str:
    line = data.count(b"\n", 0, offset) + 1
    column = offset - (data.rfind(b"\n", 0, offset) + 1) + 1
    return f"line {line}, column {column}"


def _quoting(data: bytes) -> str | None:
    """The commonest mistake: text without its quotes, or with those of the shell gone."""
    if data[:1].isalpha():
        return "Text is JSON only in double quotes, which the shell needs quoted in turn: '\"text\"'."
    return None


def read_pairs(pairs: Iterable[str], what: str) -> dict[str, Any]:
    """`NAME=VALUE` each; a value that is JSON is taken as such, other text as text. Raises `InvalidInput`."""
    read: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{what} {pair!r} is not NAME=VALUE")
        try:
            read[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            read[name] = value
        except UnicodeEncodeError:  # bytes of the command line that are no text
            raise InvalidInput(f"{what} {pair!r} is not UTF-8") from None
    return read


def read_texts(pairs: Iterable[str], what: str) -> dict[str, str]:
    """`NAME=VALUE` each, as text. Raises `InvalidInput`."""
    wrong = [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]
    if wrong:
        raise InvalidInput(f"{what} {wrong[0]!r} is not NAME=VALUE")
    return {pair.partition("=")[0]: pair.partition("=")[2] for pair in pairs}


_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def read_duration(text: str, what: str) -> float:
    """Seconds out of `90`, `90s`, `15m`, `12h`, `30d` or `4w`. Raises `InvalidInput`."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise InvalidInput(f"{what} {text!r} is not a time such as 12h or 30d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def read_instant(text: str, what: str) -> str:
    """RFC 3339 with an offset, as text again. Raises `InvalidInput`."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise InvalidInput(f"{what} {text!r} is not an instant with an offset, such as 2026-01-31T12:00:00Z")
    return instant.isoformat()
