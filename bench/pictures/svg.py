"""A screen as an SVG that stands alone: no font is fetched from anywhere, and equal screens give equal files."""

from __future__ import annotations

import re

from textual.app import App

FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
BYTES_MAX = 120_000
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_UNIQUE = re.compile(r"terminal-\d+")


def picture(app: App[int], title: str) -> str:
    """What the app shows now. Each text has its length in it, so that any monospaced font fits.

    Raises ValueError for one that is too large to keep, or that names an address."""
    svg = app.export_screenshot(title=title, simplify=True)
    svg = _COMMENT.sub("", _FONT_FACE.sub("", svg))
    svg = svg.replace("Fira Code, monospace", FONTS).replace("font-family: arial", "font-family: sans-serif")
    svg = _UNIQUE.sub("screen", svg)
    svg = "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"
    if len(svg.encode()) > BYTES_MAX:
        raise ValueError(f"{title}: {len(svg.encode())} bytes; a picture has at most {BYTES_MAX}")
    foreign = set(re.findall(r"https?://[^\"' )]+", svg)) - {"http://www.w3.org/2000/svg"}
    if foreign:
        raise ValueError(f"{title} names {', '.join(sorted(foreign))}")
    return svg
