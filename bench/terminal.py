"""The terminal: what the dashboard costs at rest and at work, how soon it answers, and the command line's time."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.daemon import Daemon, running
from bench.figures import Figure, percentile
from bench.load_client import BATCH, LATER, Connection, get, post
from bench.terminal_process import Terminal, Watched, shown

SMALL, LARGE = (80, 24), (200, 50)
IDLE_SECONDS, LIVE_SECONDS = 15.0, 10.0
LIVE_RUNS, BEAT_SECONDS, GROWN_SECONDS = 40, 4.0, 8.0
STARTS, KEYS, EVENTS, COMMANDS = 3, 30, 15, 5
MANY_RUNS = 100_000

IDLE_PERCENT_MAX, IDLE_BYTES_MAX = 0.5, 150.0
LIVE_BYTES_MAX = 2_000.0
KEY_MS_MAX, LIST_MS_MAX, LIST_MB_MAX = 60.0, 250.0, 90.0
START_SECONDS_MAX, COMMAND_MS_MAX, EVENT_MS_MAX = 1.0, 300.0, 300.0


def _start(connection: Connection, workflow: str, prefix: str, count: int, **more: object) -> None:
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        items = [{"workflow": workflow, "input": n, "id": f"{prefix}-{n}", **more} for n in numbers]
        connection.ask(post("/v1/runs", items))


def _waiting(connection: Connection, count: int) -> None:
    """Return when so many runs wait."""
    while json.loads(connection.ask(get("/v1/runs?status=waiting&limit=1")))["total"] < count:
        time.sleep(0.05)


def _starts(daemon: Daemon) -> list[Figure]:
    seconds = []
    for _ in range(STARTS):
        with shown(daemon.socket, SMALL) as terminal:
            seconds.append(time.perf_counter() - terminal.began)
    return [Figure("dashboard, start to live", statistics.median(seconds), "s", at_most=START_SECONDS_MAX)]


def _idle(daemon: Daemon) -> list[Figure]:
    with shown(daemon.socket, SMALL) as small, shown(daemon.socket, LARGE) as large:
        for terminal in (small, large):
            terminal.settle(quiet=1.0, most=4.0)
        costs = Watched([small, large]).during(IDLE_SECONDS)
    figures = []
    for (columns, lines), (percent, rate) in zip((SMALL, LARGE), costs, strict=True):
        name = f"idle {columns}x{lines}"
        figures += [
            Figure(f"{name}, of one core", percent, "%", at_most=IDLE_PERCENT_MAX, note=f"over {IDLE_SECONDS:.0f} s"),
            Figure(f"{name}, to the terminal", rate, "B/s", at_most=IDLE_BYTES_MAX),
        ]
    return figures


def _live(daemon: Daemon, connection: Connection) -> list[Figure]:
    """All live runs make a step now and then, and as many as fit are looked at. The youngest is past the ten seconds in
    which ages are exact."""
    items = [{"workflow": "beat", "input": BEAT_SECONDS, "id": f"beat-{number}"} for number in range(LIVE_RUNS)]
    for item in items:
        connection.ask(post("/v1/runs", item))
        time.sleep(BEAT_SECONDS / LIVE_RUNS)  # as many beats at any time
    note = f"a step each in {BEAT_SECONDS:.0f} s"
    time.sleep(GROWN_SECONDS)
    figures = []
    with shown(daemon.socket, SMALL) as overview, shown(daemon.socket, SMALL, "runs") as runs:
        for terminal in (overview, runs):
            terminal.settle(most=2.0)
        costs = Watched([overview, runs]).during(LIVE_SECONDS)
    for name, (percent, rate) in zip(("overview", "runs"), costs, strict=True):
        figures += [
            Figure(f"{LIVE_RUNS} live runs, {name} 80x24", rate, "B/s", at_most=LIVE_BYTES_MAX, note=note),
            Figure("  of one core", percent, "%"),
        ]
    for item in items:
        connection.ask(post(f"/v1/runs/{item['id']}/cancel", {"reason": "measured"}))
    return figures


def _keys(terminal: Terminal) -> list[Figure]:
    """The cursor down and up a list, and from area to area and back."""
    moves = [terminal.paint_seconds("jjjk"[number % 4]) * 1e3 for number in range(KEYS)]
    first = [terminal.paint_seconds(key) * 1e3 for key in "1723"]
    areas = [terminal.paint_seconds("1723"[number % 4]) * 1e3 for number in range(12)]
    return [
        Figure("key to paint, cursor, p50", percentile(moves, 0.5), "ms", at_most=KEY_MS_MAX),
        Figure("key to paint, cursor, p99", percentile(moves, 0.99), "ms", at_most=KEY_MS_MAX),
        Figure("key to paint, another area, p50", percentile(areas, 0.5), "ms", at_most=KEY_MS_MAX),
        Figure("key to paint, another area, p99", percentile(areas, 0.99), "ms"),
        Figure("  the first time, slowest", max(first), "ms", note="it is loaded then"),
    ]


def _events(terminal: Terminal, connection: Connection) -> list[Figure]:
    """From the answer to a start, which comes after its commit, to its row in the list of runs."""
    chance, mark = random.Random(7), os.urandom(2).hex()
    latencies = []
    for number in range(EVENTS):
        terminal.settle(quiet=chance.uniform(0.05, 0.6), most=0.7)
        terminal.forget()
        connection.ask(post("/v1/runs", {"workflow": "wait", "input": number, "id": f"e{mark}-{number:03}"}))
        committed = time.perf_counter()
        latencies.append((terminal.until(f"e{mark}-{number:03}") - committed) * 1e3)
    return [
        Figure("committed to on screen, p50", percentile(latencies, 0.5), "ms"),
        Figure("committed to on screen, slowest", max(latencies), "ms", at_most=EVENT_MS_MAX, note=f"of {EVENTS}"),
    ]


def _command(daemon: Daemon) -> list[Figure]:
    command = [sys.executable, "-P", "-m", "runtimed", "runs", "list", "-o", "json", "--socket", str(daemon.socket)]
    seconds = []
    for _ in range(COMMANDS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    return [
        Figure(
            "runs list -o json", statistics.median(seconds) * 1e3, "ms", at_most=COMMAND_MS_MAX, note="whole process"
        )
    ]


def _many(daemon: Daemon, connection: Connection) -> list[Figure]:
    """The list of very many runs: opened, and gone to its end."""
    _start(connection, "one", "later", MANY_RUNS, start_at=LATER)
    with shown(daemon.socket, LARGE) as terminal:
        terminal.settle(quiet=0.5)
        terminal.forget()
        began = time.perf_counter()
        terminal.press("2")
        opened = terminal.until("later-9999") - began
        terminal.settle()
        last = terminal.paint_seconds("G")
        terminal.settle(quiet=0.5)
        rss = terminal.rss_mb()
    return [
        Figure(f"open the list of {MANY_RUNS:,} runs", opened * 1e3, "ms", at_most=LIST_MS_MAX, note="200x50"),
        Figure("  go to its end", last * 1e3, "ms"),
        Figure("  resident", rss, "MB", at_most=LIST_MB_MAX),
    ]


def measure(folder: Path) -> list[Figure]:
    """One daemon, from little to much."""
    with running(folder / "terminal") as daemon:
        connection = Connection(str(daemon.socket))
        _start(connection, "wait", "wait", LIVE_RUNS)
        _waiting(connection, LIVE_RUNS)
        figures = _starts(daemon) + _idle(daemon) + _command(daemon)
        with shown(daemon.socket, SMALL, "runs") as terminal:
            figures += _events(terminal, connection) + _keys(terminal)
        return figures + _live(daemon, connection) + _many(daemon, connection)
