"""Reads a run's history whole, in pages, as far as it is held."""

from __future__ import annotations

from tui.history_fold import RECORDS_MAX, History
from tui.source import Source

PAGE_RECORDS = 500


async def read_history(source: Source, run_id: str, history: History | None = None) -> History:
    """The records of a run, or those after the ones that are held. Raises what the source raises."""
    history = history if history is not None else History()
    after: int | None = history.records[-1].seq if history.records else 0
    while after is not None:
        page = await source.history(run_id, after=after, limit=PAGE_RECORDS)
        history.append(page.items)
        after = None if page.next is None else int(page.next)
        if after is not None and len(history) >= RECORDS_MAX:
            history.truncated = True
            break
    return history
