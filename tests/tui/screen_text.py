"""The dashboard's screen as text, as it is drawn: what a golden holds, and what a test looks for."""

from __future__ import annotations

from tui.app import Dashboard


def screen_lines(app: Dashboard) -> list[str]:
    """The rows of the screen, without the blanks at their ends."""
    return ["".join(segment.text for segment in strip).rstrip() for strip in app.screen._compositor.render_strips()]


def screen_text(app: Dashboard) -> str:
    """The whole screen."""
    return "\n".join(screen_lines(app))
