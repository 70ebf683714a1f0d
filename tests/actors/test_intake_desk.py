"""What the coordinator does with a page, a delivery, a hold: all of it or nothing, once, and said why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw

from actors import messages as m
from actors.connector_spec import Deliver
from actors.errors import (
    Conflict,
    ConnectorHeld,
    ConnectorNotFound,
    Draining,
    InvalidId,
    InvalidInput,
    Overloaded,
    PayloadTooLarge,
)
from actors.flow.context import Context
from actors.flow.definitions import App
from actors.run_starts import RunStarts
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.sources import of_kind, stored
from wal import records as r

BY = m.Origin(by="kim")
STORE, GREET = Deliver(), Deliver("workflow", "greet")
pytestmark = pytest.mark.usefixtures("virtual_clock")


class Person(msgspec.Struct):
    n: int


async def greet(ctx: Context, person: Person) -> int:
    return person.n


class Row(msgspec.Struct):
    missing: int


async def news(ctx: Context) -> Any:
    return await ctx.signal("go", type=dict[str, Any])


@pytest.fixture
async def runtime(virtual_clock: Any) -> AsyncIterator[VirtualRuntime]:
    """A runtime with two workflows and no connector of its own: pages come from the tests."""
    app = App("desk")
    app.workflow(greet)
    app.workflow(signals={"go": dict[str, Any], "typed": Row})(news)
    async with trio.open_nursery() as nursery:
        made = VirtualRuntime(nursery, [app], settings=Settings(limits=Limits(payload_max_bytes=1_024)))
        await made.open()
        yield made
        await made.stop()


def items(*keys: str, n: str = "1") -> list[r.StoredItem]:
    return [r.StoredItem(key, Raw(f'{{"n":{n},"run":"w"}}'.encode())) for key in keys]


def page(*keys: str, cursor: str | None = "1", deliver: Deliver = STORE, **fields: Any) -> m.TakePage:
    given = {"connector": "c", "generation": 0, "items": items(*keys)} | fields
    return m.TakePage(deliver=deliver, cursor=None if cursor is None else Raw(cursor.encode()), **given)


async def test_a_page_is_one_batch(runtime: VirtualRuntime) -> None:
    """Runs, what was set aside and the cursor are in one commit, with the cursor behind all that it stands for."""
    batches: list[list[r.Entry]] = []
    commit = runtime.disk.commit

    async def watched(entries: list[r.Entry]) -> None:
        batches.append(entries)
        await commit(entries)

    runtime.disk.commit = watched  # type: ignore[method-assign]
    bad = r.StoredItem("bad", Raw(b'"text"'))
    taken = await runtime.ask(page(deliver=GREET, items=[*items("a"), bad, *items("b")]))
    (batch,) = [entries for entries in batches if any(isinstance(e.record, r.CursorAdvanced) for e in entries)]
    kinds = [entry.record.kind for entry in batch]
    assert kinds[:4] == ["run_started", "run_started", "delivery_refused", "cursor_advanced"]
    assert (taken.records, taken.repeated, taken.refused) == (3, 0, 1)


async def test_pages_of_one_connector_may_overlap_before_they_are_durable(runtime: VirtualRuntime) -> None:
    """A key that is recorded and not yet on disk is known all the same: two pages at once start one run."""
    replies: list[m.PageTaken] = []

    async def take(cursor: str) -> None:
        replies.append(await runtime.ask(page("a", "b", deliver=GREET, cursor=cursor)))

    async with trio.open_nursery() as nursery:
        for cursor in ("1", "2", "3"):
            nursery.start_soon(take, cursor)
    assert len(of_kind(runtime, r.RunStarted)) == 2
    assert sorted(reply.repeated for reply in replies) == [0, 2, 2]


async def test_a_page_of_a_held_connector_leaves_nothing(runtime: VirtualRuntime) -> None:
    """Paused, quarantined or reset meanwhile: refused whole, at once, also before that is on disk."""
    await runtime.ask(page("a"))
    runtime.actors.coordinator.mailbox.tell(m.PauseConnector(name="c", origin=BY))  # the page comes right behind it
    with pytest.raises(ConnectorHeld, match="paused"):
        await runtime.ask(page("b", cursor="2"))
    await runtime.ask(m.ResumeConnector(name="c", origin=BY))
    await runtime.ask(m.ResetConnector(name="c", cursor=Raw(b"0"), origin=BY))
    with pytest.raises(ConnectorHeld, match="reset"):
        await runtime.ask(page("b", cursor="2"))
    await runtime.ask(page("b", cursor="2", generation=1))
    await runtime.ask(m.QuarantineConnector(name="c", error=r.ErrorData("KeyError", "x"), crashes=5))
    with pytest.raises(ConnectorHeld, match="quarantined"):
        await runtime.ask(page("d", cursor="3", generation=1))
    assert sorted(await stored(runtime, "c")) == ["a", "b"]


async def test_holds_say_who_and_why_and_what_cannot_be_is_refused(runtime: VirtualRuntime) -> None:
    """Who, and why, is on the record; a resume of what runs, and a name that nobody knows, are refused."""
    for command in (m.PauseConnector, m.ResumeConnector, m.ResetConnector):
        with pytest.raises(ConnectorNotFound):
            await runtime.ask(command(name="c", origin=BY))
    await runtime.ask(page("a"))
    with pytest.raises(Conflict):
        await runtime.ask(m.ResumeConnector(name="c", origin=BY))
    await runtime.ask(m.PauseConnector(name="c", reason="lunch", origin=BY))
    await runtime.ask(m.QuarantineConnector(name="c", error=r.ErrorData("KeyError", "x"), crashes=5))
    assert of_kind(runtime, r.ConnectorQuarantined) == []  # a person had held it already
    (paused,) = of_kind(runtime, r.ConnectorPaused)
    assert (paused.by, paused.reason) == ("kim", "lunch")
    with pytest.raises(InvalidId):
        await runtime.ask(page("a", connector="no name"))


async def test_an_overloaded_disk_takes_no_page(runtime: VirtualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """While too much waits for the disk, and in a drain, a page is refused whole."""
    with monkeypatch.context() as patch:
        patch.setattr(type(runtime.actors.writer), "crowded", True)
        with pytest.raises(Overloaded):
            await runtime.ask(page("a"))
        with pytest.raises(Overloaded):
            await runtime.ask(m.TakeWebhook(webhook="w", item=items("a")[0], deliver=Deliver()))
    runtime.actors.coordinator.engine.draining = True
    with pytest.raises(Draining):
        await runtime.ask(page("a"))
    runtime.actors.coordinator.engine.draining = False
    assert of_kind(runtime, r.RecordsStored) == []


async def test_runs_that_wait_to_begin_hold_back_the_next_page(
    runtime: VirtualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connector starts no more runs than have room while as many wait already; records are taken all the same."""
    with monkeypatch.context() as patch:
        patch.setattr(RunStarts, "waiting", 10_000)
        with pytest.raises(Overloaded, match="wait to begin"):
            await runtime.ask(page("a", deliver=GREET))
        await runtime.ask(page("a"))
    assert (await runtime.ask(page("b", deliver=GREET, cursor="2"))).records == 1
    assert await runtime.result("c:b") == 1


