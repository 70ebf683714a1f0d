"""Sessions: open, list, look, touch, close."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.errors import SessionNotFound
from actors.messages import CloseSession, OpenSession, SessionReply, TouchSession
from runtimed.http.replies import Reply, encode, json_reply
from runtimed.http.requests import Request
from runtimed.http.surface import Reader, RuntimeSurface
from runtimed.wire import PAGE_ITEMS_MAX, OpenSessionRequest, ReasonRequest, SessionsQuery, TouchSessionRequest

_OPEN: Final = msgspec.json.Decoder(OpenSessionRequest)
_TOUCH: Final = msgspec.json.Decoder(TouchSessionRequest)
_REASON: Final = msgspec.json.Decoder(ReasonRequest)


async def open_session(rt: RuntimeSurface, request: Request) -> Reply:
    """Open a session."""
    body = await request.body()
    wanted = request.decode(_OPEN, body)
    command = OpenSession(
        id=wanted.id,
        tenant=wanted.tenant,
        subject=wanted.subject,
        classification=wanted.classification,
        ttl=wanted.ttl,
        on_close=wanted.on_close,
        attributes=wanted.attributes,
        origin=request.origin(body),
    )
    reply: SessionReply = await rt.ask(command)
    location = (b"location", b"/v1/sessions/" + reply.session.id.encode())
    return json_reply(reply.session, 201 if reply.created else 200, (location,))


async def list_sessions(rt: RuntimeSurface, request: Request) -> Reply:
    """A page of sessions, newest first."""
    query = request.query(SessionsQuery)

    def page(reader: Reader) -> bytes:
        limit = min(query.limit, PAGE_ITEMS_MAX)
        return encode(reader.sessions(status=query.status, tenant=query.tenant, limit=limit, cursor=query.cursor))

    return Reply(200, await rt.read(page))


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """A session."""
    session_id = request.id()
    session = await rt.read(lambda reader: reader.session(session_id))
    if session is None:
        raise SessionNotFound(f"there is no session {session_id!r}")
    return json_reply(session)


async def touch(rt: RuntimeSurface, request: Request) -> Reply:
    """Extend a session by its ttl from now."""
    session_id, body = request.id(), await request.body()
    request.decode(_TOUCH, body)
    reply: SessionReply = await rt.ask(TouchSession(id=session_id, origin=request.origin(body)))
    return json_reply(reply.session)


async def close(rt: RuntimeSurface, request: Request) -> Reply:
    """Close a session; its runs follow its `on_close`."""
    session_id, body = request.id(), await request.body()
    reason = request.decode(_REASON, body).reason
    reply: SessionReply = await rt.ask(CloseSession(id=session_id, reason=reason, origin=request.origin(body)))
    return json_reply(reply.session)
