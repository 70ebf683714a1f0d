"""People decide in the real dashboard, in front of a real daemon."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from textual.widgets import Input

from runtimed.client import Client, DaemonUnreachable
from tests.tui.driving import Driven
from tui.app import Dashboard, Options
from tui.screens.card_base import DONE, OPEN
from tui.screens.decision_card import DecisionCard
from tui.widgets.fields import Submit
from wal.views import ApprovalView

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
HERE = Path(__file__).resolve().parent
READY_SECONDS = 60.0
SOMEBODY = 65_534


class Daemon:
    """`runtimed serve` on a folder, ended with the test."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.socket = self.data / "runtimed.sock"
        self._log = (folder / "daemon.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / "runtimed.toml"
        self._config.write_text(
            f'[access.levels]\napprover = ["uid:{SOMEBODY}"]\n[access.groups]\nops = ["uid:{SOMEBODY}"]\n', "utf-8"
        )

    async def start(self) -> None:
        """Start it, and wait until it takes work."""
        self._spawn()
        with anyio.fail_after(READY_SECONDS):
            while not await self._answers():
                assert self._process is not None and self._process.poll() is None, self._log.name
                await anyio.sleep(0.02)

    def _spawn(self) -> None:
        command = [sys.executable, "-P", "-m", "runtimed", "serve", "--config", str(self._config)]
        self._process = subprocess.Popen(
            [*command, "--app", "people_flows:app", "--data-dir", str(self.data)],
            cwd=HERE, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
        )  # fmt: skip

    async def _answers(self) -> bool:
        try:
            async with Client(socket=self.socket) as client:
                return await client.ready()
        except DaemonUnreachable:
            return False

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(READY_SECONDS)
        self._log.close()

    def refuse_as_somebody(self, approval: ApprovalView, reason: str) -> None:
        """Another person decides: another uid, where we may become one for the instant of connecting."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.geteuid() == 0:
            for path in (self.data.parent, self.data, self.socket):
                path.chmod(0o777)
            os.seteuid(SOMEBODY)
        try:
            sock.connect(str(self.socket))
        finally:
            os.seteuid(os.getuid())
        connection = http.client.HTTPConnection("localhost")
        connection.sock = sock
        body = msgspec.json.encode({"approve": False, "payload_hash": approval.payload_hash, "reason": reason})
        path = f"/v1/approvals/{approval.id}/decide"
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        connection.close()


@pytest.fixture
def daemon(short_dir: Path) -> Iterator[Daemon]:
    served = Daemon(short_dir)
    yield served
    served.close()


@asynccontextmanager
async def dashboard(daemon: Daemon) -> AsyncIterator[Driven]:
    """The real dashboard on the approvals, connected."""
    options = Options(host="here", journal=daemon.data / "journal.db", area="approvals")
    app = Dashboard(options, lambda: Client(socket=daemon.socket))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        shown = Driven(app, pilot, None)  # type: ignore[arg-type]
        await shown.until(lambda: app.link_state.live)
        yield shown


async def opened(shown: Driven) -> DecisionCard:
    """The card of the request at the cursor, opened by the operator and ready."""
    await shown.press("enter")
    await shown.until(lambda: isinstance(shown.app.screen, DecisionCard) and shown.app.screen.armed)
    card = shown.app.screen
    assert isinstance(card, DecisionCard)
    return card


async def test_a_request_arrives_is_approved_and_its_run_finishes(daemon: Daemon) -> None:
    """It appears by itself; the card is opened, filled in and submitted; the run completes with what was filled in; the
    record says who the kernel says we are, and why."""
    await daemon.start()
    async with Client(socket=daemon.socket) as client, dashboard(daemon) as shown:
        await shown.sees("nobody is asked for anything")
        run = await client.start("refund", 991, id="order-991")
        await shown.sees("HIGH", "refund order 991", "order-991")
        card = await opened(shown)
        await shown.sees("it undoes lock_order", "pls \\x1b[2J [/x]", f"uid:{os.getuid()}")
        code = card.view.payload_hash[:4]
        await shown.press(
            "tab", "space", "tab", *"OPS-7", "tab", "tab", *"checked with Kim", "tab", *code, "tab", "enter"
        )
        await shown.sees("is recorded; the run goes on with it")
        assert card.phase == DONE
        assert await run.result() == "refunded 991 for OPS-7"
        await shown.press("escape")
        await shown.sees("open 0", "APPROVE")
        history = await client.history("order-991")
        voted = next(record for record in history.items if record.kind == "approval_voted")
        said = msgspec.json.decode(voted.data)
        assert (said["by"], said["reason"], said["approve"]) == (f"uid:{os.getuid()}", "checked with Kim", True)
        assert said["data"] == {"ticket": "OPS-7"}
        assert said["via"]


async def test_a_no_undoes_what_was_done(daemon: Daemon) -> None:
    """A refusal with a reason: the run fails, and its completed step is undone."""
    await daemon.start()
    async with Client(socket=daemon.socket) as client, dashboard(daemon) as shown:
        await client.start("refund", 12, id="order-12")
        await shown.sees("refund order 12")
        await opened(shown)
        await shown.press("tab", "right", "space", "tab", *"duplicate of 11", "tab", "enter")
        await shown.sees("DENY", "is recorded")
        kinds: list[str] = []
        with anyio.fail_after(30):
            while "run_failed" not in kinds:
                kinds = [record.kind for record in (await client.history("order-12")).items]
        assert "compensation_completed" in kinds


async def test_two_people_at_once(daemon: Daemon) -> None:
    """Somebody else is first while our card is open: it says who, and takes nothing more."""
    await daemon.start()
    async with Client(socket=daemon.socket) as client, dashboard(daemon) as shown:
        await client.start("refund", 12, id="order-12")
        await shown.sees("refund order 12")
        card = await opened(shown)
        await shown.press("tab", "space", "tab", *"fine with me", "tab")
        daemon.refuse_as_somebody(card.view, "duplicate of 11")
        first = SOMEBODY if os.geteuid() == 0 else os.getuid()
        await shown.sees(f"refused by uid:{first}", "duplicate of 11")
        await shown.press("enter", "enter")
        view = await client.approval(card.view.id)
        assert [vote.by for vote in view.votes] == [f"uid:{first}"]


async def test_the_daemon_is_killed_while_a_card_is_open(daemon: Daemon) -> None:
    """The card stays and says why it takes nothing; when the daemon is back it goes on, with what was typed."""
    await daemon.start()
    async with Client(socket=daemon.socket) as client:
        await client.start("refund", 12, id="order-12")
    async with dashboard(daemon) as shown:
        await shown.sees("refund order 12")
        card = await opened(shown)
        await shown.press("tab", "space", "tab", *"typed before", "tab")
        daemon.kill()
        await shown.sees("nothing can be submitted: the daemon is down")
        await shown.press("enter")
        assert card.phase == OPEN
        await daemon.start()
        await shown.until(lambda: not card.query_one(Submit).disabled)
        assert card.query_one("#reason", Input).value == "typed before"
        await shown.press("tab", "tab", "tab", "enter")
        await shown.sees("is recorded")
        async with Client(socket=daemon.socket) as client:
            assert await (await client.start("refund", 12, id="order-12")).result() == "refunded 12 for nothing"


async def test_with_the_daemon_down_approvals_are_shown_and_not_decidable(daemon: Daemon) -> None:
    """The inbox and the card come out of the file; the card says why it is read-only."""
    await daemon.start()
    async with Client(socket=daemon.socket) as client, dashboard(daemon) as shown:
        await client.start("refund", 991, id="order-991")
        await shown.sees("refund order 991")
        daemon.kill()
        await shown.sees("DOWN")
        await shown.press("enter")
        await shown.until(lambda: isinstance(shown.app.screen, DecisionCard))
        await shown.sees("the daemon is down", "pls \\x1b[2J [/x]")
        await shown.press("escape")