async def test_the_same_bad_record_is_recorded_once(runtime: VirtualRuntime) -> None:
    """A source that tells a bad record at each poll fills no journal; a changed one, or another reason, is told."""
    for n in ('"x"', '"x"', '"y"', '"y"'):
        taken = await runtime.ask(page(deliver=GREET, items=items("a", n=n), cursor=None))
        assert taken.refused == 1
    assert [each.code for each in of_kind(runtime, r.DeliveryRefused)] == ["invalid_input"] * 2
    await runtime.ask(page(deliver=GREET, items=items("a", n="5"), cursor=None))
    assert await runtime.result("c:a") == 5


async def test_a_page_that_repeats_what_another_overwrote_is_stored(runtime: VirtualRuntime) -> None:
    """Two connectors may share a stream: what one says again counts, if the other said something else in between."""
    for connector, n in (("c", "1"), ("d", "2"), ("c", "1"), ("c", "1")):
        await runtime.ask(page(connector=connector, items=items("a", n=n), cursor=None, stream="both"))
    assert await stored(runtime, "both") == {"a": {"n": 1, "run": "w"}}
    assert len(of_kind(runtime, r.RecordsStored)) == 3


async def test_a_source_that_is_read_whole_each_time_stores_what_changed(runtime: VirtualRuntime) -> None:
    """Told all its records at each poll, only those that changed are recorded, also deletions and what comes back."""
    keys = [f"k{number}" for number in range(600)]
    for number in range(3):
        taken = await runtime.ask(page(items=items(*keys), cursor=None, begins=True))
        assert taken.repeated == (600 if number else 0)
    before = len(of_kind(runtime, r.RecordsStored))
    taken = await runtime.ask(page(items=[*items(*keys[:599]), *items("k599", n="2")], cursor=None))
    assert (taken.records, taken.repeated) == (600, 599)
    gone = await runtime.ask(page(items=[r.StoredItem("k1", deleted=True)], cursor=None))
    again = await runtime.ask(page(items=[r.StoredItem("k1", deleted=True)], cursor=None))
    back = await runtime.ask(page("k1", cursor=None))
    assert (gone.repeated, again.repeated, back.repeated) == (0, 1, 0)
    assert [len(each.items) for each in of_kind(runtime, r.RecordsStored)[before:]] == [1, 1, 1]


