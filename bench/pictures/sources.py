"""The connectors of the pictures: two that read in memory, one whose source is away, and a webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator

from runtimed import App, Page, Poll, SourceError

app = App("sources")
INVOICES = 1_240
CHARGED_AT = 1_790_000_000


@app.connector(every=30.0, key="id", deliver="records")
async def invoices(poll: Poll[int]) -> AsyncIterator[Page]:
    """Invoices by number, once."""
    first = poll.cursor or 0
    numbers = range(first, INVOICES)
    yield Page(records=[{"id": number, "cents": 100 * number} for number in numbers], cursor=INVOICES)


@app.connector(every=30.0, key="id", deliver="records")
async def crm(poll: Poll[int]) -> AsyncIterator[Page]:
    """A source that has a bad day."""
    pages: tuple[Page, ...] = ()
    for page in pages:
        yield page
    raise SourceError("the CRM answers 503 Service Unavailable", retry_after_s=30.0)


@app.connector(every=60.0, key="id", deliver="records")
async def charges(poll: Poll[dict[str, int]]) -> AsyncIterator[Page]:
    """Charges of the last hours."""
    if poll.cursor is None:
        yield Page(records=[{"id": f"ch_{number}"} for number in range(310)], cursor={"created": CHARGED_AT})


@app.webhook(verify="none", key="id", deliver="records")
class Push:
    """What the repository tells."""
