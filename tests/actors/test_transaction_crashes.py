"""P3 for transactions: killed anywhere, again and again, no amount is lost, made, or moved twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
import trio

from actors.errors import Failure, RunFailed
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from actors.transaction import Transaction
from runtimed.testing import crash_everywhere
from runtimed.virtual import VirtualRuntime
from wal import records as r
from wal.records import Entry

app = App("bank")
ACCOUNTS = ("a", "b", "c")
EACH = 100


class Refused(Failure):
    """There is not enough."""


class Move(msgspec.Struct, frozen=True):
    source: str
    to: str
    amount: int


@app.transaction
def open_accounts(tx: Transaction) -> None:
    for account in ACCOUNTS:
        tx.global_state.put(account, EACH, expect_version=0)


@app.transaction
def move(tx: Transaction, what: Move) -> int:
    state = tx.global_state
    left: int = state.get(what.source, int) - what.amount
    state.put(what.source, left)
    if left < 0:
        raise Refused(f"{left} on {what.source}")
    state.put(what.to, state.get(what.to, int) + what.amount)
    tx.state.put("moved", tx.state.get("moved", int, 0) + 1)
    return left


@move.compensation
def move_back(tx: Transaction, left: int, what: Move) -> None:
    state = tx.global_state
    state.put(what.to, state.get(what.to, int) - what.amount)
    state.put(what.source, state.get(what.source, int) + what.amount)
    tx.state.put("moved", tx.state.get("moved", int) - 1)


@app.step(retry=Retry(max_attempts=2, initial_interval=1.0, jitter=0.0))
async def wait_a_little(seconds: float) -> None:
    await trio.sleep(seconds)


@app.workflow
async def mover(ctx: Context, moves: list[Move]) -> int:
    """All of them or none."""
    for what in moves:
        await ctx.step(move, what)
        await ctx.step(wait_a_little, 0.5)
    return len(moves)


@app.workflow
async def bank(ctx: Context) -> list[int]:
    await ctx.step(open_accounts)
    there, back = [Move("a", "b", 30), Move("b", "c", 10)], [Move("b", "a", 20), Move("c", "a", 5)]
    return [*await ctx.gather(ctx.child(mover, there), ctx.child(mover, back))]


@app.workflow
async def bank_that_refuses(ctx: Context) -> None:
    await ctx.step(open_accounts)
    await ctx.gather(*(ctx.step(move, Move("a", to, 60)) for to in ("b", "c")))


@app.workflow
async def bank_alone(ctx: Context, moves: list[list[Move]]) -> None:
    await ctx.step(open_accounts)
    for number, each in enumerate(moves):
        await ctx.start_child(mover, each, id=f"mover-{number}")


def balances(entries: Iterable[Entry]) -> dict[str, Any]:
    """What all state comes to by these records."""
    found: dict[str, Any] = {}
    for entry in entries:
        if isinstance(entry.record, r.StateWritten):
            found[entry.record.name] = msgspec.json.decode(entry.record.value)
    return {account: found[account] for account in ACCOUNTS if account in found}


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize("workflow", [bank, bank_that_refuses])
async def test_nothing_is_done_twice_wherever_it_is_killed(workflow: Any, figures: Callable[..., None]) -> None:
    """The same end after a kill at each record, and again in the recovery; no transaction can run twice, and all that
    the report names are steps."""
    report = await crash_everywhere(workflow, twice=True, pairs_max=300)
    report.check()
    assert not [step for step in report.repeatable if not step.startswith("wait_a_little")]
    assert not [cut for cut in report.cuts if cut.in_doubt]
    accounts = [line for line in report.ending.state if line.startswith("global/")]
    assert sum(int(line.split(" = ")[1].split()[0]) for line in accounts) == EACH * len(ACCOUNTS)
    figures(f"P3 {workflow.name}", cuts=len(report.cuts), different=len(report.differing))


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_amounts_stay_whole_over_crashes_at_any_moment(runtime: VirtualRuntime, seed: int) -> None:
    """Several runs that move amounts to and fro, some refused and undone, with kills at random: at each of them, and
    in the end, there is as much as there was, and each run has moved all of its amounts or none."""
    dice = random.Random(seed)
    moves = [
        [Move(*dice.sample(ACCOUNTS, 2), dice.randrange(1, 70)) for _ in range(dice.randrange(1, 5))] for _ in range(6)
    ]
    await runtime.start(bank_alone, moves, id="bank")
    for _ in range(8):
        await runtime.advance(dice.random() * 0.6)
        await runtime.crash()
        found = balances(runtime.disk.entries)
        assert sum(found.values()) == EACH * len(found)
    await runtime.result("bank")
    for number, wanted in enumerate(moves):
        try:
            moved = await runtime.result(f"mover-{number}")
        except RunFailed:
            moved = 0
        row = await runtime.read(lambda reader, number=number: reader.state(f"run:mover-{number}", "moved"))
        assert moved in (0, len(wanted))
        assert (0 if row is None else msgspec.json.decode(row.value)) == moved
    assert sum(balances(runtime.disk.entries).values()) == EACH * len(ACCOUNTS)
