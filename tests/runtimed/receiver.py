"""A receiver of webhooks on the loopback that verifies what comes with the specification's own library, and fails or
stalls as its script says."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import h11
import msgspec
import trio
from standardwebhooks import Webhook

STALL, HANG_UP = 0, -1
"""Instead of a status: never answer; close without an answer."""


class Receiver:
    """What came and how it was answered: statuses in turn, the last one for all that follows."""

    def __init__(self, secret: str, answers: Iterable[int]) -> None:
        self.hook, self.answers = Webhook(secret), deque(answers)
        self.url = ""
        self.headers: list[dict[str, str]] = []
        self.messages: list[Any] = []
        self.taken: list[Any] = []
        self.stalls = trio.Event()
        self._came = trio.Event()

    async def until(self, count: int, *, taken: bool = True) -> None:
        """Wait until so many messages were taken (or, without that, came)."""
        with trio.fail_after(60):
            while len(self.taken if taken else self.messages) < count:
                await self._came.wait()

    async def until_told(self, run_ids: set[str]) -> None:
        """Wait until messages about exactly these runs were taken, and see that each of them had one id."""
        with trio.fail_after(60):
            while {each["data"]["run_id"] for each in self.taken} != run_ids:
                await self._came.wait()
        told = {
            (each["data"]["run_id"], headers["webhook-id"])
            for each, headers in zip(self.messages, self.headers, strict=True)
        }
        assert len(told) == len(run_ids), told

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, one message; a sender that dies in the middle of it has sent none."""
        async with stream:
            try:
                await self._serve(stream)
            except (h11.RemoteProtocolError, trio.BrokenResourceError):
                return

    async def _serve(self, stream: trio.SocketStream) -> None:
        parser = h11.Connection(h11.SERVER)
        headers: dict[str, str] = {}
        body = b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await stream.receive_some(65_536))
            elif isinstance(event, h11.Request):
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:  # it closed before it had sent anything
                return
        await self._answer(stream, parser, headers, body)

    async def _answer(
        self, stream: trio.SocketStream, parser: h11.Connection, headers: dict[str, str], body: bytes
    ) -> None:
        self.hook.verify(body, headers)  # raises, and so fails the test, if it was not signed rightly
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        message = msgspec.json.decode(body)
        self.headers.append(headers)
        self.messages.append(message)
        if 200 <= answer < 300:
            self.taken.append(message)
        self._came.set()
        self._came = trio.Event()
        if answer == STALL:
            self.stalls.set()
            await trio.sleep_forever()
        if answer != HANG_UP:
            head = h11.Response(status_code=answer, headers=[("content-length", "0"), ("location", self.url)])
            await stream.send_all(b"".join(parser.send(each) or b"" for each in (head, h11.EndOfMessage())))


@asynccontextmanager
async def receiving(secret: str, *answers: int) -> AsyncIterator[Receiver]:
    """A receiver at work, for the time of the block."""
    receiver = Receiver(secret, answers or (204,))
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        receiver.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/hook"
        nursery.start_soon(trio.serve_listeners, receiver.serve, [listener])
        yield receiver
        nursery.cancel_scope.cancel()
