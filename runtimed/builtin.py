"""The app that every runtime brings along: workflows and steps of our own, beside the users'.

Their names begin with `runtimed.`, so that they clash with nobody's.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from actors import messages as m
from actors.current_step import current_step
from actors.errors import Conflict, ConnectorNotFound, NotificationRefused
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from actors.shape_desk import ACCEPT_SHAPE
from runtimed.notifier import NOTIFICATION, Notice

if TYPE_CHECKING:
    from runtimed.runtime import Runtime

app = App("runtimed")

RUNTIME: ContextVar[Runtime] = ContextVar("runtimed_runtime")
"""The runtime that runs this task; set while it is open."""


class ShapeChange(msgspec.Struct, frozen=True):
    """A stream of a connector announces less than before: `narrowed` says what, `shape` is the new JSON Schema."""

    connector: str
    stream: str
    narrowed: list[str]
    shape: Raw


@app.workflow(name=ACCEPT_SHAPE)
async def accept_shape(ctx: Context, change: ShapeChange) -> bool:
    """Ask whether a narrower shape is meant. On yes it is taken over and the connector goes on; on no it stands."""
    detail = {"connector": change.connector, "stream": change.stream, "narrowed": change.narrowed}
    title = f"Accept the narrower schema of {change.stream[:60]} from {change.connector[:60]}?"
    decision = await ctx.approval(title, detail=detail, roles=[])
    if decision.approved:
        await ctx.step(take_shape, change, decision.by)
    return bool(decision.approved)


@app.step(name="runtimed.take_shape")
async def take_shape(change: ShapeChange, by: str | None) -> None:
    """Take the shape over and let the connector go on. A repeat changes nothing: it records the same again."""
    runtime, origin = RUNTIME.get(), m.Origin(by=by)
    await runtime.ask(m.NoteShape(connector=change.connector, stream=change.stream, shape=change.shape, by=by))
    reason = f"the narrower schema of {change.stream} was accepted"
    try:
        await runtime.ask(m.ResumeConnector(name=change.connector, reason=reason, origin=origin))
    except (ConnectorNotFound, Conflict):
        return  # it left the configuration, or goes on already: by a person, or by this step before a crash


# Twelve attempts over five to six hours, the last of them an hour apart: a receiver may be away for a night's release.
_PATIENT = Retry(
    max_attempts=12, initial_interval=5.0, backoff_coefficient=3.0, max_interval=3_600.0,
    non_retryable=(NotificationRefused,),
)  # fmt: skip


@app.step(name="runtimed.notify", retry=_PATIENT, timeout=30.0)
async def notify(target: str, type: str, data: Any = None, at: str | None = None) -> int:
    """Send a message to `[notifications.TARGET]`, signed by Standard Webhooks: `await ctx.step(runtimed.notify, "ops",
    "order.stuck", {...})`. `at` is when it happened, as RFC 3339 (default: now).

    Gives the status of the answer, a 2xx. Tried again for hours where the receiver is away or says "later"; fails at
    once where it refuses (other 4xx, 410 included) or is not configured."""
    from runtimed.outgoing import send

    return await send(RUNTIME.get(), current_step().idempotency_key, target, type, data, at)


@app.workflow(name=NOTIFICATION)
async def notification(ctx: Context, notice: Notice) -> int:
    """Send one event to one target."""
    status: int = await ctx.step(notify, notice.target, notice.type, notice.data, notice.at)
    return status
