"""Workflows that ask people, for the tests of the real daemon."""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from runtimed import App, Context, Rejected

app = App("asking")


class Refund(msgspec.Struct, frozen=True):
    """What an approver fills in."""

    cents: int


@app.step
async def act(name: str, seconds: float = 0.0) -> str:
    """Take so long."""
    await trio.sleep(seconds)
    return name


@act.compensation
async def undo(done: str, name: str, seconds: float = 0.0) -> None:
    """Take nothing back."""


@app.workflow
async def ask(ctx: Context, question: dict[str, Any]) -> str:
    """Ask what is asked for, after a step that a refusal undoes."""
    seconds = question.pop("act_seconds", 0.0)
    form = Refund if question.pop("form", False) else None
    await ctx.step(act, "before")
    decision = await ctx.approval(form=form, **question)
    if not decision.approved:
        raise Rejected(decision)
    await ctx.step(act, "after", seconds)
    return f"{decision.by}: {decision.reason}"
