"""Text that would act on a terminal, hide in it, or break a screen, if it were let through."""

from __future__ import annotations

HOSTILE = [
    "\x1b[2J\x1b[H\x1b[31mowned",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]0;title\x07\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
    "\x1bP+q544e\x1b\\ \x9b2J \x9d52;c;eA==\x9c",
    "\x00\x07\x08\x0d\x0a\x7f",
    "[/x] [bold]markup[/bold] [@click=app.quit]click[/] $text {0} %s",
    "user\u202egnp.exe \u2066isolated\u2069 \u200bzero\u200d\ufeff",
    "\U000e0041\U000e0042 tags \ufff9anchor",
    "日本語テキスト and \uff57\uff49\uff44\uff45",
    "a" + "\u0301" * 60 + " tower",
    "\u1160\u3164 fillers",
    "x" * 20_000,
    "👩‍👩‍👧‍👦 family ✈️ plane",
    "\ud800 lone surrogate".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
]
ONE_MEGABYTE_LINE = "y" * 1_000_000
