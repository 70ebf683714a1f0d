"""`runtimed demo`: orders in, kill -9 in the middle, a restart, and a table that shows that nothing was lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import click

from actors.errors import RunCancelled, RunFailed
from runtimed.cli.init import write_project
from runtimed.cli.options import with_shell
from runtimed.cli.shell import Shell
from runtimed.client import Client, NewRun
from runtimed.client_errors import DaemonUnreachable, TimedOut
from wal.errors import RuntimedError

ORDERS = 40
LARGE_EACH = 10
"""Every tenth order is large: a person has to approve it, and refuses every other one."""
LARGE = range(0, ORDERS, LARGE_EACH)
READY_SECONDS, END_SECONDS = 20.0, 60.0


class DemoFailed(RuntimedError):
    """The demo did not end as it must."""

    code = "demo_failed"


@click.command()
@with_shell
def demo(shell: Shell) -> int:
    """See it survive kill -9: runs the shop of a checkout's examples, else a small demo of its own."""
    root = Path(__file__).resolve().parents[2]
    if (root / "examples" / "shop" / "demo.py").is_file():
        shell.detail(f"the shop in {root / 'examples'}")
        environment = {**os.environ, "PYTHONPATH": str(root)}
        shop = [sys.executable, "-P", "-m", "examples.shop.demo"]
        return subprocess.run(shop, cwd=root, env=environment, check=False).returncode
    return run_small(shell)


def run_small(shell: Shell) -> int:
    """The demo that needs nothing but runtimed itself: the first project, forty orders, one kill."""
    folder = Path(tempfile.mkdtemp(prefix="runtimed-demo-"))
    write_project(folder)
    daemon = Daemon(folder)
    try:
        anyio.run(_play, shell, daemon)
    finally:
        daemon.stop()
        shutil.rmtree(folder)
    return 0


async def _play(shell: Shell, daemon: Daemon) -> None:
    began = time.monotonic()

    def say(text: str) -> None:
        shell.note(f"{time.monotonic() - began:5.1f} s  {text}")

    await daemon.start()
    async with Client(socket=daemon.socket) as client:
        say("a daemon is ready in an empty folder")
        await client.start_many(_order(number) for number in range(ORDERS))
        say(f"{ORDERS} orders are on disk")
    daemon.kill()
    say("kill -9")
    await daemon.start()
    async with Client(socket=daemon.socket) as client:
        say("restarted; a person answers for the large orders")
        with anyio.move_on_after(END_SECONDS) as limit:
            await _decide(client)
            table = await _outcome(client)
        if limit.cancelled_caught:
            raise DemoFailed(f"some runs have not ended after {END_SECONDS:.0f} s")
        say("every run has ended")
    _judge(shell, table)


def _order(number: int) -> NewRun:
    cents = 99_000 if number in LARGE else 1_000 + number
    return NewRun(workflow="checkout", id=f"order-{number}", input={"id": str(number), "cents": cents})


def _approves(number: int) -> bool:
    return number % (2 * LARGE_EACH) == 0


async def _decide(client: Client) -> None:
    """Answer each large order's approval as soon as it is asked."""
    answer = {f"order-{number}": _approves(number) for number in LARGE}
    while answer:
        for asked in (await client.approvals(status="open")).items:
            if (approve := answer.pop(asked.run_id, None)) is not None:
                await client.decide(
                    asked.id, approve=approve, payload_hash=asked.payload_hash,
                    reason="looks fine" if approve else "address unknown",
                )  # fmt: skip
        await anyio.sleep(0.02)


async def _outcome(client: Client) -> Counter[str]:
    """How the runs ended, and how often each step was recorded as done over all of them."""
    table: Counter[str] = Counter()
    for number in range(ORDERS):
        run_id = f"order-{number}"
        try:
            await client.result(run_id)
            table["completed"] += 1
        except RunFailed:
            table["refused and undone"] += 1
        except RunCancelled:
            table["cancelled"] += 1
        done = Counter((r.kind, r.call) for r in (await client.history(run_id)).items if r.kind.endswith("_completed"))
        table["steps done twice"] += sum(times > 1 for times in done.values())
        table["refunds"] += sum(times for (kind, _), times in done.items() if kind == "compensation_completed")
    return table


def _judge(shell: Shell, table: Counter[str]) -> None:
    from runtimed.cli.text import table as print_table

    refused = sum(not _approves(number) for number in LARGE)
    expected: dict[str, int] = {
        "completed": ORDERS - refused,
        "refused and undone": refused,
        "refunds": refused,
        "steps done twice": 0,
    }
    rows: list[tuple[Any, ...]] = [(name, number, table[name]) for name, number in expected.items()]
    print_table(shell, ["", "EXPECTED", "FOUND"], rows)
    wrong = [name for name, number, found in rows if number != found]
    if wrong:
        raise DemoFailed(f"not as expected: {', '.join(wrong)}")


class Daemon:
    """`runtimed serve` in a folder, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "data" / "runtimed.sock"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._process is None else self._process.poll()

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        process = self._launch()
        until = time.monotonic() + READY_SECONDS
        while not await self._ready():
            if time.monotonic() > until or process.poll() is not None:
                raise DemoFailed("the daemon did not get ready", hint=self._log_end())
            await anyio.sleep(0.02)

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "runtimed", "serve"]
        home = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([home, os.environ.get("PYTHONPATH", "")])}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, env=environment, stdout=log, stderr=log)
        return self._process

    def kill(self) -> None:
        """`kill -9`: no warning, no goodbye."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it, politely first."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    async def _ready(self) -> bool:
        try:
            async with Client(socket=self.socket, timeout=1.0) as client:
                return await client.ready()
        except (DaemonUnreachable, TimedOut):
            return False

    def _log_end(self) -> str:
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
