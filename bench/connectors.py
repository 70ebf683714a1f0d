"""Records a second from a local Singer child into the journal: the real poller, the real writer process, FULL."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import trio

from bench.figures import Figure
from runtimed import App, open_runtime
from runtimed.settings import Connector, Settings

RECORDS = 500_000
RECORDS_PER_SECOND = 100_000.0
PATIENCE_S = 300.0
TAP = str(Path(__file__).with_name("tap.py"))


async def records_per_second(folder: Path, records: int) -> float:
    """From the start of the poll, the child's own start included, to the last record's being on disk."""
    crm = Connector(kind="singer", command=(sys.executable, "-S", TAP), config={"count": records}, every=3600.0)
    settings = Settings(connectors={"crm": crm})
    async with open_runtime(App("bench"), folder, settings=settings) as runtime:
        began = time.perf_counter()
        await runtime.poll_connector("crm")
        with trio.fail_after(PATIENCE_S):
            while runtime.connectors()[0].records_total < records:  # noqa: ASYNC110 - as people look: from outside
                await trio.sleep(0.01)
        rate = records / (time.perf_counter() - began)
        stored = await runtime.read(lambda reader: {stream.name: stream.records for stream in reader.streams()})
    assert stored == {"customers": records}, stored
    return rate


def measure(folder: Path) -> list[Figure]:
    """One sync of half a million records into an empty journal."""
    rate = trio.run(partial(records_per_second, folder / "sync", RECORDS))
    return [Figure(f"records from a Singer child, {RECORDS:,} of them, FULL", rate, "1/s", at_least=RECORDS_PER_SECOND)]
