"""What a connector promises: its records once, its cursor with them, and each kind of bad luck its own status."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from actors import connector_core as core
from actors import messages as m
from actors.connector_spec import Page, Poll
from actors.errors import (
    ActorRestarted,
    ConnectorHeld,
    ConnectorNotFound,
    InvalidInput,
    MailboxFull,
    SecretMissing,
    SourceError,
)
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.sources import Source, declare, of_kind, page, stored, until, view
from wal import records as r

BY = m.Origin(by="kim")


@asynccontextmanager
async def opened(app: App, **options: Any) -> AsyncIterator[VirtualRuntime]:
    """A runtime on virtual time with this app."""
    async with trio.open_nursery() as nursery:
        runtime = VirtualRuntime(nursery, [app], **options)
        await runtime.open()
        yield runtime
        await runtime.stop()


async def greet(ctx: Context, person: dict[str, Any]) -> Any:
    return person["id"]


async def wait(ctx: Context) -> Any:
    return [(await ctx.signal("news", type=dict[str, Any]))["id"] for _ in range(2)]


@pytest.fixture
def app() -> App:
    made = App("outside")
    made.workflow(greet)
    made.workflow(wait)
    return made


pytestmark = pytest.mark.usefixtures("virtual_clock")


async def test_records_and_cursor_are_one_commit(app: App) -> None:
    """A page is stored by key, its cursor moves with it, and the next poll begins from there."""
    source = Source([page(1, 2, cursor=2), page(3, cursor=3)], [page(3, 4, cursor=4)])
    declare(app, "people", source, cursor_type=int, every=10.0)
    async with opened(app) as runtime:
        await until(lambda: len(source.polls) == 3)
        assert source.polls[:3] == [None, 3, 4]
        assert await stored(runtime, "people") == {str(id): {"id": id} for id in (1, 2, 3, 4)}
        advanced = of_kind(runtime, r.CursorAdvanced)
        assert [(bytes(each.cursor), each.records) for each in advanced] == [(b"2", 2), (b"3", 1), (b"4", 2)]
        shown = view(runtime, "people")
        assert (shown.status, bytes(shown.cursor), shown.records_total, shown.errors_total) == ("ok", b"4", 5, 0)
        assert shown.lag is not None


async def test_a_source_goes_on_when_its_page_is_on_disk(app: App) -> None:
    """What stands behind a `yield` runs when that page is durable, and not before."""
    seen: list[tuple[int, int]] = []

    async def source(poll: Poll[int]) -> AsyncIterator[Page]:
        if poll.cursor is None:
            for number in (1, 2, 3):
                yield page(number, cursor=number)
                seen.append((number, max(0, *(int(each.cursor) for each in of_kind(RUNTIME[0], r.CursorAdvanced)), 0)))

    declare(app, "people", source, cursor_type=int)
    RUNTIME: list[VirtualRuntime] = []
    async with opened(app) as runtime:
        RUNTIME.append(runtime)
        await until(lambda: len(seen) == 3)
    assert seen == [(1, 1), (2, 2), (3, 3)]


async def test_a_source_may_run_one_page_ahead(app: App) -> None:
    """A source that goes `ahead` makes its next page while one is on its way, waits with that, and loses nothing if it
    fails meanwhile."""
    taken_when_made: list[tuple[int, int]] = []

    async def source(poll: Poll[int]) -> AsyncIterator[Page]:
        for number in range((poll.cursor or 0) + 1, 4):
            taken_when_made.append((number, len(of_kind(RUNTIME[0], r.CursorAdvanced))))
            yield page(number, cursor=number)
        if poll.cursor is None:
            raise SourceError("gone")

    declare(app, "people", source, cursor_type=int, ahead=True)
    RUNTIME: list[VirtualRuntime] = []
    async with opened(app) as runtime:
        RUNTIME.append(runtime)
        await until(lambda: view(runtime, "people").errors_total == 1)
        assert list(await stored(runtime, "people")) == ["1", "2", "3"]
        assert bytes(view(runtime, "people").cursor) == b"3"
    assert [number - taken for number, taken in taken_when_made] == [1, 2, 2]


async def test_each_key_starts_one_run(app: App) -> None:
    """A record starts a run under the connector's name and its key; told again, also in one page, it starts none."""
    source = Source([page("a", "b", "a", cursor=1)], [page("b", "c", cursor=2)])
    declare(app, "people", source, app.workflows["greet"], every=5.0)
    async with opened(app) as runtime:
        await until(lambda: len(source.polls) == 3)
        assert await runtime.result("people:a") == "a"
        page_of_runs = await runtime.runs()
        assert sorted(run.id for run in page_of_runs.items) == ["people:a", "people:b", "people:c"]
        counts = [(each.records, each.repeated, each.keys) for each in of_kind(runtime, r.CursorAdvanced)]
        assert counts == [(3, 1, ["a", "b"]), (2, 1, ["c"])]


