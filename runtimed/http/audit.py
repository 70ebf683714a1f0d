"""The audit: who changed what, from where and why, out of the journal."""

from __future__ import annotations

from runtimed.http.replies import Reply, encode
from runtimed.http.requests import Request
from runtimed.http.surface import Reader, RuntimeSurface
from runtimed.wire import PAGE_ITEMS_MAX, AuditQuery


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """A page of the audit, oldest first."""
    query = request.query(AuditQuery)

    def page(reader: Reader) -> bytes:
        return encode(reader.audit_page(after=query.after, limit=min(query.limit, PAGE_ITEMS_MAX)))

    return Reply(200, await rt.read(page))
