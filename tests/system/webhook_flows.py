"""What the daemon of the webhooks' fault tests serves: one run a delivery, and runs that fail."""

from __future__ import annotations

from typing import Any

from runtimed import App, Context, Failure

app = App("webhooks")


class NoStock(Failure):
    """What a run of `fails` ends with."""


@app.workflow
async def on_event(ctx: Context, event: dict[str, Any]) -> Any:
    """Give the event's number."""
    return event["id"]


@app.workflow
async def fails(ctx: Context) -> None:
    """Fail, so that people are told."""
    raise NoStock("no stock")