async def test_a_first_sync_is_compared_with_the_store_now_and_then(runtime: VirtualRuntime) -> None:
    """Behind a large page without anything known, large pages of the same poll are taken without a look for a while;
    a small page and the next poll are looked at."""
    keys = [f"k{number}" for number in range(600)]
    told = [
        (await runtime.ask(page(items=items(*some), cursor=None, begins=begins))).repeated
        for begins, some in ((True, keys), (False, keys), (False, keys[:20]), (True, keys), (False, keys))
    ]
    assert told == [0, 0, 20, 600, 600]
    other = page(items=items(*(f"o{number}" for number in range(600))), cursor=None, connector="d", stream="c")
    await runtime.ask(other)  # another connector's first sync into the same stream
    assert (await runtime.ask(page(items=items(*keys), cursor=None))).repeated == 600


async def test_the_last_of_two_in_one_page_counts(runtime: VirtualRuntime) -> None:
    """A key twice in a page ends as the page has it last, also where that is what the store held."""
    await runtime.ask(page("a", cursor=None))
    await runtime.ask(page(items=[*items("a", n="2"), *items("a", n="1")], cursor=None))
    assert (await stored(runtime, "c"))["a"]["n"] == 1


async def test_a_run_of_another_that_has_the_id(runtime: VirtualRuntime) -> None:
    """A run that somebody else started under the same id: with the same input it is taken as delivered, with another
    the record is set aside."""
    await runtime.start("greet", {"n": 1}, id="c:a")
    await runtime.start("greet", {"n": 2}, id="c:b")
    same = [r.StoredItem(key, Raw(b'{"n":1}')) for key in ("a", "b")]
    taken = await runtime.ask(page(deliver=GREET, items=same))
    assert (taken.repeated, taken.refused) == (1, 1)
    assert [each.code for each in of_kind(runtime, r.DeliveryRefused)] == ["id_conflict"]


async def test_an_unknown_workflow_and_a_deletion_are_set_aside(runtime: VirtualRuntime) -> None:
    """What has nowhere to go is kept as refused; the cursor goes on."""
    await runtime.ask(page("a", deliver=Deliver("workflow", "gone")))
    await runtime.ask(page(deliver=GREET, items=[r.StoredItem("b", deleted=True)], cursor="2"))
    assert [each.code for each in of_kind(runtime, r.DeliveryRefused)] == ["unknown_workflow", "deleted"]
    assert [bytes(each.cursor) for each in of_kind(runtime, r.CursorAdvanced)] == [b"1", b"2"]


async def test_a_page_without_anything_makes_no_record(runtime: VirtualRuntime) -> None:
    """No items and the same cursor, or none: nothing is written. A cursor alone is."""
    for cursor in (None, "null"):
        assert (await runtime.ask(page(cursor=cursor))).records == 0
    assert of_kind(runtime, r.CursorAdvanced) == []
    await runtime.ask(page(cursor='{"state":1}'))
    await runtime.ask(page(cursor='{"state":1}'))
    assert [bytes(each.cursor) for each in of_kind(runtime, r.CursorAdvanced)] == [b'{"state":1}']


@pytest.mark.parametrize("cursor", [b'"\xff"', b"[" * 600 + b"]" * 600, b'"' + b"x" * 2_000 + b'"'])
async def test_a_cursor_that_cannot_be_kept_is_refused(runtime: VirtualRuntime, cursor: bytes) -> None:
    """A cursor or a shape that no journal could hold never gets to the writer."""
    for command in (
        m.TakePage(connector="c", generation=0, deliver=STORE, items=items("a"), cursor=Raw(cursor)),
        m.NoteShape(connector="c", stream="s", shape=Raw(cursor)),
    ):
        with pytest.raises((InvalidInput, PayloadTooLarge)):
            await runtime.ask(command)
    assert of_kind(runtime, r.RecordsStored) == of_kind(runtime, r.SchemaSeen) == []


@pytest.mark.parametrize("stream", ["", "x" * 201, "two\nlines"])
async def test_a_stream_has_a_name(runtime: VirtualRuntime, stream: str) -> None:
    """A stream that cannot be named in a request is refused."""
    with pytest.raises(InvalidInput):
        await runtime.ask(page("a", stream=stream))


