from __future__ import annotations

from pathlib import Path

import pytest
import trio
from msgspec import Raw

from runtimed import App, Context, open_runtime
from wal import records as r
from wal.journal import Journal
from wal.records import Entry, Record

AT = 1_767_225_600_000_000
app = App("recovery")


@app.workflow
async def letterbox(ctx: Context) -> str:
    """Wait for a letter, for as long as it takes."""
    return str(await ctx.signal("letter", type=str))


def killed_after(path: Path, *records: Record) -> None:
    """A journal as a daemon leaves it that was killed after these records of its first run."""
    journal = Journal.open(path)
    journal.commit([Entry(seq, 1, seq - 1, AT + seq, record) for seq, record in enumerate(records, start=1)])
    journal.close()


STARTED = r.RunStarted("box", "letterbox", Raw(b"null"))
WAITS = r.RunWaiting("signal", None, [r.OpenCallData("0", "signal", "letter")])
LETTER = r.SignalReceived("letter", Raw(b'"hello"'), "first")


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize(
    "records",
    [
        (STARTED, LETTER),
        (STARTED, WAITS, LETTER),
        (STARTED, WAITS, r.RunPaused(), LETTER, r.RunResumed()),
        (STARTED, WAITS, r.SignalReceived("other", Raw(b"1")), LETTER),
    ],
    ids=["before it waited", "while it waited", "while it was paused", "after another"],
)
async def test_a_signal_acknowledged_right_before_a_kill_is_acted_upon(short_dir: Path, records: list[Record]) -> None:
    """A run whose signal was on disk, and which was not told of it any more, goes on by it after the restart."""
    killed_after(short_dir / "journal.db", *records)
    async with open_runtime(app, short_dir, writer="inline") as runtime:
        assert await runtime.result("box", timeout=30.0) == "hello"


@pytest.mark.trio
@pytest.mark.slow
async def test_a_signal_that_nobody_waits_for_leaves_a_waiting_run_waiting(short_dir: Path) -> None:
    """A run that is woken by a signal of another name says again what it waits for, and takes its own when it comes."""
    killed_after(short_dir / "journal.db", STARTED, WAITS)
    async with open_runtime(app, short_dir, writer="inline") as runtime:
        signalled = await runtime.signal("box", "other", 1)
        with trio.fail_after(30.0):
            await runtime.feed.wait_beyond(signalled)
        detail = await runtime.run("box")
        assert (detail.status, detail.waiting_on) == ("waiting", "signal")
        await runtime.signal("box", "letter", "hello")
        assert await runtime.result("box", timeout=30.0) == "hello"
