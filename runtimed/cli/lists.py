"""Lists over several pages: as many items as were asked for, printed as if they had come as one page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Raw

from runtimed.cli.shell import Shell
from runtimed.cli.source import PAGE_MAX, Source
from runtimed.cli.text import emit_page

Show = Callable[[Shell, list[dict[str, Any]]], None]
Fetch = Callable[..., Awaitable[bytes]]


class _Page(msgspec.Struct):
    items: list[Raw]
    next: str | None = None
    total: int | None = None
    seq: int = 0


def emit_list(
    shell: Shell,
    fetch: Fetch,
    show: Show,
    *,
    limit: int,
    cursor: str | None = None,
    everything: bool = False,
    id_of: str = "id",
) -> None:
    """A list that goes on by `cursor`; `fetch(source, limit=, cursor=)` gets a page."""

    async def get(source: Source, size: int, place: str | None) -> bytes:
        return await fetch(source, limit=size, cursor=place)

    _emit(shell, get, show, cursor, limit, everything, id_of, "--cursor")


def emit_after(
    shell: Shell, fetch: Fetch, show: Show, *, after: int, limit: int, everything: bool, id_of: str = "seq"
) -> None:
    """A list that goes on by `after`; `fetch(source, after=, limit=)` gets a page."""

    async def get(source: Source, size: int, place: str | None) -> bytes:
        return await fetch(source, limit=size, after=int(place or after))

    _emit(shell, get, show, None, limit, everything, id_of, "--after")


def _emit(
    shell: Shell,
    get: Callable[[Source, int, str | None], Awaitable[bytes]],
    show: Show,
    place: str | None,
    limit: int,
    everything: bool,
    id_of: str,
    go_on: str,
) -> None:
    async def pages(source: Source) -> bytes:
        first = await get(source, PAGE_MAX if everything else min(limit, PAGE_MAX), place)
        page = msgspec.json.decode(first, type=_Page)
        if page.next is None or (not everything and len(page.items) >= limit):
            return first
        items = page.items
        following: str | None = page.next
        while following is not None and (everything or len(items) < limit):
            size = PAGE_MAX if everything else min(limit - len(items), PAGE_MAX)
            more = msgspec.json.decode(await get(source, size, following), type=_Page)
            items, following = items + more.items, more.next
        return msgspec.json.encode({"items": items, "next": following, "total": page.total, "seq": page.seq})

    emit_page(shell, shell.read(pages), lambda items: show(shell, items), id_of, go_on)
