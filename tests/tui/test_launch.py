"""The dashboard on a real terminal: it refuses politely, and leaves the terminal whole however it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.pty_process import (
    ENTER_SCREEN,
    LEAVE_SCREEN,
    ROOT,
    SHOW_CURSOR,
    WAIT_SECONDS,
    PtyProcess,
    dashboard_process,
)
from tui import launch
from tui.launch import Terminal, drawing, parse, refusal

GOOD = Terminal(True, True, "xterm-256color", 80, 24, "utf-8")


def whole_again(process: PtyProcess) -> bool:
    """Whether the terminal was given back: the ordinary screen, the cursor, no mouse, no bracketed paste."""
    end = process.output[process.output.rindex(ENTER_SCREEN) :]
    return LEAVE_SCREEN in end and SHOW_CURSOR in end and b"\x1b[?1000l" in end and b"\x1b[?2004l" in end


def test_a_terminal_is_told_from_what_is_none() -> None:
    """No terminal, a dumb one, one too small: each with a sentence; a good one without."""
    assert refusal(GOOD) is None
    assert "pipe" in (refusal(GOOD._replace(output_tty=False)) or "")
    assert "pipe" in (refusal(GOOD._replace(input_tty=False)) or "")
    assert "'dumb'" in (refusal(GOOD._replace(term="dumb")) or "")
    assert "not set" in (refusal(GOOD._replace(term="")) or "")
    assert "59x24" in (refusal(GOOD._replace(columns=59)) or "")
    assert "runtimed status -w" in (refusal(GOOD._replace(lines=14)) or "")


@pytest.mark.parametrize(
    ("arguments", "environ", "terminal", "wanted"),
    [
        ([], {"COLORTERM": "truecolor"}, GOOD, (True, False, "runtimed-dark")),
        ([], {}, GOOD._replace(term="xterm"), (True, False, "runtimed-ansi")),
        ([], {"COLORTERM": "truecolor", "SSH_CONNECTION": "x"}, GOOD, (True, False, "runtimed-ansi")),
        ([], {"NO_COLOR": "1"}, GOOD, (False, False, "runtimed-dark")),
        ([], {"NO_COLOR": ""}, GOOD, (True, False, "runtimed-dark")),
        (["--color", "always"], {"NO_COLOR": "1"}, GOOD, (True, False, "runtimed-dark")),
        (["--color", "never"], {}, GOOD, (False, False, "runtimed-dark")),
        (["--ascii", "--theme", "runtimed-cb"], {}, GOOD, (True, True, "runtimed-cb")),
        ([], {}, GOOD._replace(encoding="ascii"), (True, True, "runtimed-dark")),
        ([], {"LC_ALL": "C", "LANG": "C.UTF-8"}, GOOD, (True, True, "runtimed-dark")),
        ([], {"LC_ALL": "", "LC_CTYPE": "POSIX"}, GOOD, (True, True, "runtimed-dark")),
        ([], {"LC_ALL": "C.UTF-8", "LANG": "C"}, GOOD, (True, False, "runtimed-dark")),
    ],
)
def test_colours_and_characters_are_decided_once(
    arguments: list[str], environ: dict[str, str], terminal: Terminal, wanted: tuple[bool, bool, str]
) -> None:
    """The option, then a NO_COLOR that is not empty, then what the terminal can do; ASCII where it is not UTF-8."""
    assert drawing(parse(arguments), environ, terminal) == wanted


@pytest.mark.slow
def test_a_pipe_is_refused_politely() -> None:
    """Without a terminal: one sentence on stderr that says what to do instead, exit code 2, nothing on stdout."""
    command = [sys.executable, "-P", "-m", "tui", "--socket", "/nonexistent"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, env=environ, timeout=WAIT_SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"runtimed status -w" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("environ", "size"), [({"TERM": "dumb"}, (80, 24)), ({}, (59, 24))])
def test_a_terminal_that_cannot_is_refused_politely(environ: dict[str, str], size: tuple[int, int]) -> None:
    """TERM=dumb and a tiny screen: a sentence, exit code 2, and no control sequence at all."""
    with dashboard_process("--socket", "/nonexistent", environ=environ, size=size) as process:
        assert process.ended() == 2
        assert b"\x1b" not in process.output
        assert "runtimed status -w" in process.plain


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_whole(number: int, short_dir: Path) -> None:
    """SIGTERM and SIGHUP end it with 128 and their number, and the terminal is as it was."""
    with dashboard_process("--socket", str(short_dir / "s")) as process:
        process.until("Needs you")
        process.signal(number)
        assert process.ended() == 128 + number
        assert whole_again(process)


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_plain_locale_gets_ascii(locale: str, short_dir: Path) -> None:
    """On a real terminal too, where Python makes UTF-8 of it by itself."""
    with dashboard_process("--socket", str(short_dir / "s"), environ={"LC_ALL": locale}) as process:
        process.until("Needs you")
        process.send(b"2")
        process.until("[2 Runs]")
        assert process.plain.isascii()


@pytest.mark.slow
def test_q_leaves_the_terminal_whole(short_dir: Path) -> None:
    """`q` ends it with 0."""
    with dashboard_process("--socket", str(short_dir / "s")) as process:
        process.until("Needs you")
        process.send(b"q")
        assert process.ended() == 0
        assert whole_again(process)


@pytest.mark.slow
def test_a_lost_terminal_ends_it(short_dir: Path) -> None:
    """When the terminal is gone without a word it ends by itself, and does not spin until then."""
    with dashboard_process("--socket", str(short_dir / "s")) as process:
        process.until("Needs you")
        spent = process.cpu_seconds()
        process.hang_up()
        _, status, usage = os.wait4(process.pid, 0)
        process.code = os.waitstatus_to_exitcode(status)
        assert process.code != 0
        assert usage.ru_utime + usage.ru_stime < spent + 2.0


def test_a_crash_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dashboard that ended by an error of its own ends with 1, not with 0."""

    class Crashed:
        return_code = 1

        async def run_async(self) -> None: ...

        def exit(self, code: int) -> None: ...

    monkeypatch.setattr(os, "environ", dict(os.environ))  # it tells the toolkit its wishes there
    monkeypatch.setattr(launch, "look", lambda: GOOD)
    monkeypatch.setattr(launch, "make_app", lambda options, how: Crashed())
    assert launch.main([]) == 1


