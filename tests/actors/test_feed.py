"""The feed: how far the journal is durable, for followers of any speed."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.feed import Feed


@pytest.mark.trio
async def test_followers_are_woken_and_slow_ones_miss_nothing() -> None:
    """A follower gets the newest mark; one that was busy for ten marks finds the last of them at once."""
    feed = Feed(5)
    seen: list[int] = []

    async def follow() -> None:
        seq = 5
        while seq < 20:
            seq = await feed.wait_beyond(seq)
            seen.append(seq)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await wait_all_tasks_blocked()
        feed.publish(6)
        await wait_all_tasks_blocked()
        for seq in range(7, 21):
            feed.publish(seq)
    assert seen == [6, 20]
    assert await feed.wait_beyond(0) == 20


@pytest.mark.trio
async def test_a_cancelled_follower_leaves_and_the_others_stay() -> None:
    """Cancellation loses nothing for anyone."""
    feed = Feed()
    async with trio.open_nursery() as nursery:
        gone = trio.CancelScope()

        async def leave() -> None:
            with gone:
                await feed.wait_beyond(0)

        nursery.start_soon(leave)
        nursery.start_soon(feed.wait_beyond, 0)
        await wait_all_tasks_blocked()
        gone.cancel()
        await wait_all_tasks_blocked()
        feed.publish(1)


@pytest.mark.trio
async def test_the_end_wakes_everyone() -> None:
    """A feed that closes lets its followers go, with the mark unchanged, and keeps nobody later."""
    feed = Feed(3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.wait_beyond, 3)
        await wait_all_tasks_blocked()
        feed.close()
    assert (await feed.wait_beyond(3), feed.closed) == (3, True)
