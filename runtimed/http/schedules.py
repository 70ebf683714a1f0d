"""Schedules: list, pause, resume, run now."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.messages import PauseConnector, ResumeConnector, StartedRuns, StartRuns
from actors.schedules import PREFIX
from runtimed.http.faults import problem_reply
from runtimed.http.replies import Reply, json_reply
from runtimed.http.requests import Request
from runtimed.http.runs import refusal
from runtimed.http.surface import RuntimeSurface
from runtimed.wire import ReasonRequest
from wal.views import Page

_REASON: Final = msgspec.json.Decoder(ReasonRequest)


async def list_schedules(rt: RuntimeSurface, request: Request) -> Reply:
    """All schedules, by name."""
    views = rt.schedules()
    return json_reply(Page(views, None, len(views), rt.feed.seq))


async def pause(rt: RuntimeSurface, request: Request) -> Reply:
    """Hold a schedule: it starts nothing until it is resumed."""
    name, body = request.id("name"), await request.body()
    reason = request.decode(_REASON, body).reason
    rt.schedule(name)
    command = PauseConnector(name=PREFIX + name, reason=reason, origin=request.origin(body))
    return json_reply(await rt.ask(command), 202)


async def resume(rt: RuntimeSurface, request: Request) -> Reply:
    """Let a schedule go on; what it missed is told by its `catchup`."""
    name, body = request.id("name"), await request.body()
    reason = request.decode(_REASON, body).reason
    rt.schedule(name)
    command = ResumeConnector(name=PREFIX + name, reason=reason, origin=request.origin(body))
    return json_reply(await rt.ask(command), 202)


async def trigger(rt: RuntimeSurface, request: Request) -> Reply:
    """Start the schedule's run now, beside what it starts by itself."""
    name, body = request.id("name"), await request.body()
    request.decode(_REASON, body)
    started: StartedRuns = await rt.ask(StartRuns(items=[rt.triggered(name)], origin=request.origin(body)))
    item = started.items[0]
    if item.run is None:
        return problem_reply(refusal(item))
    return json_reply(item.run, 202)
