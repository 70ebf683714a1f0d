"""Connectors: list, look, pause, resume, poll now, set the cursor."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from actors.errors import Conflict, ConnectorNotFound
from actors.messages import PauseConnector, ResetConnector, ResumeConnector
from runtimed.connector_words import WEBHOOK
from runtimed.http.replies import Reply, json_reply
from runtimed.http.requests import Request, check_utf8
from runtimed.http.surface import ResetForeseen, RuntimeSurface
from runtimed.wire import ReasonRequest, ResetConnectorRequest, ResetPreview
from wal.views import NULL, ConnectorView, Page

_REASON: Final = msgspec.json.Decoder(ReasonRequest)
_RESET: Final = msgspec.json.Decoder(ResetConnectorRequest)
SHOWN_BYTES_MAX: Final = 200
"""Of a cursor in a sentence; the cursors themselves are whole beside it."""


async def list_connectors(rt: RuntimeSurface, request: Request) -> Reply:
    """All connectors and webhooks, by name."""
    views = rt.connectors()
    return json_reply(Page(views, None, len(views), rt.feed.seq))


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """A connector: where it stands, when it polls, what went wrong last."""
    return json_reply(_known(rt, request.id("name")))


async def pause(rt: RuntimeSurface, request: Request) -> Reply:
    """Hold a connector: it polls no more until it is resumed; where it stands is kept."""
    name, body = request.id("name"), await request.body()
    reason = request.decode(_REASON, body).reason
    _steered(rt, name)
    return json_reply(await rt.ask(PauseConnector(name=name, reason=reason, origin=request.origin(body))), 202)


async def resume(rt: RuntimeSurface, request: Request) -> Reply:
    """Let a paused or quarantined connector go on from where it stands."""
    name, body = request.id("name"), await request.body()
    reason = request.decode(_REASON, body).reason
    _steered(rt, name)
    return json_reply(await rt.ask(ResumeConnector(name=name, reason=reason, origin=request.origin(body))), 202)


async def poll(rt: RuntimeSurface, request: Request) -> Reply:
    """Let a connector poll now instead of when it would."""
    name, body = request.id("name"), await request.body()
    reason = request.decode(_REASON, body).reason
    _steered(rt, name)
    origin = request.origin(body)

    async def work() -> ConnectorView:
        view = await rt.poll_connector(name)
        await rt.audit("connector.poll", name, origin, reason)
        return view

    return json_reply(await rt.once(origin, ConnectorView, work), 202)


async def reset(rt: RuntimeSurface, request: Request) -> Reply:
    """Set a connector's cursor, or, with `dry_run`, say what that would do. What was delivered is known by its keys."""
    name, body = request.id("name"), await request.body()
    check_utf8(body)
    wanted = request.decode(_RESET, body)
    view = _steered(rt, name)
    if wanted.dry_run:
        return json_reply(preview(view, await rt.preview_reset(name, wanted.cursor)))
    cursor = wanted.cursor.copy()
    command = ResetConnector(name=name, cursor=cursor, reason=wanted.reason, origin=request.origin(body))
    return json_reply(await rt.ask(command), 202)


def preview(view: ConnectorView, foreseen: ResetForeseen) -> ResetPreview:
    """What setting a cursor would do, in sentences."""
    cursor, total = foreseen.new_cursor, foreseen.records_total
    if bytes(cursor).strip() == bytes(NULL):
        reads = "it reads everything again, from the beginning"
    else:
        reads = f"it reads on from {_shown(cursor)}: what lies before that is not read again"
    if view.deliver in ("", "records"):
        known = "one whose key is known replaces what is stored, and changes nothing where it is the same"
    else:
        known = f"{foreseen.keys_known} keys are known, and a record with one of them has no second effect"
    then = "at its next poll"
    if view.status in ("paused", "quarantined"):
        then = f"once it is resumed: it stays {view.status}"
    return ResetPreview(
        name=view.name,
        status=view.status,
        cursor=foreseen.cursor,
        new_cursor=cursor,
        records_total=total,
        would=[
            f"its cursor, {_shown(foreseen.cursor)} now, is set to {_shown(cursor)}",
            f"{reads}, {then}",
            f"{total} records came so far, and stay; {known}",
            "a page that is on its way now is not taken, because it was read from the cursor before",
        ],
        keys_known=foreseen.keys_known,
    )


def _shown(cursor: Raw) -> str:
    text = bytes(cursor).decode().strip()
    return text if len(text) <= SHOWN_BYTES_MAX else text[:SHOWN_BYTES_MAX] + "..."


def _known(rt: RuntimeSurface, name: str) -> ConnectorView:
    """The connector of this name, else the webhook. Raises `ConnectorNotFound`."""
    found = [view for view in rt.connectors() if view.name == name]
    if not found:
        raise ConnectorNotFound(
            f"there is no connector {name!r}", hint="See `runtimed connectors list` for those that there are."
        )
    return next((view for view in found if view.kind != WEBHOOK), found[0])


def _steered(rt: RuntimeSurface, name: str) -> ConnectorView:
    """A connector that can be told what to do. Raises `ConnectorNotFound`, and `Conflict` for a webhook."""
    view = _known(rt, name)
    if view.kind == WEBHOOK:
        raise Conflict(
            f"{name!r} is a webhook: its source sends to it",
            hint="There is nothing to poll, hold or set. Switch it off at its source, or take it out of the settings.",
        )
    return view
