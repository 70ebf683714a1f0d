"""How values look in cells: pieces of text with a look, widths in terminal cells, ages, sizes, instants.

A `Line` is what every widget draws: pieces of text, each with the name of a look (`tui.looks` says what that is in a
theme). Text from outside may be put into a piece as it is: it is escaped where it is measured and where it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from rich.cells import cell_len, set_cell_size

from runtimed.escape import escape
from wal.views import rfc3339

Align = Literal["<", ">"]
ELLIPSIS = "…"
ELLIPSIS_ASCII = "~"
ESCAPED_TEXT_MAX = 4_096
"""Characters of one value that are looked at for one line; no terminal is that wide."""


class Piece(NamedTuple):
    """Some text with the name of its look; the empty look is ordinary text."""

    text: str
    look: str = ""


Line = Sequence[Piece]
Cell = str | Piece


def line(*parts: Cell) -> list[Piece]:
    """A line out of strings and pieces."""
    return [part if isinstance(part, Piece) else Piece(part) for part in parts]


def safe(text: str) -> str:
    """Text that can neither act on the terminal nor hide in it, cut to what one line could ever show."""
    return escape(text if len(text) <= ESCAPED_TEXT_MAX else text[:ESCAPED_TEXT_MAX])


def escapes(text: str) -> int:
    """How many characters of a text are shown escaped."""
    return sum(1 for char in text if len(escape(char)) > 1)


def cells(text: str) -> int:
    """How many cells safe text takes."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, align: Align = "<", *, ellipsis: str = ELLIPSIS) -> str:
    """Text escaped and made exactly `width` cells wide: padded, or cut with a mark."""
    if width <= 0:
        return ""
    text = safe(text)
    used = cells(text)
    if used > width:
        return str(set_cell_size(text, width - 1)) + ellipsis
    pad = " " * (width - used)
    return text + pad if align == "<" else pad + text


def fit_line(pieces: Iterable[Piece], width: int, *, ellipsis: str = ELLIPSIS) -> list[Piece]:
    """A line made exactly `width` cells wide."""
    taken: list[Piece] = []
    left = width
    for piece in pieces:
        text = safe(piece.text)
        used = cells(text)
        if used > left:
            if left > 0:
                taken.append(Piece(fit(text, left, ellipsis=ellipsis), piece.look))
            return taken
        taken.append(Piece(text, piece.look))
        left -= used
    if left > 0:
        taken.append(Piece(" " * left))
    return taken


def line_cells(pieces: Iterable[Piece]) -> int:
    """How many cells a line takes."""
    return sum(cells(safe(piece.text)) for piece in pieces)


def spread(left: Line, right: Line, width: int) -> list[Piece]:
    """Two lines on one: the right one at the right edge if there is room for both, else cut off."""
    room = width - line_cells(left) - line_cells(right)
    gap = [Piece(" " * room)] if room > 0 else [Piece(" ")]
    return fit_line([*left, *gap, *right], width)


# --- instants, ages, durations ----------------------------------------------------------------------------------------


def micros(instant: str | None) -> int | None:
    """RFC 3339 text as microseconds since the epoch; None for none, and for what is no instant."""
    if not instant:
        return None
    try:
        at = datetime.fromisoformat(instant)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return int(at.timestamp() * 1_000_000)


def age(seconds: float) -> str:
    """How long ago: exact below 10 s, then steps of 10 s, then 4m, 3h, 12d, so that a row repaints seldom."""
    whole = max(0, int(seconds))
    if whole < 10:
        return f"{whole}s"
    if whole < 60:
        return f"{whole // 10 * 10}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86_400:
        return f"{whole // 3600}h"
    return f"{whole // 86_400}d"


def age_between(then: str | None, now: int) -> str:
    """The age of an instant at `now` (microseconds); `-` without one."""
    at = micros(then)
    return "-" if at is None else age((now - at) / 1e6)


def until(instant: str | None, now: int) -> str:
    """How long until an instant; `-` without one, `now` when it has come."""
    at = micros(instant)
    if at is None:
        return "-"
    left = (at - now) / 1e6
    return age(left) if left > 0 else "now"


def duration(seconds: float | None) -> str:
    """A measured time: `3ms`, `0.4s`, `8.1s`, `2m`, `3h`."""
    if seconds is None:
        return "-"
    if seconds < 0.0995:
        return f"{max(0.0, seconds) * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    return age(seconds)


TimeStyle = Literal["rel", "utc", "local"]
TIME_STYLES: tuple[TimeStyle, ...] = ("rel", "utc", "local")


def clock(instant: str | None, style: TimeStyle = "utc", *, now: int = 0, seconds: bool = True) -> str:
    """An instant for a list: its time of day with Z (UTC) or without (local), or its age; the day if not today's."""
    at = micros(instant)
    if at is None:
        return "-"
    if style == "rel":
        return age((now - at) / 1e6)
    moment = datetime.fromtimestamp(at / 1e6, UTC)
    if style == "local":
        moment = moment.astimezone()
    text = moment.strftime("%H:%M:%S" if seconds else "%H:%M")
    return text + ("Z" if style == "utc" else "")


def stamp(instant: str | None) -> str:
    """An instant whole, to the second, in UTC: `2026-01-31 12:00:00Z`."""
    at = micros(instant)
    return "-" if at is None else datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


# --- numbers ----------------------------------------------------------------------------------------------------------


def size(number: float) -> str:
    """Bytes in at most four cells: `412`, `2.1M`, `61G`."""
    for unit in ("", "k", "M", "G", "T"):
        if number < 999.5 or unit == "T":
            return f"{number:.0f}{unit}" if unit == "" or number >= 9.95 else f"{number:.1f}{unit}"
        number /= 1024
    raise AssertionError("unreachable")


def thousands(number: int | None) -> str:
    """A number in groups of three, with thin gaps that every terminal has: `118 204`."""
    return "-" if number is None else f"{number:,}".replace(",", " ")


def rate(number: float) -> str:
    """A rate in at most five cells."""
    return f"{number:.1f}" if number < 999.95 else size(number)


def short_id(run_id: str, width: int) -> str:
    """An id in so many cells: its end, because ids begin alike (a time, a prefix) and differ there."""
    if len(run_id) <= width:
        return run_id
    return run_id[-width:] if _made(run_id) else ELLIPSIS + run_id[1 - width :]


def _made(run_id: str) -> bool:
    bare = run_id.replace("-", "")
    return len(bare) == 32 and all(char in "0123456789abcdef" for char in bare)


def rfc3339_now(now: int) -> str:
    """The present instant (microseconds) as text, for what takes instants as text."""
    return rfc3339(now) or ""
