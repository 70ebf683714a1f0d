"""Runs are looked at and acted on in the real dashboard, in front of a real daemon."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtimed.client import Client, DaemonUnreachable
from tests.tui.driving import Driven
from tests.tui.served import Served
from tui.app import Dashboard, Options
from tui.screens.action_card import ActionCard
from tui.screens.card_base import CardBase
from tui.screens.fork_card import ForkCard
from tui.screens.run_detail import RunDetailScreen

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
US = f"uid:{os.getuid()}"


@pytest.fixture
def daemon(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(CardBase, "DEAD_SECONDS", 0.05)
    served = Served(short_dir, "run_flows:app")
    yield served
    served.close()


@asynccontextmanager
async def dashboard(daemon: Served, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Driven]:
    """The real dashboard on the runs, connected."""
    options = Options(host="here", journal=daemon.journal, area="runs")
    app = Dashboard(options, lambda: Client(socket=daemon.socket))
    async with app.run_test(size=size, notifications=True) as pilot:
        shown = Driven(app, pilot, None)  # type: ignore[arg-type]
        await shown.until(lambda: app.link_state.live)
        yield shown


async def started(daemon: Served, workflow: str, run_id: str, status: str) -> None:
    """A run, as far as it comes by itself."""
    async with Client(socket=daemon.socket) as client:
        await client.start(workflow, 7, id=run_id)
        while await client.status(run_id) != status:
            pass


async def records(daemon: Served, run_id: str) -> dict[str, dict[str, Any]]:
    """What the journal says of a run, by kind; the last of each."""
    async with Client(socket=daemon.socket) as client:
        page = await client.history(run_id, limit=500)
    return {one.kind: msgspec.json.decode(one.data) for one in page.items}


async def card(shown: Driven, key: str) -> ActionCard:
    """The card that a key opens, ready."""
    await shown.press(key)
    await shown.until(lambda: isinstance(shown.app.screen, ActionCard) and shown.app.screen.armed)
    found = shown.app.screen
    assert isinstance(found, ActionCard)
    await shown.until(lambda: len(found.histories) == len(found.runs))
    return found


async def typed(shown: Driven, text: str) -> None:
    await shown.press(*[{" ": "space"}.get(char, char) for char in text])


async def test_a_run_is_cancelled_with_a_reason_and_undone(daemon: Served) -> None:
    """The card lists the undos newest first; after Submit the daemon makes them in that order, and the record of the
    wish carries who the kernel says we are and why; the list and the run's screen follow by themselves."""
    await daemon.start()
    await started(daemon, "hold", "order-7", "waiting")
    async with dashboard(daemon) as shown:
        await shown.sees("order-7", "signal go")
        await card(shown, "c")
        await shown.sees("1  reserve", "2  lock_order")
        assert shown.text.index("1  reserve") < shown.text.index("2  lock_order")
        await shown.press("tab")
        await typed(shown, "sold out")
        await shown.press("tab", "enter")
        await shown.sees("asked to cancel order-7: journaled as record")
        await shown.press("escape")
        await shown.sees("no runs match st:live (1 exist)")
        shown.app.push_screen(RunDetailScreen("order-7"))
        await shown.sees("- CANC", "undone 2 of 2: release -> unlock_order")
    said = (await records(daemon, "order-7"))["run_cancel_requested"]
    assert said == {"by": US, "reason": "sold out", **{k: v for k, v in said.items() if k == "trace_id"}}


async def test_a_signal_ends_the_wait(daemon: Served) -> None:
    """Name and value are typed into the card; the run that waited completes with the value."""
    await daemon.start()
    await started(daemon, "hold", "order-8", "waiting")
    async with dashboard(daemon) as shown:
        await shown.sees("order-8")
        await card(shown, "n")
        await shown.sees("It waits for: go.")
        await shown.press("tab", *"go", "tab", "quotation_mark", *"now", "quotation_mark", "tab", "enter")
        await shown.sees("sent to order-8: journaled")
    async with Client(socket=daemon.socket) as client:
        assert await client.result("order-8", timeout=30.0) == "now"


async def test_a_doubt_after_kill_9_is_resolved_in_the_card(daemon: Served) -> None:
    """Killed in a step that must not be made twice, the run is in DOUBT; whoever looked outside says that it happened
    and what it returned, and the run completes with that."""
    await daemon.start()
    await started(daemon, "payout", "pay-1", "running")
    async with dashboard(daemon) as shown:
        await shown.sees("pay-1", "wire")
        daemon.kill()
        await shown.sees("DOWN")
        await daemon.start()
        await shown.sees("% DOUBT", "nobody knows whether wire (call 1) happened", "LIVE")
        await card(shown, "v")
        await shown.sees("pay-1/0/1/wire", "[[7],{}]")
        await shown.press("tab", "space", "tab", "quotation_mark", *"w1", "quotation_mark", "tab")
        await typed(shown, "the bank shows it")
        await shown.press("tab", "enter")
        await shown.sees("resolved pay-1: journaled")
    async with Client(socket=daemon.socket) as client:
        assert await client.result("pay-1", timeout=30.0) == "w1"
    said = (await records(daemon, "pay-1"))["step_resolved"]
    assert (said["by"], said["reason"], said["happened"]) == (US, "the bank shows it", True)


