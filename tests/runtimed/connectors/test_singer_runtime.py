"""A Singer tap in the real runtime, on disk: what people see of it, and what they decide."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from actors import messages as m
from runtimed import App, open_runtime
from runtimed.runtime import Runtime
from runtimed.settings import Connector, Settings
from tests.runtimed.connectors.test_child import is_alive
from wal.views import ConnectorView

TAP = str(Path(__file__).with_name("tap_faults.py"))
PATIENCE_S = 60.0
pytestmark = [pytest.mark.trio, pytest.mark.slow]


@asynccontextmanager
async def opened(
    folder: Path, *, timeout: float = 30.0, every: float = 3600.0, **config: Any
) -> AsyncIterator[Runtime]:
    """A runtime with one tap."""
    table = Connector(
        kind="singer", command=(sys.executable, "-S", TAP), config=config, every=every, timeout=timeout,
        options={"grace": 0.05},
    )  # fmt: skip
    settings = Settings(connectors={"crm": table})
    async with open_runtime(App("none"), folder, settings=settings, writer="inline") as runtime:
        yield runtime


def view(runtime: Runtime) -> ConnectorView:
    (found,) = runtime.connectors()
    return found


async def until(runtime: Runtime, condition: Callable[[ConnectorView], bool]) -> ConnectorView:
    """Look at the connector after each commit, and now and then, because a failed poll commits nothing."""
    with trio.fail_after(PATIENCE_S):
        while not condition(view(runtime)):
            with trio.move_on_after(0.05):
                await runtime.feed.wait_beyond(runtime.feed.seq)
    return view(runtime)


async def people(runtime: Runtime) -> list[int]:
    found: list[int] = []
    after = 0
    while True:
        page = await runtime.read(lambda reader, after=after: reader.stored("people", after=after, limit=500))
        if page is None or not page.items:
            return sorted(found)
        after = page.items[-1].seq
        found += [msgspec.json.decode(item.data)["id"] for item in page.items]


async def open_approvals(runtime: Runtime) -> list[Any]:
    return (await runtime.approvals(status="open")).items


async def until_asked(runtime: Runtime) -> Any:
    with trio.fail_after(PATIENCE_S):
        seq = runtime.feed.seq  # before looking: what comes while we look is to wake us
        while not (found := await open_approvals(runtime)):
            seq = await runtime.feed.wait_beyond(seq)
    (approval,) = found
    return approval


async def test_a_sync_and_its_restart(tmp_path: Path) -> None:
    """Records are in the store, the state is the cursor, and a new runtime goes on from it."""
    async with opened(tmp_path, count=2_500, every=3600.0) as runtime:
        shown = await until(runtime, lambda view: view.records_total >= 2_500)
        assert (shown.kind, shown.errors_total, bytes(shown.cursor)) == ("singer", 0, b'{"id":2500}')
    async with opened(tmp_path, count=2_600) as runtime:
        await until(runtime, lambda view: view.records_total == 2_600)
        assert await people(runtime) == list(range(2_600))
    assert list((tmp_path / "connectors" / "crm").iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "status", "sentence"),
    [
        ("crash", "backoff", "tap_faults.py ended with code 3: Traceback: the source's"),
        ("huge", "backoff", "a line is longer than 16,777,216 bytes"),
        ("garbled", "backoff", "a line is no Singer message"),
        ("hang", "backoff", "it has said nothing for 1 s"),
        ("half", "backoff", "ended in the middle of a line"),
    ],
)
async def test_each_fault_has_its_clear_status(
    tmp_path: Path,
    fault: str,
    status: str,
    sentence: str,
    silent_from: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a tap does wrong is the connector's last error, and what it had said before is kept."""
    monkeypatch.setattr("actors.connector_core.BACKOFF_FIRST_S", 3_600.0)  # it stays as it stands
    if fault == "hang":
        silent_from(tmp_path / "pid")
    config = {"count": 20, "at": 13, "fault": fault, "pid_file": str(tmp_path / "pid")}
    async with opened(tmp_path / "data", timeout=1.0 if fault == "hang" else 30.0, **config) as runtime:
        shown = await until(runtime, lambda view: view.errors_total >= 1 and view.last_error is not None)
        assert shown.status == status
        assert shown.last_error is not None and sentence.replace("tap_faults.py", Path(sys.executable).name) in (
            shown.last_error
        )
        assert await people(runtime) == list(range(13))
        assert bytes(shown.cursor) == b'{"id":10}'


