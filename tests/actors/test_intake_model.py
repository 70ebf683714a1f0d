from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from actors import intake_desk
from actors import messages as m
from actors.connector_spec import Deliver
from runtimed.virtual import VirtualRuntime
from tests.actors.sources import stored
from wal import records as r


def take(connector: str, items: list[r.StoredItem]) -> m.TakePage:
    return m.TakePage(connector=connector, generation=0, deliver=Deliver(), items=items, stream="both")


Pages = st.lists(
    st.tuples(
        st.sampled_from(["c", "d"]),
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans()), max_size=8),
        st.integers(0, 9),
    ),
    max_size=12,
)


@pytest.mark.slow
@given(Pages)
@settings(max_examples=60)
def test_whatever_is_left_out_the_store_holds_what_was_told_last(told: list[Any]) -> None:
    """Pages of two connectors into one stream, with repeats, changes, deletions and crashes in between: the store holds
    what was told last of each key, and who follows it from a position misses nothing."""

    async def play() -> None:
        async with trio.open_nursery() as nursery:
            runtime = VirtualRuntime(nursery, [])
            await runtime.open()
            model: dict[str, Any] = {}
            followed: dict[str, Any] = {}
            position = 0
            for connector, records, luck in told:
                given = [r.StoredItem(f"k{key}", Raw(b"null" if gone else b"%d" % n), gone) for key, n, gone in records]
                await runtime.ask(take(connector, given))
                model |= {f"k{key}": None if gone else n for key, n, gone in records}
                if luck == 0:
                    await runtime.crash()
                new = await runtime.read(lambda reader, after=position: reader.stored("both", after=after, limit=500))
                for item in new.items if new is not None else ():
                    followed[item.key] = None if item.deleted else msgspec.json.decode(item.data)
                    position = item.seq
                assert followed == model == await stored(runtime, "both")
            await runtime.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake_desk, "LARGE_PAGE", 2)
        patch.setattr(intake_desk, "UNSEEN_PAGES", 2)
        trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))
