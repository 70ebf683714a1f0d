"""What the daemon of the webhooks' fault tests serves: one workflow, one run a delivery."""

from __future__ import annotations

from typing import Any

from runtimed import App, Context

app = App("webhooks")


@app.workflow
async def on_event(ctx: Context, event: dict[str, Any]) -> Any:
    """Give the event's number."""
    return event["id"]
