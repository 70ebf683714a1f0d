"""Two connectors over a source that the environment sizes: its rows into the store, and fewer of them into runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import trio

from runtimed import App, Context, Page, Poll

ROWS, RUNS = int(os.environ.get("INTAKE_ROWS", "0")), int(os.environ.get("INTAKE_RUNS", "0"))
PAGE_ROWS, PAGE_RUNS = 1_000, 50
app = App("intake")


@app.workflow
async def receive(ctx: Context, row: dict[str, Any]) -> Any:
    """Say which row it was."""
    return row["id"]


async def pages(cursor: int | None, total: int, size: int) -> AsyncIterator[Page]:
    """What lies behind the cursor, in order."""
    for first in range(cursor or 0, total, size):
        await trio.sleep(0.002)
        last = min(first + size, total)
        yield Page(records=[{"id": id, "text": f"row {id}"} for id in range(first, last)], cursor=last)


@app.connector(every=0.5, key="id", deliver="records")
async def rows(poll: Poll[int]) -> AsyncIterator[Page]:
    """All rows."""
    async for page in pages(poll.cursor, ROWS, PAGE_ROWS):
        yield page


@app.connector(every=0.5, key="id", deliver=receive)
async def runs(poll: Poll[int]) -> AsyncIterator[Page]:
    """A run for each of the first rows."""
    async for page in pages(poll.cursor, RUNS, PAGE_RUNS):
        yield page
