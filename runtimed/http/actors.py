"""The supervision tree: look, and restart a part."""

from __future__ import annotations

from typing import Final

import msgspec

from runtimed.http.errors import ActorNotFound
from runtimed.http.replies import Reply, json_reply
from runtimed.http.requests import Request
from runtimed.http.surface import RuntimeSurface
from runtimed.wire import RestartActorRequest
from wal.views import ActorView, Page

_RESTART: Final = msgspec.json.Decoder(RestartActorRequest)


async def tree(rt: RuntimeSurface, request: Request) -> Reply:
    """The supervision tree with its figures, parents before children."""
    actors = rt.tree()
    return json_reply(Page(actors, None, len(actors), rt.feed.seq))


async def restart(rt: RuntimeSurface, request: Request) -> Reply:
    """Restart an actor, and what its supervisor restarts with it."""
    path = request.params["path"]
    body = await request.body()
    reason = request.decode(_RESTART, body).reason
    origin = request.origin(body)

    async def work() -> ActorView:
        actor = await rt.restart_actor(path, origin=origin, reason=reason)
        if actor is None:
            raise ActorNotFound(f"there is no actor {path[:200]!r}")
        return actor

    return json_reply(await rt.once(origin, ActorView, work), 202)
