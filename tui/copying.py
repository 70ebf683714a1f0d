"""Copy to the clipboard of whoever sits at the terminal: OSC 52, through tmux and screen, with a limit. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping

COPY_MAX_BYTES = 74_994
"""The most that terminals take in one sequence (as k9s found: 100,000 bytes of base64, less the frame)."""
SCREEN_CHUNK = 250
"""screen drops longer control strings, so it gets several in a row."""


def osc52(text: str, environ: Mapping[str, str]) -> str | None:
    """The control sequence that puts a text into the clipboard; None for one that is too long."""
    data = text.encode("utf-8", "replace")
    if len(data) > COPY_MAX_BYTES:
        return None
    sequence = f"\x1b]52;c;{base64.b64encode(data).decode()}\x07"
    if environ.get("TMUX"):
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    if environ.get("STY"):
        parts = [sequence[at : at + SCREEN_CHUNK] for at in range(0, len(sequence), SCREEN_CHUNK)]
        return "".join(f"\x1bP{part}\x1b\\" for part in parts)
    return sequence
