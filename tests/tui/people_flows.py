"""What the end-to-end tests of the dashboard serve: a refund that people decide."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

import runtimed
from runtimed import App, Context

app = App("people")


class Ticket(Struct, frozen=True):
    """What whoever approves fills in."""

    ticket: str
    kind: Literal["full", "part"] = "full"


@app.step
async def lock_order(order: int) -> str:
    return f"lock-{order}"


@lock_order.compensation
async def unlock_order(lock: str, order: int) -> None: ...


@app.step
async def refund_card(order: int, ticket: str) -> str:
    return f"refunded {order} for {ticket}"


@app.workflow
async def refund(ctx: Context, order: int) -> str:
    await ctx.step(lock_order, order)
    decision = await ctx.approval(
        f"refund order {order}", detail={"order": order, "note": "pls \x1b[2J [/x]"}, roles=["ops"], timeout=3600.0,
        risk="high" if order > 900 else "low", form=Ticket if order > 900 else None,
    )  # fmt: skip
    if not decision.approved:
        raise runtimed.Rejected(decision)
    return await ctx.step(refund_card, order, decision.data.ticket if decision.data is not None else "nothing")
