"""What became of a request whose answer was lost: its key is looked for in the journal, and nothing is sent again.

Every accepted request with an `Idempotency-Key` is recorded with its answer in the same commit (`request_answered`). So
the journal knows, also after the daemon is gone: then its file is read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tui.fold import data_of
from tui.runs_index import RunFilter
from tui.source import Source

PAGE_RECORDS = 500
LOOK_BACK_RECORDS_MAX = 20_000


class Unfindable(Exception):
    """More was recorded since than is read for this; the text says what to look at."""


class Found(NamedTuple):
    """The seq of what was asked, None if it is not in the journal; `head` is how far was looked; `body` the answer."""

    seq: int | None
    head: int
    body: dict[str, Any]


async def find_answer(source: Source, key: str, after: int) -> Found:
    """Look for the answer to a request that was sent when the journal stood at `after`.

    Raises `Unfindable`, and what the source raises.
    """
    head = (await source.runs(RunFilter(), limit=1)).seq
    if head - after > LOOK_BACK_RECORDS_MAX:
        raise Unfindable(f"{head - after} records were written since; look at the history of the run")
    upto = head
    while upto > after:
        events = await source.events_before(upto, min(PAGE_RECORDS, upto - after))
        for event in events:
            if event.kind != "request_answered":
                continue
            data = data_of(event.data)
            if data.get("idempotency_key") == key:
                body = data.get("body")
                body = body if isinstance(body, dict) else {}
                seq = body.get("seq")
                return Found(seq if isinstance(seq, int) else event.seq, head, body)
        if not events:
            break
        upto = min(event.seq for event in events) - 1
    return Found(None, head, {})