async def test_a_lost_answer_is_found_in_the_journal_by_its_key(daemon: Served) -> None:
    """The daemon acted and the answer was lost: the card asks the journal, finds its key, and sends nothing again."""
    await daemon.start()
    await started(daemon, "hold", "order-9", "waiting")
    async with dashboard(daemon) as shown:
        await shown.sees("order-9")
        await card(shown, "z")
        client = shown.app.link.client
        assert client is not None
        real, sent = client.link.fetch, []

        async def losing(method: str, path: str, **more: Any) -> Any:
            answer = await real(method, path, **more)
            if method == "POST":
                sent.append(path)
                raise DaemonUnreachable("the connection broke")
            return answer

        client.link.fetch = losing  # type: ignore[method-assign]
        await shown.press("tab", "tab", "enter")
        await shown.sees("it did happen: paused order-9: journaled as record")
        assert sent == ["/v1/runs/order-9/pause"]
        await shown.press("escape")
        await shown.sees("= PAUS")


async def test_a_daemon_killed_while_a_card_is_open(daemon: Served) -> None:
    """The card says why nothing can be submitted, keeps what was typed, and submits once the daemon is back."""
    await daemon.start()
    await started(daemon, "hold", "order-10", "waiting")
    async with dashboard(daemon) as shown:
        await shown.sees("order-10")
        opened = await card(shown, "c")
        await shown.press("tab")
        await typed(shown, "wrong order")
        daemon.kill()
        await shown.sees("nothing can be submitted: the daemon is down")
        await daemon.start()
        await shown.sees("nothing is sent before [Submit]")
        assert opened.text("reason") == "wrong order"
        await shown.press("tab", "tab")
        if not opened.query_one("Submit").has_focus:
            await shown.press("tab")
        await shown.press("enter")
        await shown.sees("asked to cancel order-10: journaled")


async def test_killed_in_the_request_the_file_says_what_became_of_it(daemon: Served) -> None:
    """Killed before it took the request: unknown, checking; the file has nothing of it, so nothing was changed."""
    tried = []

    await daemon.start()
    await started(daemon, "hold", "order-11", "waiting")
    async with dashboard(daemon) as shown:
        await shown.sees("order-11")
        opened = await card(shown, "c")
        await shown.press("tab")
        await typed(shown, "wrong order")
        client = shown.app.link.client
        assert client is not None

        async def killed(method: str, path: str, **more: Any) -> Any:
            if method == "POST":
                tried.append(path)
                daemon.kill()
            raise DaemonUnreachable("the connection broke")

        client.link.fetch = killed  # type: ignore[method-assign]
        await shown.press("tab", "enter")
        await shown.until(lambda: "Nothing was changed" in shown.text or ("is down" in shown.text and tried))
        assert shown.app.screen is opened and opened.outcome is None
        assert tried == ["/v1/runs/order-11/cancel"]
    await daemon.start()
    assert "run_cancel_requested" not in await records(daemon, "order-11")


async def test_a_run_is_forked_where_one_has_travelled_to(daemon: Served) -> None:
    """A run that was cancelled and undone is forked from its page, before that: the new run's page opens with what it
    took over, it waits for its own signal, and the journal says who forked it and why."""
    await daemon.start()
    await started(daemon, "hold", "order-13", "waiting")
    async with Client(socket=daemon.socket) as client:
        await client.cancel("order-13", "sold out")
        while await client.status("order-13") != "cancelled":
            pass
    async with dashboard(daemon, size=(120, 40)) as shown:
        page = RunDetailScreen("order-13")
        shown.app.push_screen(page)
        await shown.sees("- CANC", "release -> unlock_order")
        await shown.press("B")
        await shown.sees("NOT HERE   by record", "it was over or being undone (run_cancel_requested")
        await shown.until(lambda: isinstance(shown.app.screen, ForkCard) and shown.app.screen.armed)
        await shown.press("escape")
        waited = next(one.seq for one in page.history.records if one.kind == "run_waiting")
        while page.seq != waited:
            await shown.press("comma")
        await shown.press("B")
        await shown.sees("2 steps as done: lock_order, reserve", "order-13 has undone lock_order, reserve since")
        await shown.sees("as its own: signal go")
        await shown.until(lambda: isinstance(shown.app.screen, ForkCard) and shown.app.screen.armed)
        await shown.press("tab", *"again", "tab")
        await typed(shown, "it is there")
        await shown.press("tab", "enter")
        await shown.sees(f"again is a fork of order-13 at record {waited}: journaled as record")
        await shown.press("escape")
        await shown.sees(f"fork of order-13 at {waited}", "runs in this order): reserve -> lock_order", "a signal: go")
    said = (await records(daemon, "again"))["run_forked"]
    assert (said["from_id"], said["from_seq"], said["by"], said["reason"]) == ("order-13", waited, US, "it is there")
    async with Client(socket=daemon.socket) as client:
        await client.signal("again", "go", "now")
        assert await client.result("again", timeout=10.0) == "now"


async def test_the_runs_are_read_from_the_file(daemon: Served) -> None:
    """With the daemon down the list, the run and its past stand as before, read-only."""
    await daemon.start()
    await started(daemon, "hold", "order-12", "waiting")
    async with dashboard(daemon, size=(120, 40)) as shown:
        await shown.sees("order-12")
        daemon.kill()
        await shown.sees("DOWN")
        await shown.press("enter")
        await shown.sees("lock_order", "undo armed (runs in this order): reserve -> lock_order")
        await shown.press("comma")
        await shown.sees("AS OF")