async def test_a_key_that_is_no_id_starts_one_run_under_its_digest(app: App) -> None:
    """A key with characters that an id does not take has an id all the same, always the same one."""
    source = Source([page("jürgen@example.org", cursor=1)], [page("jürgen@example.org", cursor=2)])
    declare(app, "people", source, app.workflows["greet"], every=5.0)
    async with opened(app) as runtime:
        await until(lambda: len(source.polls) == 3)
        (started,) = of_kind(runtime, r.RunStarted)
        name, _, digest = started.id.partition(":")
        assert (name, len(digest)) == ("people", 32)
        assert await runtime.result(started.id) == "jürgen@example.org"


async def test_a_record_signals_the_run_that_it_names(app: App) -> None:
    """A record goes as a signal to the run in its field; repeated it signals nothing; without that run it is set
    aside, and the source goes on."""
    news = [{"id": number, "about": {"run": run}} for number, run in ((1, "w"), (2, "w"), (1, "w"), (3, "nobody"))]
    source = Source([Page(records=news, cursor=1)])
    declare(app, "news", source, "signal:news", run_id_from="about.run")
    async with opened(app) as runtime:
        await runtime.start("wait", id="w")
        assert await runtime.result("w") == [1, 2]
        (advanced,) = of_kind(runtime, r.CursorAdvanced)
        assert (advanced.records, advanced.keys, advanced.repeated, advanced.refused) == (4, ["1", "2"], 1, 1)
        (refused,) = of_kind(runtime, r.DeliveryRefused)
        assert (refused.key, refused.code) == ("3", "run_not_found")
        assert msgspec.json.decode(refused.data) == news[3]


async def test_bad_records_are_set_aside_and_the_page_goes_on(app: App) -> None:
    """No key, no JSON, a key of another kind, not what the workflow takes, too large: each is kept with its reason,
    and stops nothing."""
    records = [{"id": 1}, {"name": "x"}, {"id": object()}, {"id": [1]}, "text", {"id": 2, "x": "y" * 5_000}, {"id": 3}]
    source = Source([Page(records=records, cursor=7)])
    declare(app, "people", source, app.workflows["greet"])
    async with opened(app, settings=Settings(limits=Limits(payload_max_bytes=4_096))) as runtime:
        await until(lambda: bytes(view(runtime, "people").cursor) == b"7")
        refused = of_kind(runtime, r.DeliveryRefused)
        codes = [each.code for each in refused]
        assert sorted(codes) == ["no_key", "no_key", "no_key", "not_json", "payload_too_large"]
        assert "there is no 'id' in it" in refused[[each.code for each in refused].index("no_key")].message
        (advanced,) = of_kind(runtime, r.CursorAdvanced)
        assert (advanced.keys, advanced.refused) == (["1", "3"], 5)
        assert view(runtime, "people").refused_total == 5


@pytest.mark.parametrize("count", [2, 700])
async def test_a_source_that_tells_the_same_at_each_poll_makes_no_records(app: App, count: int) -> None:
    """Read inclusively from its cursor, a source repeats its last records, or all it has, if it can only be read whole;
    that costs no commit and is not busy."""
    again = [page(*range(count), cursor=count)]
    source = Source(*[list(again) for _ in range(10)])
    declare(app, "people", source, cursor_type=int, every=10.0)
    async with opened(app) as runtime:
        await until(lambda: len(source.polls) == 10)
        assert len(of_kind(runtime, r.RecordsStored)) == len(of_kind(runtime, r.CursorAdvanced)) == 1
        gaps = [later - before for before, later in pairwise(source.at[2:])]
        assert all(8.9 <= gap <= 11.1 for gap in gaps)


