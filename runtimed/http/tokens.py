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
    """Make a token. Its text is in this answer and nowhere else; a repeat is refused, for the text is gone by then."""
    body = await request.body()
    check_way(request)
    wanted = request.decode(_CREATE, body)
    row, text = await rt.create_token(
        wanted.name,
        wanted.role,
        expires_in_s=wanted.expires_in,
        reason=wanted.reason,
        origin=msgspec.structs.replace(request.origin(), request=None),
    )
    view = view_of(row, rt.now_us)
    named = {name: getattr(view, name) for name in TokenView.__struct_fields__}
    location = (b"location", b"/v1/tokens/" + row.id.encode())
    return json_reply(NewTokenView(**named, token=text), 201, (location,))


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
