"""Who the caller is to the daemon and what it may, so that a screen can say which right is missing beforehand."""

from __future__ import annotations

from runtimed.http.identity import via_of
from runtimed.http.replies import Reply, json_reply
from runtimed.http.requests import Request
from runtimed.http.surface import RuntimeSurface
from runtimed.wire import CallerView


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """The caller as its decisions would be recorded."""
    peer, access = request.peer, request.access
    roles = access.roles(peer)
    level = access.level(peer).name.lower()
    view = CallerView(by=peer.by, level=level, roles=None if roles is None else sorted(roles), via=await via_of(peer))
    return json_reply(view)