async def test_an_open_cursor_stays_where_it_is(app: App) -> None:
    """A page without a cursor leaves it, because its last value may still get records; and what comes late or in any
    order is stored by its key."""
    source = Source([page(3, 1), page(2, cursor=10), page(5, 4)], [page(1, 9, 0)])
    declare(app, "people", source, cursor_type=int)
    async with opened(app) as runtime:
        await until(lambda: len(source.polls) == 3)
        assert source.polls == [None, 10, 10]
        assert sorted(await stored(runtime, "people")) == ["0", "1", "2", "3", "4", "5", "9"]


@pytest.mark.parametrize(
    ("forth", "back"),
    [
        (20, 10),
        (1.5, 1.0),
        (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
        (5, float("nan")),
    ],
)
async def test_a_cursor_that_goes_back_is_not_taken(app: App, forth: Any, back: Any) -> None:
    """A page whose cursor lies before the one that was taken is garbled: nothing of it is taken, and people see why."""
    source = Source([page(1, cursor=forth), page(2, cursor=back)])
    declare(app, "people", source, cursor_type=type(forth) if isinstance(forth, datetime) else float)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").status == "backoff")
        assert sorted(await stored(runtime, "people")) == ["1"]
        assert "cursor" in (view(runtime, "people").last_error or "")


async def test_long_pages_are_taken_in_pieces_and_the_cursor_moves_last(app: App) -> None:
    """A page of more records or bytes than one commit takes comes in several; its cursor is in the last."""
    source = Source([page(*range(2_500), cursor=1)])
    declare(app, "people", source, cursor_type=int)
    async with opened(app) as runtime:
        await until(lambda: bytes(view(runtime, "people").cursor) == b"1")
        advanced = [(each.records, bytes(each.cursor)) for each in of_kind(runtime, r.CursorAdvanced)]
        assert advanced == [(1_000, b"null"), (1_000, b"null"), (500, b"1")]
        assert len(await stored(runtime, "people")) == 2_500


async def test_a_page_of_runs_comes_in_smaller_pieces(app: App) -> None:
    """What starts runs takes the coordinator longer, and so comes in pieces that leave others their turn."""
    source = Source([page(*range(450), cursor=1)])
    declare(app, "people", source, app.workflows["greet"], cursor_type=int)
    async with opened(app) as runtime:
        await until(lambda: bytes(view(runtime, "people").cursor) == b"1")
        advanced = [(len(each.keys), bytes(each.cursor)) for each in of_kind(runtime, r.CursorAdvanced)]
        assert advanced == [(200, b"null"), (200, b"null"), (50, b"1")]


async def test_a_page_under_the_bytes_of_a_commit(app: App) -> None:
    """A piece of a page is at most half of what a batch may hold."""
    rows = [{"id": number, "text": "x" * 400} for number in range(40)]
    source = Source([Page(records=rows, cursor=1)])
    declare(app, "people", source, cursor_type=int)
    async with opened(app, settings=Settings(limits=Limits(batch_bytes_max=8_192))) as runtime:
        await until(lambda: bytes(view(runtime, "people").cursor) == b"1")
        sizes = [sum(len(item.data) for item in each.items) for each in of_kind(runtime, r.RecordsStored)]
        assert len(sizes) > 4
        assert max(sizes) <= 4_096


async def test_deleted_keys_stay_as_deleted(app: App) -> None:
    """What the source says is gone is marked so in the store, and comes back if it tells of it again."""
    source = Source([page(1, 2, cursor=1)], [page(cursor=2, deleted=["1"])], [page(1, cursor=3)])
    declare(app, "people", source, every=5.0)
    async with opened(app) as runtime:
        await until(lambda: bytes(view(runtime, "people").cursor) == b"2")
        assert (await stored(runtime, "people"))["1"] is None
        await until(lambda: bytes(view(runtime, "people").cursor) == b"3")
        assert (await stored(runtime, "people"))["1"] == {"id": 1}


# --- schedule -------------------------------------------------------------------------------------------------------


async def test_more_means_at_once(app: App) -> None:
    """A poll that ends with more to come is followed by the next one at once; one that says so and brings nothing is
    not believed."""
    source = Source([page(1, cursor=1, more=True)], [page(2, cursor=2, more=True)], [page(more=True)], [])
    declare(app, "people", source, every=100.0)
    async with opened(app):
        await until(lambda: len(source.polls) == 3)
        assert source.at[2] - source.at[0] < 0.01
        await until(lambda: len(source.polls) == 4)
        assert source.at[3] - source.at[2] >= 90.0


async def test_a_busy_source_is_asked_more_often(app: App) -> None:
    """Polls that bring something halve the interval down to an eighth; one that brings nothing restores it."""
    source = Source(*[[page(number, cursor=number)] for number in range(1, 7)], [], [])
    declare(app, "people", source, every=80.0)
    async with opened(app):
        await until(lambda: len(source.polls) == 8)
    gaps = [round(later - before) for before, later in pairwise(source.at)]
    for gap, expected in zip(gaps, (40, 20, 10, 10, 10, 10, 80), strict=True):
        assert abs(gap - expected) <= expected * 0.11 + 1


async def test_between_polls_nothing_happens(app: App) -> None:
    """A poller at rest is one sleep: no task runs, nothing is written, until it is due."""
    source = Source()
    declare(app, "people", source, every=1_000.0)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").status == "ok" and len(source.polls) == 1)
        steps: list[str] = []

        class Steps(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                steps.append(task.name)

        before = len(runtime.disk.entries)
        instrument = Steps()
        trio.lowlevel.add_instrument(instrument)
        await trio.sleep(800.0)
        trio.lowlevel.remove_instrument(instrument)
        assert [name for name in steps if name.startswith("root/connectors")] == []
        assert len(runtime.disk.entries) == before


# --- bad luck ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [SourceError("it is down"), OSError("no route"), TimeoutError(), SecretMissing("no secret 'x'")]
)
async def test_a_failing_source_backs_off_and_then_the_breaker_opens(app: App, error: Exception) -> None:
    """Failures wait 1, 2, 4, 8 seconds; the fifth in a row opens the breaker for a minute, then one probe; a poll that
    ends well closes it."""
    source = Source(*[[error]] * 6, [page(1, cursor=1)])
    declare(app, "people", source, every=30.0)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").status == "backoff")
        assert view(runtime, "people").last_error
        await until(lambda: view(runtime, "people").status == "open_breaker")
        assert (view(runtime, "people").failures, len(source.polls)) == (5, 5)
        await until(lambda: view(runtime, "people").status == "ok")
        shown = view(runtime, "people")
        assert (shown.failures, shown.errors_total, shown.last_error, shown.records_total) == (0, 6, None, 1)
    gaps = [later - before for before, later in pairwise(source.at)]
    for gap, expected in zip(gaps, (1, 2, 4, 8, 60, 120), strict=True):
        assert abs(gap - expected) <= expected * 0.11 + 0.05


async def test_retry_after_is_obeyed(app: App) -> None:
    """A source that says when to come back is not asked before that."""
    source = Source([SourceError("slow down", retry_after_s=500.0)])
    declare(app, "people", source, every=1.0)
    async with opened(app):
        await until(lambda: len(source.polls) == 2)
    assert 500.0 <= source.at[1] - source.at[0] <= 556.0


async def test_crashes_quarantine_a_connector_and_no_sibling(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """The fifth crash of a connector's code in a row quarantines it, as a record; its siblings poll on; once a person
    resumes it, it begins anew."""
    caplog.set_level(logging.CRITICAL, logger="runtimed.connectors")
    broken = Source(*[[page(number, cursor=number), KeyError("a typo")] for number in range(1, 6)], [page(9, cursor=9)])
    sound = Source()
    declare(app, "broken", broken)
    declare(app, "sound", sound, every=2.0)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "broken").status == "quarantined")
        (record,) = of_kind(runtime, r.ConnectorQuarantined)
        assert (record.crashes, record.error.type) == (5, "KeyError")
        assert "a typo" in (view(runtime, "broken").last_error or "")
        polls = len(sound.polls)
        await trio.sleep(100.0)
        assert (len(broken.polls), len(sound.polls) > polls + 40) == (5, True)
        with pytest.raises(ConnectorHeld):
            await runtime.poll_connector("broken")
        await runtime.ask(m.ResumeConnector(name="broken", reason="mended", origin=BY))
        await until(lambda: bytes(view(runtime, "broken").cursor) == b"9")
        assert view(runtime, "broken").status == "ok"
        assert view(runtime, "broken").last_error is None
        assert [actor.restarts for actor in runtime.tree() if "connectors/" in actor.path] == [0, 0]


