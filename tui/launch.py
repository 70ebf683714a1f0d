"""Start the dashboard on this terminal, or say politely why not; leave the terminal whole however it ends."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tui.areas import AREAS

if TYPE_CHECKING:
    from tui.app import Dashboard

THEME_NAMES = ("runtimed-dark", "runtimed-light", "runtimed-cb", "runtimed-hc", "runtimed-ansi")
"""As in `tui.looks`, which loads the toolkit: a refusal should not wait for that."""
COLUMNS_MIN, LINES_MIN = 60, 15
REFUSED = 2
TTY_GUARD_SECONDS = 5.0
LOST_TTY = 129
"""What a shell gives for a process that ended by a hang-up."""


class Terminal(NamedTuple):
    """What is known of the terminal before anything is drawn."""

    input_tty: bool
    output_tty: bool
    term: str
    columns: int
    lines: int
    encoding: str


class Drawing(NamedTuple):
    """How to draw."""

    color: bool
    ascii: bool
    theme: str


def look() -> Terminal:
    """The terminal we stand on. Textual draws on stderr, and reads from stdin."""
    try:
        size = os.get_terminal_size(2)
    except OSError:
        size = os.terminal_size((0, 0))
    encoding = (sys.stderr.encoding or "ascii").lower()
    return Terminal(os.isatty(0), os.isatty(2), os.environ.get("TERM", ""), size.columns, size.lines, encoding)


def refusal(terminal: Terminal) -> str | None:
    """Why the dashboard cannot run here, and what to do instead; None if it can."""
    instead = "Try `runtimed status -w`, or `runtimed runs list`."
    if not terminal.input_tty or not terminal.output_tty:
        return f"runtimed tui wants a terminal; this is a pipe or a file. {instead}"
    if terminal.term in ("", "dumb"):
        return (
            f"runtimed tui wants a terminal that can move its cursor; TERM is {terminal.term or 'not set'!r}. {instead}"
        )
    if terminal.columns < COLUMNS_MIN or terminal.lines < LINES_MIN:
        size = f"{terminal.columns}x{terminal.lines}"
        return f"this terminal is {size}; the dashboard wants {COLUMNS_MIN}x{LINES_MIN} at least. {instead}"
    return None


def drawing(options: argparse.Namespace, environ: Mapping[str, str], terminal: Terminal) -> Drawing:
    """Colours and characters: the option, then NO_COLOR if it is not empty, then what the terminal can do. Sixteen
    colours, or a line as thin as ssh's, get the terminal's own palette."""
    color = options.color == "always" or (options.color == "auto" and not environ.get("NO_COLOR"))
    utf8 = terminal.encoding.replace("-", "") == "utf8" and not _plain_locale(environ)
    theme = options.theme
    if theme is None:
        many = environ.get("COLORTERM") in ("truecolor", "24bit") or "256color" in terminal.term
        theme = "runtimed-dark" if many and not environ.get("SSH_CONNECTION") else "runtimed-ansi"
    return Drawing(color, options.ascii or not utf8, theme)


def _plain_locale(environ: Mapping[str, str]) -> bool:
    """Whether the locale is C or POSIX. The encoding of stderr does not tell: there Python takes UTF-8 by itself."""
    first = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name))), "")
    return first in ("C", "POSIX")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; `runtimed tui` fills in where the daemon is."""
    parser = argparse.ArgumentParser(prog="runtimed tui", description="The dashboard of a runtimed daemon.")
    parser.add_argument("--socket", metavar="FILE", help="the daemon's unix socket")
    parser.add_argument("--url", metavar="URL", help="the daemon's address, with --token-file")
    parser.add_argument("--token-file", metavar="FILE", help="a file with the token for --url")
    parser.add_argument("--journal", metavar="FILE", help="its journal, read when the daemon is down")
    parser.add_argument("--read-only", action="store_true", help="change nothing from here")
    parser.add_argument("--ascii", action="store_true", help="no characters beyond ASCII")
    parser.add_argument("--theme", choices=THEME_NAMES, help="its colours")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="whether to use colours")
    parser.add_argument("--place", default="", help="what commands copied with Y need to find the same daemon")
    parser.add_argument("--area", default="overview", choices=[area.name for area in AREAS], help="where to begin")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until the person leaves; the exit code."""
    options = parse(arguments)
    terminal = look()
    why_not = refusal(terminal)
    if why_not is not None:
        sys.stderr.write(why_not + "\n")
        return REFUSED
    how = drawing(options, os.environ, terminal)
    os.environ.pop("NO_COLOR", None)  # Textual takes an empty one for a wish; ours is decided
    if not how.color:
        os.environ["NO_COLOR"] = "1"
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_FPS", "15")
    app = make_app(options, how)
    code = asyncio.run(_run(app))
    return (app.return_code or 0) if code is None else code  # a crash is told by Textual, which then gives no code


def make_app(options: argparse.Namespace, how: Drawing) -> Dashboard:
    """The app for these options."""
    from runtimed.client import Client
    from tui.app import Dashboard, Options

    token = None
    if options.token_file:
        token = Path(options.token_file).read_text(encoding="ascii").strip()

    def make_client() -> Client:
        if options.url:
            return Client(url=options.url, token=token)
        return Client(socket=options.socket)

    host = options.url or socket.gethostname()
    return Dashboard(
        Options(
            host=host,
            journal=Path(options.journal) if options.journal else None,
            read_only=options.read_only,
            ascii=how.ascii,
            theme=how.theme,
            color=how.color,
            place=options.place,
            area=options.area,
        ),
        make_client,
    )


async def _run(app: Dashboard) -> int | None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, app.exit, 128 + number)
    guard = asyncio.create_task(_guard_tty())
    try:
        return await app.run_async()
    finally:
        guard.cancel()


async def _guard_tty() -> None:
    """End at once when the terminal is gone: reading from it would spin, and there is nothing left to restore."""
    while True:
        await asyncio.sleep(TTY_GUARD_SECONDS)
        try:
            os.tcgetpgrp(0)
        except OSError:
            os._exit(LOST_TTY)
