from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import trio

from actors.connector_spec import Page, Poll
from actors.flow.context import Context
from actors.flow.definitions import App
from actors.supervisor import Supervisor
from runtimed.virtual import VirtualRuntime
from tests.actors.faults import Fault, every_point
from tests.actors.sources import declare, of_kind, stored, until, view
from wal import records as r

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
TOTAL = 12


async def greet(ctx: Context, row: dict[str, Any]) -> Any:
    return row["id"]


async def rows(poll: Poll[int]) -> AsyncIterator[Page]:
    """Pages of three that overlap by one, as sources do that are read inclusively."""
    for first in range(poll.cursor or 0, TOTAL, 2):
        await trio.sleep(0.01)
        ids = range(first, min(first + 3, TOTAL))
        yield Page(records=[{"id": id} for id in ids], cursor=min(first + 2, TOTAL))


def make_app() -> App:
    app = App("faulty")
    app.workflow(greet)
    declare(app, "rows", rows, cursor_type=int, every=5.0)
    declare(app, "runs", rows, app.workflows["greet"], cursor_type=int, every=5.0)
    declare(app, "calm", rows, cursor_type=int, every=5.0)
    return app


def put_in_place(runtime: VirtualRuntime, path: str, wrap: Callable[..., Fault]) -> Fault:
    """Wrap the life of the actor at `path`, before it is started."""
    supervisor, (index,) = runtime.root._find(path)
    assert isinstance(supervisor, Supervisor)
    child = supervisor._children[index]
    fault = wrap(child.spec.run)
    child.spec = msgspec.structs.replace(child.spec, run=fault.run)
    return fault


@pytest.mark.parametrize("actor", ["root/connectors/rows", "root/connectors/runs", "root/engine/coordinator"])
def test_an_error_wherever_it_waits_loses_and_doubles_nothing(
    actor: str, figures: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """P12: an error at any await point of a poller, of the source in it, or of the coordinator: every record is there
    once, every key has one run, and the connector polls on; its sibling was not touched."""

    async def scenario(wrap: Callable[..., Fault]) -> None:
        async with trio.open_nursery() as nursery:
            runtime = VirtualRuntime(nursery, [make_app()], seed=1)
            fault = put_in_place(runtime, actor, wrap)
            await runtime.open()

            def done() -> bool:
                shown = runtime.connectors()
                return all(bytes(each.cursor) == b"12" and each.status == "ok" for each in shown)

            await until(done, step=0.5)
            polls = {each.name: each.polls_total for each in runtime.connectors()}
            await until(lambda: all(view(runtime, name).polls_total > count for name, count in polls.items()), step=0.5)
            assert len(await stored(runtime, "rows")) == len(await stored(runtime, "calm")) == TOTAL
            started = sorted(record.id for record in of_kind(runtime, r.RunStarted))
            assert started == sorted(f"runs:{number}" for number in range(TOTAL))
            calm = next(each for each in runtime.tree() if each.path == "root/connectors/calm")
            assert (calm.restarts, view(runtime, "calm").errors_total) == (0, 0)
            struck.append(fault.struck)
            await runtime.stop()

    struck: list[bool] = []
    caplog.set_level(logging.CRITICAL)
    points = every_point(scenario)
    assert points > 10
    assert sum(struck) > points
    figures("P12", **{f"{actor.rpartition('/')[2]}_with_connectors_points": points})
