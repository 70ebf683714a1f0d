"""The workflows of the pictures: refunds, orders, a nightly load, a payout, mails; each ends up in another state."""

from __future__ import annotations

import trio
from msgspec import Struct

from runtimed import App, Context, Rejected, Retry, current_step

app = App("pictures")

HOUR = 3600.0
DAY = 24 * HOUR
PATIENT = Retry(max_attempts=6, initial_interval=1.0, jitter=0.0)
STUBBORN = Retry(max_attempts=50, initial_interval=60.0, backoff_coefficient=3.0, max_interval=600.0, jitter=0.0)


class Order(Struct, frozen=True):
    """What a customer ordered, or wants refunded. `card` declines if it says so."""

    order: int
    amount: str
    account: str
    note: str = ""


class Job(Struct, frozen=True):
    """Something for machines."""

    name: str
    version: int = 1


class CardDeclined(Exception):
    """The bank says no."""


async def _works(seconds: float) -> None:
    await trio.sleep(seconds)


@app.step
async def lock_order(order: Order) -> int:
    """Nobody else changes it meanwhile."""
    await _works(0.4)
    return order.order


@lock_order.compensation
async def unlock_order(locked: int, order: Order) -> None:
    """Others may change it again."""
    await _works(0.2)


@app.step(retry=PATIENT, timeout=10.0)
async def psp_lookup(order: Order) -> dict[str, str]:
    """Ask the payment provider; it answers the third time."""
    await _works(2.0)
    if current_step().attempt < 3:
        raise TimeoutError("psp.example did not answer in 2 s")
    return {"charge": f"ch_{order.order}"}


@app.step
async def fraud_check(order: Order, found: dict[str, str]) -> dict[str, float]:
    """A score; low is good."""
    await _works(1.2)
    return {"score": 0.08}


@app.step
async def refund_card(order: Order) -> str:
    """Give the money back."""
    await _works(0.8)
    return f"re_{order.order}"


@app.step
async def notify_customer(order: Order) -> None:
    """A mail."""
    await _works(0.3)


@app.workflow
async def refund_saga(ctx: Context, order: Order) -> str:
    """A refund that two people look at."""
    await ctx.step(lock_order, order)
    found = await ctx.step(psp_lookup, order)
    await ctx.step(fraud_check, order, found)
    title = f"refund {order.amount} for order {order.order}"
    decision = await ctx.approval(title, detail=order, roles=["ops"], quorum=2, risk="high", timeout=HOUR)
    if not decision.approved:
        raise Rejected(decision)
    refund: str = await ctx.step(refund_card, order)
    await ctx.step(notify_customer, order)
    return refund


@app.step(retry=Retry(max_attempts=2, non_retryable=(CardDeclined,)))
async def charge_card(order: Order) -> str:
    """Take the money."""
    await _works(0.6)
    if order.note == "declined":
        raise CardDeclined("the bank says no")
    return f"ch_{order.order}"


@charge_card.compensation
async def refund_charge(charge: str, order: Order) -> None:
    """Give the money back."""
    await _works(0.4)


@app.step
async def reserve_stock(order: Order) -> str:
    """Take the goods off the shelf."""
    await _works(0.2)
    return f"rs_{order.order}"


@reserve_stock.compensation
async def release_stock(reserved: str, order: Order) -> None:
    """Put the goods back."""
    await _works(0.2)


@app.step(timeout=2 * HOUR)
async def pack(order: Order) -> str:
    """By hand, so it takes a while."""
    await _works(HOUR if order.note == "packing" else 2.5)
    return f"pk_{order.order}"


@app.workflow
async def order_saga(ctx: Context, order: Order) -> str:
    """From the order to the parcel."""
    await ctx.step(reserve_stock, order)
    await ctx.step(charge_card, order)
    parcel: str = await ctx.step(pack, order)
    return parcel


@app.step(retry=STUBBORN, timeout=60.0)
async def load_channel(job: Job) -> int:
    """The other side is down tonight."""
    await _works(3.0)
    raise ConnectionResetError("warehouse.example closed the connection")


@app.step
async def extract(job: Job) -> dict[str, int]:
    """Rows out of the source."""
    await _works(4.0)
    return {"rows": 118_204}


@app.workflow
async def etl_nightly(ctx: Context, job: Job) -> int:
    """Extract and load; version 2 has a bug, as versions do."""
    found = await ctx.step(extract, job)
    if job.version == 2:
        return int(found["count"])
    loaded: int = await ctx.step(load_channel, job)
    return loaded


@app.step(delivery="at_most_once", timeout=HOUR)
async def wire_transfer(job: Job) -> str:
    """No bank takes an idempotency key for this."""
    await _works(5.0)
    return "ok"


@app.workflow
async def payout(ctx: Context, job: Job) -> str:
    """Money that must not leave twice."""
    await ctx.step(extract, job)
    sent: str = await ctx.step(wire_transfer, job)
    return sent


@app.workflow
async def deploy(ctx: Context, job: Job) -> bool:
    """A release that somebody says yes to."""
    decision = await ctx.approval(f"deploy {job.name}", detail=job, risk="medium")
    return bool(decision.approved)


@app.workflow
async def dunning(ctx: Context, job: Job) -> bool:
    """A reminder a week, after somebody said yes."""
    if job.version == 1:
        await ctx.sleep(7 * DAY)
    decision = await ctx.approval(f"send dunning mail x {job.version}", detail=job, timeout=DAY)
    return bool(decision.approved)


@app.workflow
async def onboarding(ctx: Context, job: Job) -> str:
    """Waits until the customer has confirmed."""
    confirmed: str = await ctx.signal("confirmed", type=str)
    return confirmed
