"""A first workflow: charge an order, let a person look at large ones, ship it; undo the charge if that fails."""

import msgspec

from runtimed import App, Context, Rejected, Retry

app = App("first")
DAY = 24 * 3600.0


class Order(msgspec.Struct, frozen=True):
    """What a run of `checkout` takes, as JSON: {"id": "a1", "cents": 4200}."""

    id: str
    cents: int


@app.step(retry=Retry(max_attempts=5), timeout=10.0)
async def charge(order: Order) -> str:
    """A step is where things happen: call the outside here, with `runtimed.current_step().idempotency_key`."""
    return f"charge-{order.id}"


@charge.compensation
async def refund(charge_id: str, order: Order) -> None:
    """Undoes `charge`, when the run fails or is cancelled after it."""


@app.step
def ship(order: Order, charge_id: str) -> str:
    """A plain function is a step too; it runs in a thread."""
    return f"parcel-{order.id}"


@app.workflow
async def checkout(ctx: Context, order: Order) -> str:
    """The process. It awaits only `ctx`, so it can be killed at any point and goes on where it was."""
    charge_id: str = await ctx.step(charge, order)
    if order.cents > 10_000:
        decision = await ctx.approval(f"Ship order {order.id}?", detail=order, timeout=3 * DAY)
        if not decision.approved:
            raise Rejected(decision)
    await ctx.sleep(1.0)
    parcel: str = await ctx.step(ship, order, charge_id)
    return parcel
