"""The workflows of the fault tests, served by the real daemon: every kind of call, and a witness for every effect.

A step's `tag` names its call within the run, once; so one tag of one run has one idempotency key, whatever happens.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import msgspec
import trio

from runtimed import App, Context, Failure, Rejected, Retry, current_step

WITNESS = os.environ.get("WITNESS_SOCKET", "")
QUICK = Retry(max_attempts=50, initial_interval=0.02, max_interval=0.2)


class Declined(Failure):
    """The outside says no, and would say so again."""


DECIDED = Retry(max_attempts=50, initial_interval=0.02, max_interval=0.2, non_retryable=(Declined,))


class Purchase(msgspec.Struct, frozen=True):
    """What one run is about: whether it waits for the signal `go`, and whether the last step is declined."""

    number: int
    wait: bool = False
    declined: bool = False


app = App("load")


def _request(tag: str, declined: bool) -> bytes:
    step = current_step()
    line = {
        "key": step.idempotency_key, "run": step.run_id, "name": step.name, "kind": step.kind, "attempt": step.attempt,
        "tag": tag, "declined": declined,
    }  # fmt: skip
    return json.dumps(line).encode() + b"\n"


def _value(reply: bytes) -> str:
    answer: dict[str, Any] = json.loads(reply)
    if "declined" in answer:
        raise Declined(answer["declined"])
    if "error" in answer:
        raise OSError(answer["error"])
    return str(answer["value"])


async def effect(tag: str, declined: bool = False) -> str:
    """One attempt, seen by the witness."""
    async with await trio.open_unix_socket(WITNESS) as stream:
        await stream.send_all(_request(tag, declined))
        reply = b""
        while not reply.endswith(b"\n"):
            part = await stream.receive_some()
            if not part:
                raise ConnectionError("the witness hung up")
            reply += part
    return _value(reply)


@app.step(retry=DECIDED, timeout=30.0)
async def charge(tag: str) -> str:
    """Take money."""
    return await effect(tag)


@charge.compensation(retry=QUICK)
async def refund(value: str, tag: str) -> str:
    """Give it back."""
    return await effect(f"undo-{tag}")


@app.step(retry=DECIDED)
def reserve(tag: str) -> str:
    """Take goods, from a thread."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(30.0)
        channel.connect(WITNESS)
        channel.sendall(_request(tag, False))
        with channel.makefile("rb") as answers:
            return _value(answers.readline())


@reserve.compensation(retry=QUICK)
async def release(value: str, tag: str) -> str:
    """Put them back."""
    return await effect(f"undo-{tag}")


@app.step(retry=DECIDED)
async def ship(tag: str, declined: bool = False) -> str:
    """Send a parcel, or have it declined."""
    return await effect(tag, declined)


@app.workflow(signals={"go": str})
async def purchase(ctx: Context, order: Purchase) -> list[str]:
    """Charge, reserve, wait if asked to, ship; undone if declined."""
    done = [await ctx.step(charge, "charge"), await ctx.step(reserve, "reserve")]
    if order.wait:
        done.append(await ctx.signal("go", timeout=3600.0))
    done.append(await ctx.step(ship, "ship", order.declined))
    return done


@app.workflow
async def review(ctx: Context, number: int) -> str:
    """Charge, and ship if somebody approves; a refusal gives the money back."""
    await ctx.step(charge, "charge")
    decision = await ctx.approval(f"Ship {number}?", detail={"number": number}, timeout=3600.0)
    if not decision.approved:
        raise Rejected(decision)
    return str(await ctx.step(ship, "ship"))


@app.workflow
async def nap(ctx: Context, rests: list[float]) -> list[str]:
    """A step, a rest, a step, a rest ..."""
    done = []
    for at, seconds in enumerate(rests):
        done.append(await ctx.step(ship, f"before-{at}"))
        await ctx.sleep(seconds)
    return [*done, await ctx.step(ship, "last")]


@app.workflow
async def fan(ctx: Context, width: int) -> list[Any]:
    """Several at once, a race, state of the run and of all, output; a block that is undone while the run goes on."""
    values = await ctx.gather(*(ctx.step(charge, f"item-{at}") for at in range(width)))
    await ctx.state.put("values", values)
    _, first = await ctx.race(one=ctx.step(ship, "one"), other=ctx.sleep(30.0))
    seen, _ = await ctx.global_state.get_versioned("fans", type=int)
    await ctx.global_state.put("fans", (seen or 0) + 1)
    try:
        async with ctx.saga():
            await ctx.step(charge, "inner")
            await ctx.step(ship, "inner-ship", True)
    except Exception as error:  # noqa: BLE001 - whichever way the step failed, its block is undone by now
        await ctx.emit({"undone": type(error).__name__})
    return [*values, first, await ctx.step(ship, "after")]
