"""Random workflows as data, and the one workflow that carries them out.

A program is a tree of tuples; the first item of each is its kind, which names the function in `KINDS` that runs it. So
a program can be made from a seed, changed a little as a deployment changes code, and printed when a test fails.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from actors.errors import Failure, VersionConflict
from actors.flow.definitions import App
from tests.actors.flow.harness import ONCE, Traced

Node = tuple[Any, ...]
Where = tuple[int, ...]  # the scopes round a node: which failures undo it together
DEPTH_MAX = 4

app = App("programs")


@app.step
async def plain(label: int) -> Any: ...


@app.step
async def book(label: int) -> Any: ...


@book.compensation
async def unbook(result: Any, label: int) -> None: ...


@app.step
async def gate(label: int) -> Any: ...


@gate.compensation(on_unknown=True)
async def ungate(result: Any, label: int) -> None: ...


@app.step(delivery="at_most_once", retry=ONCE)
async def once(label: int) -> Any: ...


@once.compensation
async def unonce(result: Any, label: int) -> None: ...


@app.step(delivery="at_most_once")
async def clean(label: int) -> None: ...


STEPS = {"plain": plain, "book": book, "gate": gate, "once": once}


class Told(Failure):
    """A failure that the program asks for."""


@app.workflow
async def offspring(ctx: Traced, label: int) -> Any: ...


@app.workflow(signals={"n": int})
async def program(ctx: Traced) -> Any:
    node, _ = ctx.extra
    ctx.scope_of = {}
    ctx.scopes = 0
    return await carry_out(ctx, node, ())


async def carry_out(ctx: Traced, node: Node, where: Where) -> Any:
    ctx.saw("at", node[0], ctx.now())
    return await KINDS[node[0]](ctx, node, where)


async def run_step(ctx: Traced, node: Node, where: Where) -> Any:
    call = ctx.step(STEPS[node[1]], node[2])
    try:
        got = await call
    finally:
        if call.key:
            ctx.scope_of[call.key] = where
    ctx.saw("step", got)
    return got


async def run_sleep(ctx: Traced, node: Node, where: Where) -> None:
    await ctx.sleep(node[1])
    ctx.saw("slept", ctx.now())


async def run_until(ctx: Traced, node: Node, where: Where) -> None:
    await ctx.sleep_until(datetime(2023, 11, 15, tzinfo=UTC) + timedelta(seconds=node[1]))


async def run_signal(ctx: Traced, node: Node, where: Where) -> Any:
    got = await ctx.signal(node[1], timeout=node[2])
    ctx.saw("signal", node[1], got)
    return got


async def run_emit(ctx: Traced, node: Node, where: Where) -> None:
    await ctx.emit(node[1])
    ctx.saw("emitted", ctx.now())


async def run_put(ctx: Traced, node: Node, where: Where) -> Any:
    try:
        version = await ctx.state.put(node[1], node[2], expect_version=node[3])
    except VersionConflict as error:
        version = str(error)
    ctx.saw("put", version)
    return version


async def run_get(ctx: Traced, node: Node, where: Where) -> Any:
    got = await ctx.state.get_versioned(node[1])
    ctx.saw("got", got)
    return got


async def run_patched(ctx: Traced, node: Node, where: Where) -> Any:
    new = ctx.patched(node[1])
    ctx.saw("patched", new)
    return await carry_out(ctx, node[2] if new else node[3], where)


async def run_observe(ctx: Traced, node: Node, where: Where) -> float:
    seen = ctx.random()
    ctx.saw("saw", seen, ctx.uuid(), ctx.now())
    return seen


async def run_gather(ctx: Traced, node: Node, where: Where) -> Any:
    return await ctx.gather(*(branch(ctx, one, where) for one in node[1]))


async def run_race(ctx: Traced, node: Node, where: Where) -> Any:
    _, items, undo_losers = node
    places = [own_scope(ctx, where) if undo_losers else where for _ in items]
    calls = {f"b{i}": branch(ctx, one, places[i]) for i, one in enumerate(items)}
    won = await ctx.race(undo_losers=undo_losers, **calls)
    ctx.saw("won", won)
    return won


def branch(ctx: Traced, node: Node, where: Where) -> Any:
    """A branch of a group: sometimes the bare call, sometimes a coroutine."""
    if node[0] == "sleep" and node[1] > 30:
        return ctx.sleep(node[1])
    return carry_out(ctx, node, where)


def own_scope(ctx: Traced, where: Where) -> Where:
    ctx.scopes += 1
    return (*where, ctx.scopes)


async def run_child(ctx: Traced, node: Node, where: Where) -> Any:
    got = await ctx.child(offspring, node[1])
    ctx.saw("child", got)
    return got


async def run_started(ctx: Traced, node: Node, where: Where) -> Any:
    """A child that is asked for its result when something else was done, or never."""
    child = await ctx.start_child(offspring, node[1])
    ctx.saw("started", child.id)
    got = await carry_out(ctx, node[2], where)
    return await child.result() if node[1] % 3 else got


async def run_saga(ctx: Traced, node: Node, where: Where) -> Any:
    async with ctx.saga():
        return await carry_out(ctx, node[1], own_scope(ctx, where))


async def run_undo(ctx: Traced, node: Node, where: Where) -> None:
    ctx.add_compensation(clean, node[1])


async def run_attributes(ctx: Traced, node: Node, where: Where) -> None:
    ctx.set_attributes(label=node[1])


async def run_fail(ctx: Traced, node: Node, where: Where) -> None:
    raise Told("as told")


async def run_bug(ctx: Traced, node: Node, where: Where) -> None:
    if node[1] not in ctx.extra[1]:
        raise ValueError(f"bug {node[1]}")


async def run_try(ctx: Traced, node: Node, where: Where) -> Any:
    try:
        return await carry_out(ctx, node[1], where)
    except Failure as error:
        ctx.saw("caught", type(error).__name__, str(error))
        return await carry_out(ctx, node[2], where)


async def run_finally(ctx: Traced, node: Node, where: Where) -> Any:
    try:
        return await carry_out(ctx, node[1], where)
    finally:
        await carry_out(ctx, node[2], where)


async def run_deaf(ctx: Traced, node: Node, where: Where) -> Any:
    """Catches everything, a cancellation included, and goes on."""
    try:
        return await carry_out(ctx, node[1], where)
    except BaseException as error:
        if isinstance(error, ValueError):
            raise  # a bug that is swallowed cannot be mended
        ctx.saw("deaf", type(error).__name__)
        return await carry_out(ctx, node[2], where)


async def run_seq(ctx: Traced, node: Node, where: Where) -> Any:
    got = None
    for one in node[1]:
        got = await carry_out(ctx, one, where)
    return got


KINDS: dict[str, Callable[[Traced, Node, Where], Awaitable[Any]]] = {
    "step": run_step, "sleep": run_sleep, "until": run_until, "signal": run_signal, "emit": run_emit, "put": run_put,
    "get": run_get, "patched": run_patched, "observe": run_observe, "gather": run_gather, "race": run_race,
    "saga": run_saga, "undo": run_undo, "attributes": run_attributes, "fail": run_fail, "bug": run_bug, "try": run_try,
    "finally": run_finally, "deaf": run_deaf, "seq": run_seq, "child": run_child, "started": run_started,
}  # fmt: skip

WEIGHTS = {
    "step": 34, "sleep": 7, "until": 2, "signal": 12, "emit": 5, "put": 3, "get": 2, "observe": 4, "undo": 3,
    "attributes": 1, "fail": 1.5, "bug": 0.8, "patched": 3, "gather": 10, "race": 11, "saga": 9, "try": 9, "finally": 2,
    "deaf": 1.5, "seq": 14, "child": 7, "started": 3,
}  # fmt: skip
LEAVES = (
    "step",
    "sleep",
    "until",
    "signal",
    "emit",
    "put",
    "get",
    "observe",
    "undo",
    "attributes",
    "fail",
    "bug",
    "child",
)


class Maker:
    """Makes random programs; labels make every step's arguments its own."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.label = 0

    def program(self) -> Node:
        return ("seq", [self.node(1) for _ in range(self.rng.randint(3, 7))])

    def node(self, depth: int) -> Node:
        kinds = list(LEAVES) if depth >= DEPTH_MAX else list(WEIGHTS)
        kind = self.rng.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
        self.label += 1
        return self.leaf(kind) if kind in LEAVES else self.inner(kind, depth + 1)

    def leaf(self, kind: str) -> Node:
        rng, label = self.rng, self.label
        if kind == "step":
            return ("step", rng.choice(("plain", "book", "book", "book", "gate", "once")), label)
        if kind in ("sleep", "until"):
            return (kind, rng.choice((0, 5, 60)))
        if kind == "signal":
            return ("signal", rng.choice("stn"), rng.choice((None, None, None, 0, 10)))
        if kind == "put":
            return ("put", rng.choice("ab"), label, rng.choice((None, None, 0, 1)))
        return (kind, rng.choice("ab") if kind == "get" else label)

    def inner(self, kind: str, depth: int) -> Node:
        rng = self.rng
        if kind in ("gather", "seq"):
            return (kind, [self.node(depth) for _ in range(rng.randint(1, 3))])
        if kind == "race":
            return ("race", [self.node(depth) for _ in range(rng.randint(2, 3))], rng.random() < 0.4)
        if kind == "patched":
            return ("patched", f"p{rng.randint(0, 2)}", self.node(depth), self.node(depth))
        if kind == "saga":
            return ("saga", self.node(depth))
        if kind == "started":
            return ("started", self.label, self.node(depth))
        return (kind, self.node(depth), self.node(depth))


def changed(rng: random.Random, node: Node) -> Node:
    """The program with one step of another label, as a careless deployment would have it."""
    places: list[Node] = []

    def find(one: Any) -> None:
        if isinstance(one, tuple) and one and one[0] == "step":
            places.append(one)
        elif isinstance(one, tuple | list):
            for item in one:
                find(item)

    find(node)
    if not places:
        return node
    target = rng.choice(places)

    def put(one: Any) -> Any:
        if one is target:
            return ("step", target[1], target[2] + 1_000)
        return type(one)(put(item) for item in one) if isinstance(one, tuple | list) else one

    changed_node: Node = put(node)
    return changed_node