@pytest.mark.slow
def test_the_guard_ends_what_no_signal_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is gone without SIGHUP is noticed, and the process ends at once."""
    ended: list[int] = []

    def leave(code: int) -> None:
        ended.append(code)
        raise SystemExit(code)

    def gone(descriptor: int) -> int:
        raise OSError("no terminal")

    monkeypatch.setattr(launch, "TTY_GUARD_SECONDS", 0.0)
    monkeypatch.setattr(os, "tcgetpgrp", gone)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit):
        asyncio.run(launch._guard_tty())
    assert ended == [launch.LOST_TTY]


@pytest.mark.slow
def test_no_color_writes_no_colour(short_dir: Path) -> None:
    """With NO_COLOR no sequence sets a colour (3x, 4x, 9x, 10x); bold, dim and reverse remain."""
    with dashboard_process("--socket", str(short_dir / "s"), environ={"NO_COLOR": "1"}) as process:
        process.until("Needs you")
        process.send(b"2")
        process.until("WORKFLOW")
        process.send(b"q")
        process.ended()
        colours = [
            code
            for sequence in re.findall(rb"\x1b\[([0-9;]*)m", process.output)
            for code in sequence.split(b";")
            if re.fullmatch(rb"(3|4|9|10)[0-9]", code) and code not in (b"39", b"49")
        ]
        assert colours == []


@pytest.mark.slow
def test_a_storm_of_sizes_is_survived(short_dir: Path) -> None:
    """Two hundred sizes between 40x10 and 200x50 in a row: it draws the last one and answers its keys."""
    with dashboard_process("--socket", str(short_dir / "s")) as process:
        process.until("Needs you")
        for n in range(200):
            process.resize(40 + n * 37 % 161, 10 + n * 7 % 41)
            process.read(0)
        process.resize(200, 50)
        process.until("Actors (worst first)")
        process.send(b"q")
        assert process.ended() == 0
