"""So many connectors to a server on the loopback, each polled once and then idle: what they hold, and what they do."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import msgspec
import trio

from runtimed import App, open_runtime
from runtimed.settings import Connector, Settings

REST_SECONDS = 2.0
ANSWER = b'[{"id":1,"updated":1}]'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)


async def answer(stream: trio.SocketStream) -> None:
    """One record to whoever asks, on connections that stay open."""
    received = b""
    async with stream:
        async for data in stream:
            received += data
            while b"\r\n\r\n" in received:
                received = received.partition(b"\r\n\r\n")[2]
                await stream.send_all(HEAD + ANSWER)


def resident_bytes() -> int:
    """Resident memory of this process."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


async def measure(count: int) -> dict[str, float]:
    """Figures with so many connectors at rest."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/things"
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        options = {"url": url, "cursor_field": "updated", "cursor_param": "since"}
        made = Connector(kind="http_json", key="id", every=3_600.0, options=options)
        settings = Settings(connectors={f"c{number}": made for number in range(count)})
        with tempfile.TemporaryDirectory() as folder:
            async with open_runtime(App("idle"), folder, settings=settings) as runtime:
                while not all(view.polls_total and view.status == "ok" for view in runtime.connectors()):  # noqa: ASYNC110 - as seen from outside
                    await trio.sleep(0.05)
                before = time.process_time()
                await trio.sleep(REST_SECONDS)
                used = time.process_time() - before
                records = sum(view.records_total for view in runtime.connectors())
                figures = {"records": records, "cpu_s": used, "resident_bytes": resident_bytes()}
        nursery.cancel_scope.cancel()
    return figures


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(trio.run(measure, int(sys.argv[1]))))