async def test_a_record_without_a_key_is_set_aside(tmp_path: Path) -> None:
    """It is counted as refused, and the rest of the page is taken."""
    async with opened(tmp_path, count=20, at=13, fault="keyless") as runtime:
        shown = await until(runtime, lambda view: bytes(view.cursor) == b'{"id":20}')
        assert (shown.refused_total, shown.errors_total) == (1, 0)
        assert await people(runtime) == list(range(20))


async def test_stopping_ends_the_tap(tmp_path: Path) -> None:
    """A runtime that stops in the middle of a sync leaves no child, stubborn ones included."""
    pid = tmp_path / "pid"
    async with opened(tmp_path / "data", count=20, at=13, fault="stubborn", pid_file=str(pid)) as runtime:
        await until(runtime, lambda view: pid.exists() and bytes(view.cursor) == b'{"id":10}')
    assert not is_alive(int(pid.read_text(encoding="utf-8")))


async def test_a_narrower_schema_asks_and_yes_goes_on(tmp_path: Path) -> None:
    """The connector is paused and says why, nothing is taken, one approval is open, also over a restart; on yes the
    shape is taken over and the sync goes on."""
    async with opened(tmp_path, count=10) as runtime:
        await until(runtime, lambda view: bytes(view.cursor) == b'{"id":10}')
    narrow = {"count": 20, "schema": "narrow"}
    async with opened(tmp_path, **narrow) as runtime:
        shown = await until(runtime, lambda view: view.status == "paused" and view.last_error is not None)
        assert shown.last_error == "stream people narrows: property email is gone"
        await until_asked(runtime)
    async with opened(tmp_path, **narrow) as runtime:
        approval = await until_asked(runtime)
        assert approval.title == "Accept the narrower schema of people from crm?"
        assert await people(runtime) == list(range(10))
        await runtime.decide(approval.id, approve=True, by="kim", reason="it was meant")
        shown = await until(runtime, lambda view: bytes(view.cursor) == b'{"id":20}')
        assert shown.status in ("ok", "polling")
        assert await people(runtime) == list(range(20))
        assert await open_approvals(runtime) == []


async def test_a_narrower_schema_that_is_refused_stands(tmp_path: Path) -> None:
    """On no it stays paused; resumed by hand it meets the same schema, and people are asked anew."""
    async with opened(tmp_path, count=10) as runtime:
        await until(runtime, lambda view: bytes(view.cursor) == b'{"id":10}')
    async with opened(tmp_path, count=20, schema="narrow") as runtime:
        first = await until_asked(runtime)
        await runtime.decide(first.id, approve=False, by="kim", reason="not so")
        await runtime.result(first.run_id)
        assert view(runtime).status == "paused"
        await runtime.ask(m.ResumeConnector(name="crm", reason="look again"))
        second = await until_asked(runtime)
        assert second.run_id != first.run_id
        await until(runtime, lambda view: view.status == "paused")
        assert await people(runtime) == list(range(10))


async def test_no_file_of_a_poll_is_readable_by_others(tmp_path: Path) -> None:
    """The connector's folder is ours alone."""
    async with opened(tmp_path, count=1) as runtime:
        await until(runtime, lambda view: view.records_total == 1)
    assert os.stat(tmp_path / "connectors" / "crm").st_mode & 0o777 == 0o700
