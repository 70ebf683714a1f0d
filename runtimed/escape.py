"""Text from outside made safe to print: the one sanitiser for tables, messages and log lines.

Control characters could drive the terminal (clear it, fill the clipboard, forge lines), direction marks could turn text
round, and invisible ones could make two names look alike. All are shown as escapes instead. The list follows Unicode's
security considerations (UTR 36) and "Trojan Source" (CVE-2021-42574).
"""

from __future__ import annotations

import re
import unicodedata

COMBINING_RUN_MAX = 4
"""Marks upon one letter that are shown; text that is meant to be read has fewer."""

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def escape(text: str, *, keep: str = "") -> str:
    """The text with every character that could act or hide shown as `\\xNN` or `\\u{NNNN}`, those in `keep` apart."""
    if text.isascii() and text.isprintable():
        return text
    shown = _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _name(match[0]), text)
    return shown if shown.isascii() else _without_towers(shown)


def escape_json(text: str) -> str:
    """JSON with the same characters as JSON escapes; they stand only within its strings, so it means the same."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(lambda match: match[0] if match[0] in "\t\r\n" else _as_json(match[0]), text)


def width(text: str) -> int:
    """How many cells of a terminal escaped text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shorten(text: str, cells: int) -> str:
    """Escaped text in at most this many cells, the cut marked by an ellipsis."""
    if width(text) <= cells:
        return text
    taken, used = [], 0
    for char in text:
        used += width(char)
        if used > cells - 1:
            break
        taken.append(char)
    return "".join(taken) + "…"


def _as_json(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _name(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"


def _without_towers(text: str) -> str:
    """Marks piled upon one letter cover the lines above and below; the surplus is left out."""
    taken, run = [], 0
    for char in text:
        run = run + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if run <= COMBINING_RUN_MAX:
            taken.append(char)
    return "".join(taken)
