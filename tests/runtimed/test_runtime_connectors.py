"""Connectors as the runtime tells them: the real one, with a source in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from msgspec import Raw

import runtimed
from actors.connector_spec import deliver_to
from actors.errors import ConnectorHeld, ConnectorNotFound, Draining, InvalidInput
from actors.messages import PauseConnector, QuarantineConnector, ResetConnector, ResumeConnector, TakeWebhook
from runtimed import App, Page, Poll
from runtimed.config_layers import ConfigError
from runtimed.http.connectors import preview
from runtimed.runtime import Runtime
from wal.records import ErrorData, StoredItem
from wal.views import ConnectorView

app = App("sources")
COUNT = 6


@app.connector(every=3600.0, key="id", deliver="records")
async def people(poll: Poll[int]) -> AsyncIterator[Page]:
    """Six people, read on from the cursor."""
    first = poll.cursor or 0
    yield Page(records=[{"id": n} for n in range(first, COUNT)], cursor=COUNT)


@app.webhook(verify="none", secrets=[], key="id", deliver="records")
class Hooks:
    """Deliveries of this host."""


twice = App("twice")


@twice.webhook(verify="none", deliver="workflow:sync", name="sync")
@twice.schedule(every=3600.0)
@twice.workflow
async def sync(ctx: runtimed.Context) -> None: ...


async def until(rt: Runtime, name: str, records: int) -> ConnectorView:
    """The connector once it has brought so many records."""
    with trio.fail_after(30):
        while True:
            seq = rt.feed.seq
            view = next(view for view in rt.connectors() if view.name == name)
            if view.records_total >= records:
                return view
            await rt.feed.wait_beyond(seq)


@pytest.mark.trio
@pytest.mark.slow
async def test_the_runtime_tells_connectors_and_webhooks(short_dir: Path) -> None:
    """One list of both, by name, with what the journal has counted and where each stands."""
    async with runtimed.open_runtime(app, short_dir) as rt:
        view = await until(rt, "people", COUNT)
        assert (bytes(view.cursor), view.deliver, view.kind) == (b"6", "records", "poller")
        assert view.records_15m in (0, COUNT)  # it is on disk a moment before its poller is told so
        hook = next(view for view in rt.connectors() if view.kind == "webhook")
        assert (hook.name, hook.records_total, hook.deliver) == ("Hooks", 0, "records")
        item = StoredItem("evt_1", Raw(b'{"id":"evt_1"}'))
        await rt.ask(TakeWebhook(webhook="Hooks", item=item, deliver=deliver_to("records")))
        assert (await until(rt, "Hooks", 1)).last_poll_at is not None
        assert [view.name for view in rt.connectors()] == ["Hooks", "people"]
        assert rt.statistics().connector_records_total["people"] == COUNT


@pytest.mark.trio
async def test_two_that_would_give_the_same_ids_do_not_start() -> None:
    """A schedule and a webhook of one name that both start runs: the runtime says so instead of losing deliveries."""
    with pytest.raises(ConfigError, match=r"webhooks.sync: expected a name of its own; the runs of schedules.sync"):
        async with runtimed.open_runtime(twice, writer="memory"):
            pass


@pytest.mark.trio
@pytest.mark.slow
async def test_a_quarantined_connector_is_a_warning(short_dir: Path) -> None:
    """Health names it, and stays ready: the others go on."""
    async with runtimed.open_runtime(app, short_dir) as rt:
        await until(rt, "people", COUNT)
        assert not rt.health().reasons
        await rt.ask(QuarantineConnector(name="people", error=ErrorData("KeyError", "'id'"), crashes=5))
        with trio.fail_after(30):
            while not rt.actors.connectors.quarantined():
                await trio.lowlevel.checkpoint()
        assert (rt.health().reasons, rt.health().ready) == (["connector people is quarantined"], True)


@pytest.mark.trio
@pytest.mark.slow
async def test_a_poll_that_will_not_begin_is_refused(short_dir: Path) -> None:
    """Whoever asks for a poll in the moment of a hold, or of the end, is told so, and does not wait for ever."""
    async with runtimed.open_runtime(app, short_dir) as rt:
        await until(rt, "people", COUNT)
        connectors, poller = rt.actors.connectors, rt.actors.connectors.pollers["people"]
        with trio.fail_after(30):
            for _ in range(20):  # where in its turn the poller learns of the hold is left to chance
                await poller.idle.wait()
                await rt.ask(PauseConnector(name="people"))
                with pytest.raises(ConnectorHeld):
                    await rt.poll_connector("people")
                await rt.ask(ResumeConnector(name="people"))
            await poller.idle.wait()
            poller.drain()
            with pytest.raises(Draining):
                await connectors.poll_now("people")


@pytest.mark.trio
@pytest.mark.slow
async def test_steering_is_seen_in_the_list(short_dir: Path) -> None:
    """Pause, a poll that is refused then, resume, a preview that changes nothing, a reset that reads on from there."""
    async with runtimed.open_runtime(app, short_dir) as rt:
        await until(rt, "people", COUNT)
        await rt.ask(PauseConnector(name="people", reason="why"))
        view = next(view for view in rt.connectors() if view.name == "people")
        assert (view.status, view.next_poll_at) == ("paused", None)
        with pytest.raises(ConnectorHeld):
            await rt.poll_connector("people")
        with pytest.raises(ConnectorNotFound):
            await rt.poll_connector("Hooks")
        told = preview(view, await rt.preview_reset("people", Raw(b"4")))
        assert "6 now, is set to 4" in told.would[0] and "stays paused" in told.would[1]
        with pytest.raises(InvalidInput):
            await rt.preview_reset("people", Raw(b'"x"'))
        await rt.ask(ResumeConnector(name="people"))
        before = (await until(rt, "people", COUNT)).records_total
        await rt.ask(ResetConnector(name="people", cursor=Raw(b"4")))
        view = await until(rt, "people", before + 2)
        assert (bytes(view.cursor), view.generation) == (b"6", 1)
