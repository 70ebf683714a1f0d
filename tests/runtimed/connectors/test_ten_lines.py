from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import trio

from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed import open_runtime

PAGE = Path(__file__).resolve().parents[3] / "docs" / "connectors.md"
PEOPLE = 5


async def onboard(ctx: Context, person: dict[str, Any]) -> Any:
    return person["id"]


def the_example(url: str) -> App:
    """The app of the first Python block of the page, with another address."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    code = found[1].replace("https://crm.example", url)
    assert url in code
    names: dict[str, Any] = {"onboard": "workflow:onboard"}
    exec(compile(code, str(PAGE), "exec"), names)
    app: App = names["app"]
    app.workflow(onboard)
    return app


async def crm(stream: trio.SocketStream) -> None:
    """People in pages of two, after an id."""
    received = b""
    async with stream:
        async for data in stream:
            received += data
            while b"\r\n\r\n" in received:
                head, _, received = received.partition(b"\r\n\r\n")
                query = parse_qs(urlsplit(head.split()[1].decode()).query)
                after = int(query["after"][0])
                ids = list(range(after + 1, min(after + 2, PEOPLE) + 1))
                last = ids[-1] if ids else after
                body = msgspec.json.encode(
                    {"people": [{"id": id} for id in ids], "last_id": last, "more": last < PEOPLE}
                )
                answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                await stream.send_all(answer + body)


@pytest.mark.slow
@pytest.mark.trio
async def test_the_ten_lines_of_the_page_work() -> None:
    """What the page teaches runs as it stands: every person is onboarded once, in pages, from the cursor on."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, crm, [listener])
        app = the_example(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
        async with open_runtime(app, writer="memory") as runtime:
            with trio.fail_after(20.0):
                seq = 0
                while (await runtime.runs(status="completed")).total < PEOPLE:
                    seq = await runtime.feed.wait_beyond(seq)
            ids = [run.id for run in (await runtime.runs()).items]
            assert sorted(ids) == [f"people:{number}" for number in range(1, PEOPLE + 1)]
            (shown,) = runtime.connectors()
            assert (bytes(shown.cursor), shown.last_error) == (b"5", None)
        nursery.cancel_scope.cancel()