async def test_a_payload_that_cannot_be_kept(runtime: VirtualRuntime) -> None:
    """Not UTF-8, nested too deeply, too large: refused with what can be shown of it, and never a poisoned journal."""
    bad = [
        r.StoredItem("utf", Raw(b'"\xff"')),
        r.StoredItem("deep", Raw(b"[" * 400 + b"]" * 400)),
        r.StoredItem("large", Raw(b'"' + b"x" * 2_000 + b'"')),
        r.StoredItem("\ud800", Raw(b"1")),
    ]
    taken = await runtime.ask(page(items=[*bad, *items("good")]))
    assert taken.refused == 4
    assert sorted(await stored(runtime, "c")) == ["good"]
    assert {each.key for each in of_kind(runtime, r.DeliveryRefused)} == {"utf", "deep", "large", "?"}
    await runtime.crash()
    assert sorted(await stored(runtime, "c")) == ["good"]


# --- webhooks -------------------------------------------------------------------------------------------------------


def delivery(key: str, deliver: Deliver, webhook: str = "hook", **fields: Any) -> m.TakeWebhook:
    return m.TakeWebhook(webhook=webhook, item=items(key)[0], deliver=deliver, **fields)


async def test_a_delivery_has_one_effect_however_often_it_comes(runtime: VirtualRuntime) -> None:
    """A webhook's key is known from its first delivery on, over a crash too: what comes again changes nothing."""
    first = await runtime.ask(delivery("e1", GREET, headers={"x": "y"}, body="raw", via="10.0.0.1"))
    again = await runtime.ask(delivery("e1", GREET))
    await runtime.crash()
    later = await runtime.ask(delivery("e1", GREET))
    assert (first.repeated, again.repeated, later.repeated) == (False, True, True)
    assert first.seq == again.seq == later.seq
    assert [each.id for each in of_kind(runtime, r.RunStarted)] == ["hook:e1"]
    (received,) = of_kind(runtime, r.WebhookReceived)
    assert (received.key, received.headers, received.body, received.via) == ("e1", {"x": "y"}, "raw", "10.0.0.1")


async def test_a_burst_of_one_delivery_has_one_effect(runtime: VirtualRuntime) -> None:
    """A thousand replays at once: one effect, and all are answered once that is on disk."""
    replies: list[m.WebhookTaken] = []

    async def send() -> None:
        replies.append(await runtime.ask(delivery("e1", GREET)))

    async with trio.open_nursery() as nursery:
        for _ in range(1_000):
            nursery.start_soon(send)
    assert sorted(reply.repeated for reply in replies) == [False] + [True] * 999
    assert len(of_kind(runtime, r.RunStarted)) == len(of_kind(runtime, r.WebhookReceived)) == 1


async def test_deliveries_are_stored_signalled_or_set_aside(runtime: VirtualRuntime) -> None:
    """Into the store under the webhook's name, to the run that is named; and what has nowhere to go is kept, taken all
    the same, because its sender can do nothing about it."""
    await runtime.ask(delivery("e1", Deliver()))
    assert list(await stored(runtime, "hook")) == ["e1"]
    await runtime.start("news", id="w")
    await runtime.ask(delivery("e2", Deliver("signal", "go", "run")))
    assert (await runtime.result("w"))["n"] == 1
    taken = await runtime.ask(delivery("e3", Deliver("signal", "go", "run")))
    assert not taken.repeated
    (refused,) = of_kind(runtime, r.DeliveryRefused)
    assert (refused.connector, refused.key, refused.code) == ("webhook:hook", "e3", "run_ended")
    with pytest.raises(InvalidInput):
        await runtime.ask(m.TakeWebhook(webhook="hook", item=r.StoredItem(""), deliver=Deliver()))


async def test_a_signal_of_the_wrong_type_is_set_aside(runtime: VirtualRuntime) -> None:
    """A record that names no run, or is not what the workflow's signal takes, is refused, and the run waits on."""
    await runtime.start("news", id="w")
    records = [r.StoredItem("2", Raw(b'{"run":7}')), r.StoredItem("3", Raw(b"[]"))]
    taken = await runtime.ask(page(deliver=Deliver("signal", "go", "run"), items=records))
    assert (taken.records, taken.refused) == (2, 2)
    codes = [each.code for each in of_kind(runtime, r.DeliveryRefused)]
    assert codes == ["run_not_found", "invalid_input"]
    typed = page(deliver=Deliver("signal", "typed", "run"), items=items("9"), cursor=None)
    assert (await runtime.ask(typed)).refused == 1
    assert "signal 'typed'" in of_kind(runtime, r.DeliveryRefused)[-1].message


async def test_a_shape_is_noted(runtime: VirtualRuntime) -> None:
    """A stream's shape is on disk when that is answered, with who said so."""
    noted = await runtime.ask(m.NoteShape(connector="c", stream="people", shape=Raw(b'{"type":"object"}'), by="kim"))
    (seen,) = of_kind(runtime, r.SchemaSeen)
    assert (seen.stream, seen.by, noted.id) == ("people", "kim", "c")
    assert bytes(await runtime.read(lambda reader: reader.shape("c", "people")) or b"") == b'{"type":"object"}'
