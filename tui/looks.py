"""Themes, and what a look is in each: colours only repeat what a glyph and a word already say.

Blue is fine or active, orange needs attention, bold on orange needs you, dim is done, red stands only beside a cross.
`runtimed-cb` keeps to the blue and orange that all kinds of colour blindness tell apart (Okabe and Ito, 2008).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.theme import BUILTIN_THEMES, Theme

from tui.format import ELLIPSIS, ELLIPSIS_ASCII, Piece, safe

LOOKS = ("", "dim", "ok", "warn", "need", "bad", "head", "tab", "cursor", "mark", "frame", "good")


class Palette(NamedTuple):
    """The colours of a theme, as rich names them."""

    text: str
    ground: str
    dim: str
    ok: str
    warn: str
    need_text: str
    need_ground: str
    bad: str
    head_text: str
    head_ground: str
    cursor: str
    frame: str
    good: str
    dark: bool = True
    ansi: bool = False


PALETTES: Mapping[str, Palette] = {
    "runtimed-dark": Palette(
        "#d8dee4", "#101418", "#7d8790", "#6cb2ff", "#f0a040", "#ffffff", "#b35a00", "#ff6b6b",
        "#ffffff", "#24303c", "#2b3d50", "#45525e", "#8fc7a0",
    ),
    "runtimed-light": Palette(
        "#1b1f24", "#fbfbf9", "#68707a", "#0b5cad", "#9a5200", "#ffffff", "#b35a00", "#b3261e",
        "#1b1f24", "#dfe5ea", "#cfe0f2", "#a9b2ba", "#22703f", dark=False,
    ),
    "runtimed-cb": Palette(
        "#e6e6e6", "#101418", "#8c949c", "#56b4e9", "#e69f00", "#000000", "#e69f00", "#f0e442",
        "#ffffff", "#1f3347", "#22415e", "#56606a", "#56b4e9",
    ),
    "runtimed-hc": Palette(
        "#ffffff", "#000000", "#c8c8c8", "#80c8ff", "#ffb000", "#000000", "#ffb000", "#ff8080",
        "#000000", "#ffffff", "#005fb8", "#ffffff", "#80ff80",
    ),
    "runtimed-ansi": Palette(
        "default", "default", "default", "blue", "yellow", "black", "yellow", "red",
        "default", "default", "default", "default", "green", ansi=True,
    ),
}  # fmt: skip
THEMES = tuple(PALETTES)
DEFAULT_THEME = "runtimed-dark"
ANSI_THEME = "runtimed-ansi"


def themes() -> list[Theme]:
    """The themes as Textual takes them."""
    return [_theme(name, palette) for name, palette in PALETTES.items()]


def _theme(name: str, palette: Palette) -> Theme:
    def color(value: str) -> str:
        return value if value.startswith("#") else f"ansi_{value}"

    return Theme(
        name=name,
        primary=color(palette.ok),
        secondary=color(palette.dim),
        warning=color(palette.warn),
        error=color(palette.bad),
        success=color(palette.good),
        accent=color(palette.warn),
        foreground=color(palette.text),
        background=color(palette.ground),
        surface=color(palette.ground),
        panel=color(palette.head_ground),
        dark=palette.dark,
        ansi=palette.ansi,
        variables=BUILTIN_THEMES["ansi-dark"].variables if palette.ansi else {},
    )


class Looks:
    """The styles of one theme, by the name of the look. An unknown look is ordinary text."""

    def __init__(self, theme: str = DEFAULT_THEME, *, ascii: bool = False) -> None:
        self.ascii = ascii
        palette = PALETTES.get(theme, PALETTES[DEFAULT_THEME])
        ground = palette.ground
        dim = Style(dim=True) if palette.ansi else Style(color=palette.dim)
        base = Style(color=palette.text, bgcolor=ground)
        reverse = Style(reverse=True) if palette.ansi else Style()
        self.base = base
        self.styles: dict[str, Style] = {
            "": base,
            "dim": base + dim,
            "ok": base + Style(color=palette.ok),
            "good": base + Style(color=palette.good),
            "warn": base + Style(color=palette.warn),
            "need": base + Style(color=palette.need_text, bgcolor=palette.need_ground, bold=True),
            "bad": base + Style(color=palette.bad, bold=True),
            "head": base + Style(color=palette.head_text, bgcolor=palette.head_ground, bold=True) + reverse,
            "bold": base + Style(bold=True),
            "tab": base + Style(color=palette.ok, bold=True),
            "mark": base + Style(color=palette.ok, bold=True),
            "frame": base + (Style(dim=True) if palette.ansi else Style(color=palette.frame)),
        }
        self.cursor = Style(reverse=True) if palette.ansi else Style(bgcolor=palette.cursor, bold=True)

    def _shown(self, text: str) -> str:
        return safe(text).replace(ELLIPSIS, ELLIPSIS_ASCII) if self.ascii else safe(text)

    def strip(self, pieces: Iterable[Piece], width: int, *, cursor: bool = False) -> Strip:
        """A line as Textual draws it, exactly `width` cells wide. Every text on its way to the terminal passes here and
        is escaped here."""
        styles, base = self.styles, self.base
        segments = [Segment(self._shown(piece.text), styles.get(piece.look, base)) for piece in pieces if piece.text]
        strip = Strip(segments).adjust_cell_length(width, base).simplify()  # each change of style costs 40 bytes
        if not cursor:
            return strip
        return Strip([Segment(text, (style or base) + self.cursor) for text, style, _ in strip], width)