async def test_a_quarantine_outlives_a_restart(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """A quarantined connector stays so over a crash of the daemon: it is a fact of the journal."""
    caplog.set_level(logging.CRITICAL, logger="runtimed.connectors")
    source = Source(*[[KeyError("a typo")]] * 5)
    declare(app, "people", source)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").status == "quarantined")
        await runtime.crash()
        await trio.sleep(1_000.0)
        assert (view(runtime, "people").status, len(source.polls)) == ("quarantined", 5)


async def test_a_source_that_hangs_is_broken_off(app: App) -> None:
    """A source that brings no page within its timeout is ended and counts as failed."""
    source = Source([page(1, cursor=1), trio.Event()])
    declare(app, "people", source, timeout=20.0)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").status == "backoff")
        assert view(runtime, "people").last_error == "no page came within 20 s"
        assert source.ended == ["broken off"]
        assert bytes(view(runtime, "people").cursor) == b"1"


async def test_a_source_may_hold_a_nursery_open_over_its_yield(app: App) -> None:
    """Scopes and tasks of a source reach neither the poller nor the next page, and end with it."""
    ends: list[str] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ends.append("worker")

    async def source(poll: Poll[int]) -> AsyncIterator[Page]:
        with trio.move_on_after(1_000.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                yield page(1, cursor=1)
                yield page(2, cursor=2) if poll.cursor is None else page(1, cursor=0)
                nursery.cancel_scope.cancel()

    declare(app, "people", source, cursor_type=int, every=5.0)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").status == "backoff")
        assert "goes back" in (view(runtime, "people").last_error or "")
        assert view(runtime, "people").errors_total == 1
    assert ends[:2] == ["worker", "worker"]


async def test_what_is_no_page_is_a_crash(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """Code that yields something else, or a cursor of another type, is told so by name."""
    caplog.set_level(logging.CRITICAL, logger="runtimed.connectors")

    async def source(poll: Poll[int]) -> AsyncIterator[Any]:
        yield page(1, cursor="ten") if poll.cursor is None and len(told) else {"id": 1}

    told: list[str] = []
    declare(app, "people", source, cursor_type=int)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").failures == 1)
        told.append(view(runtime, "people").last_error or "")
        await until(lambda: view(runtime, "people").failures == 2)
        told.append(view(runtime, "people").last_error or "")
    assert "yields a dict" in told[0]
    assert "does not fit" in told[1]


async def test_a_cursor_of_another_time_is_a_crash_that_says_what_to_do(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """A cursor that the code of today cannot read is told, with the way out; a reset mends it."""
    caplog.set_level(logging.CRITICAL, logger="runtimed.connectors")
    declare(app, "people", Source([page(1, cursor="2026-01-01")]), cursor_type=str)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").records_total == 1)
        app.connectors["people"] = msgspec.structs.replace(
            app.connectors["people"], cursor_type=int, source=(source := Source([page(2, cursor=7)]))
        )
        await runtime.restart(apps=[app])
        await until(lambda: view(runtime, "people").status == "quarantined")
        assert "2026-01-01" in (view(runtime, "people").last_error or "")
        await runtime.ask(m.ResetConnector(name="people", cursor=msgspec.Raw(b"5"), origin=BY))
        await runtime.ask(m.ResumeConnector(name="people", origin=BY))
        await until(lambda: bytes(view(runtime, "people").cursor) == b"7")
        assert source.polls[0] == 5


# --- people -----------------------------------------------------------------------------------------------------------


async def test_paused_it_does_not_poll_and_resumed_it_goes_on(app: App) -> None:
    """A paused connector takes nothing, not even the page that is on its way; resumed it reads on from its cursor."""
    gate = trio.Event()
    source = Source([page(1, cursor=1), gate, page(2, cursor=2)], [page(2, cursor=2)])
    declare(app, "people", source, cursor_type=int)
    async with opened(app) as runtime:
        await until(lambda: bytes(view(runtime, "people").cursor) == b"1")
        accepted = await runtime.ask(m.PauseConnector(name="people", reason="they asked", origin=BY))
        assert (accepted.id, view(runtime, "people").status) == ("people", "paused")
        gate.set()
        await trio.sleep(1_000.0)
        assert (len(source.polls), bytes(view(runtime, "people").cursor)) == (1, b"1")
        assert view(runtime, "people").next_poll_at is None
        await runtime.ask(m.ResumeConnector(name="people", origin=BY))
        await until(lambda: bytes(view(runtime, "people").cursor) == b"2")
        assert source.polls[1] == 1
        (paused,) = of_kind(runtime, r.ConnectorPaused)
        assert (paused.by, paused.reason) == ("kim", "they asked")


async def test_a_poll_now_comes_at_once(app: App) -> None:
    """`poll` does not wait for the interval, nor for the breaker."""
    source = Source([], [], *[[SourceError("down")]] * 5, [page(1, cursor=1)])
    declare(app, "people", source, every=1_000.0)
    async with opened(app) as runtime:
        await until(lambda: len(source.polls) == 1)
        before = trio.current_time()
        assert (await runtime.poll_connector("people")).status == "polling"
        await until(lambda: len(source.polls) == 2)
        assert trio.current_time() - before < 1.0
        await until(lambda: view(runtime, "people").status == "open_breaker")
        await runtime.poll_connector("people")
        await until(lambda: view(runtime, "people").status == "ok")
        with pytest.raises(ConnectorNotFound):
            await runtime.poll_connector("nobody")


async def test_a_poll_that_is_to_be_broken_off_is_no_answer(app: App) -> None:
    """Asked for after a hold or a reset was acknowledged, a poll is one that begins after it, or is refused; one that
    is still under way from before does not count."""
    gates = [trio.Event(), trio.Event()]
    source = Source([gates[0], page(1, cursor=1)], [gates[1], page(2, cursor=2)], [page(3, cursor=3)])
    declare(app, "people", source, cursor_type=int, every=1_000.0)
    async with opened(app) as runtime:
        await until(lambda: len(source.polls) == 1)
        await runtime.ask(m.PauseConnector(name="people", origin=BY))
        with pytest.raises(ConnectorHeld):
            await runtime.poll_connector("people")
        await runtime.ask(m.ResumeConnector(name="people", origin=BY))
        await until(lambda: len(source.polls) == 2)
        await runtime.ask(m.ResetConnector(name="people", cursor=msgspec.Raw(b"0"), origin=BY))
        asked = trio.current_time()
        await runtime.poll_connector("people")
        await until(lambda: bytes(view(runtime, "people").cursor) == b"3")
        assert source.polls == [None, None, 0]
        assert trio.current_time() - asked < 10.0


async def test_a_reset_reads_anew_and_keys_are_recognised(app: App) -> None:
    """A reset begins from the given cursor at once; what was read before it is not taken; known keys start nothing."""
    gate = trio.Event()
    source = Source([page(1, 2, cursor=2)], [gate, page(3, cursor=3)], [page(1, 2, 3, cursor=3)])
    declare(app, "people", source, app.workflows["greet"], cursor_type=int, every=10.0)
    async with opened(app) as runtime:
        await until(lambda: len(source.polls) == 2)
        seen = await runtime.preview_reset("people", None)
        assert (bytes(seen.cursor), bytes(seen.new_cursor), seen.records_total, seen.keys_known) == (
            b"2",
            b"null",
            2,
            2,
        )
        await runtime.ask(m.ResetConnector(name="people", origin=BY))
        gate.set()
        await until(lambda: bytes(view(runtime, "people").cursor) == b"3")
        assert source.polls == [None, 2, None]
        assert (len((await runtime.runs()).items), view(runtime, "people").generation) == (3, 1)
        with pytest.raises(InvalidInput):
            await runtime.preview_reset("people", "no number")
        with pytest.raises(InvalidInput):
            await runtime.ask(m.ResetConnector(name="people", cursor=msgspec.Raw(b'"x"'), origin=BY))


# --- backpressure, crashes, drain -------------------------------------------------------------------------------------


async def test_a_full_mailbox_stops_the_poll_and_drops_nothing(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the coordinator takes nothing in, the page waits and so does the source; then it is taken, once."""
    source = Source([page(1, cursor=1), page(2, cursor=2)])
    declare(app, "people", source, cursor_type=int)
    async with opened(app) as runtime:
        poller = runtime.actors.connectors.pollers["people"]
        real, refused = poller._tools.ask, []

        async def full(command: Any) -> Any:
            if isinstance(command, m.TakePage) and len(refused) < 20:
                refused.append(command)
                raise MailboxFull("the mailbox of coordinator is full")
            return await real(command)

        poller._tools = msgspec.structs.replace(poller._tools, ask=full)
        await until(lambda: len(refused) == 20)
        assert len(source.went_on) == 0
        assert view(runtime, "people").status == "polling"
        await until(lambda: bytes(view(runtime, "people").cursor) == b"2")
        assert sorted(await stored(runtime, "people")) == ["1", "2"]
        assert (len(source.polls), view(runtime, "people").errors_total) == (1, 0)


async def test_a_full_disk_stops_the_poll_and_drops_nothing(app: App) -> None:
    """While the disk has no room nothing is offered; when it has, the poll goes on with the same page."""
    source = Source([page(1, cursor=1)])
    declare(app, "people", source, cursor_type=int)
    async with opened(app) as runtime:
        runtime.actors.has_room = lambda: False
        await trio.sleep(100.0)
        assert (len(source.polls), view(runtime, "people").records_total) == (1, 0)
        runtime.actors.has_room = lambda: True
        await until(lambda: view(runtime, "people").records_total == 1)
        assert len(source.polls) == 1


async def test_a_coordinator_that_restarts_in_the_middle_loses_and_doubles_nothing(app: App) -> None:
    """Nobody answers the page at hand: the next poll begins from the journal, whether it was taken or not."""
    source = Source([page(1, cursor=1), page(2, cursor=2)], [page(2, cursor=2), page(3, cursor=3)])
    declare(app, "people", source, app.workflows["greet"], cursor_type=int)
    async with opened(app) as runtime:
        poller = runtime.actors.connectors.pollers["people"]
        real, lost = poller._tools.ask, []

        async def losing(command: Any) -> Any:
            reply = await real(command)
            if isinstance(command, m.TakePage) and bytes(command.cursor or b"") == b"2" and not lost:
                lost.append(command)
                raise ActorRestarted("coordinator ended before it answered")
            return reply

        poller._tools = msgspec.structs.replace(poller._tools, ask=losing)
        await until(lambda: bytes(view(runtime, "people").cursor) == b"3")
        assert source.polls == [None, 2]
        assert len(of_kind(runtime, r.RunStarted)) == 3
        assert view(runtime, "people").errors_total == 0


async def test_kill_9_loses_and_doubles_nothing(app: App) -> None:
    """Killed at any moment of a sync, each record is there once at the end, and each key has one run."""
    total = 200

    async def source(poll: Poll[int]) -> AsyncIterator[Page]:
        first = poll.cursor or 0
        for number in range(first, total, 10):
            await trio.sleep(0.1)
            yield page(*range(number, number + 10), cursor=number + 10, more=number + 10 < total)

    declare(app, "rows", source, cursor_type=int)
    declare(app, "runs", source, app.workflows["greet"], cursor_type=int)
    async with opened(app) as runtime:
        for number in range(12):
            await trio.sleep(0.17 + 0.031 * number)
            await runtime.crash()
        await until(lambda: all(bytes(each.cursor) == b"200" for each in runtime.connectors()))
        assert len(await stored(runtime, "rows")) == total
        started = [record.id for record in of_kind(runtime, r.RunStarted)]
        assert (len(started), len(set(started))) == (total, total)


async def test_a_drain_stops_polls_first(app: App) -> None:
    """A runtime that stops breaks polls off and begins no more; its sources are closed in good order."""
    source = Source([page(1, cursor=1), trio.Event()])
    declare(app, "people", source, cursor_type=int)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").records_total == 1)
        await runtime.drain(1.0)
        assert source.ended == ["broken off"]
        await trio.sleep(1_000.0)
        assert len(source.polls) == 1


async def test_the_secret_and_the_log_of_a_poll(app: App) -> None:
    """A poll knows its connector; a secret that is not there is a failure that heals, and no crash."""
    names: list[str] = []

    async def source(poll: Poll[int]) -> AsyncIterator[Page]:
        names.append(poll.name)
        assert poll.secret is not None
        poll.secret("secret:stripe")
        yield page(1)

    declare(app, "people", source)
    async with opened(app) as runtime:
        await until(lambda: view(runtime, "people").status == "open_breaker")
        assert "stripe" in (view(runtime, "people").last_error or "")
    assert set(names) == {"people"}
    assert len(names) == core.FAILURES_MAX
