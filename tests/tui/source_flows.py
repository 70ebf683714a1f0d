"""What the end-to-end test of the connectors' screen serves: a source in memory that a test can look at."""

from __future__ import annotations

from collections.abc import AsyncIterator

from runtimed import App, Page, Poll

app = App("sources")
COUNT = 6


@app.connector(every=3600.0, key="id", deliver="records")
async def people(poll: Poll[int]) -> AsyncIterator[Page]:
    """Six people, read on from the cursor."""
    first = poll.cursor or 0
    yield Page(records=[{"id": n} for n in range(first, COUNT)], cursor=COUNT)


@app.connector(every=3600.0, key="id", deliver="records")
async def broken(poll: Poll[int]) -> AsyncIterator[Page]:
    """A source that is never there."""
    raise OSError("no route to host")
    yield Page()
