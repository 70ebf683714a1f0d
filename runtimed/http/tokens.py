"""Bearer tokens: make one, list them, revoke one. Of a token only its first answer shows the text."""

from __future__ import annotations

from typing import Final

import msgspec

from runtimed.http.replies import Reply, json_reply
from runtimed.http.requests import Request
from runtimed.http.secrets import check_way
from runtimed.http.surface import RuntimeSurface
from runtimed.tokens import view_of
from runtimed.wire import CreateTokenRequest, NewTokenView, ReasonRequest, TokenView
from wal.views import Page

_CREATE: Final = msgspec.json.Decoder(CreateTokenRequest)
_REASON: Final = msgspec.json.Decoder(ReasonRequest)


async def create(rt: RuntimeSurface, request: Request) -> Reply:
    """Make a token. Its text is in this answer and nowhere else.

    A repeat under its `Idempotency-Key` gives it again for ten minutes; after that it is refused."""
    body = await request.body()
    check_way(request)
    wanted = request.decode(_CREATE, body)
    origin = request.origin(body)

    async def work() -> NewTokenView:
        row, text = await rt.create_token(
            wanted.name,
            wanted.role,
            expires_in_s=wanted.expires_in,
            reason=wanted.reason,
            origin=msgspec.structs.replace(origin, request=None),
        )
        view = view_of(row, rt.now_us)
        return NewTokenView(**{name: getattr(view, name) for name in TokenView.__struct_fields__}, token=text)

    made = await rt.once_unwritten(origin, work)
    return json_reply(made, 201, ((b"location", b"/v1/tokens/" + made.id.encode()),))


async def list_tokens(rt: RuntimeSurface, request: Request) -> Reply:
    """All tokens that were ever made, oldest first: names, roles, dates, no secrets."""
    now_us = rt.now_us
    views = [view_of(row, now_us) for row in rt.list_tokens()]
    return json_reply(Page(views, None, len(views), rt.feed.seq))


async def revoke(rt: RuntimeSurface, request: Request) -> Reply:
    """Make a token worth nothing, from this answer on. A second time changes nothing."""
    token, body = request.id(), await request.body()
    reason = request.decode(_REASON, body).reason
    return json_reply(await rt.revoke_token(token, reason=reason, origin=request.origin(body)), 202)
