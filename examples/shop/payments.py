"""The outside of the shop in one small process: payment provider, warehouse and carrier, and the witness of them all.

`python payments.py --ledger FILE` prints its address and serves until it is told to stop (SIGTERM, SIGINT).
Every wish (POST /charge, /refund, /reserve, /release, /ship) carries an `Idempotency-Key`; the effect of a key happens
once, a repeat gets the first answer. It fails and stalls now and then, as such services do, before the effect and,
worse, after it. Each request becomes one line of the ledger, so that afterwards nobody has to take the shop's word.

It knows nothing of runtimed: standard library only, and a folder of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

HEAD_MAX_BYTES = 16_384
BODY_MAX_BYTES = 65_536
STALL_SECONDS = 3.0  # longer than the shop is willing to wait

Answer = tuple[int, dict[str, Any]]


class Wish(NamedTuple):
    """One request, as the ledger needs it."""

    kind: str
    key: str
    attempt: int
    body: dict[str, Any]

    @property
    def order(self) -> str:
        """The order that it is about."""
        return str(self.body.get("order", ""))


def mood(wish: Wish, nth: int) -> str:
    """How the `nth` request with this key is treated: `well` mostly, else `before`, `after` (an error before or after
    the effect) or `stall`. A function of the key, never of the time, so a run of the shop can be repeated. A third
    request is always treated well: the service has bad moments, not bad days."""
    if nth > 2:
        return "well"
    draw = hashlib.blake2b(f"{wish.kind} {wish.order} {nth}".encode(), digest_size=2).digest()
    share = int.from_bytes(draw, "big") / 65_536
    if share < 0.03:
        return "before"
    if share < 0.06:
        return "after"
    return "stall" if share < 0.065 else "well"


class Outside:
    """What is charged, reserved and shipped: the first answer by idempotency key, and the charges by order."""

    def __init__(self, ledger: IO[str]) -> None:
        self._ledger = ledger
        self._answers: dict[str, Answer] = {}
        self._asked: dict[str, int] = {}
        self._charged: dict[str, int] = {}
        self._kinds: dict[str, Callable[[Wish], Answer]] = {
            "charge": self._charge,
            "refund": self._refund,
            "reserve": self._reserve,
            "release": self._done,
            "ship": self._done,
        }

    async def handle(self, wish: Wish) -> Answer:
        """Answer one wish. The effect and its ledger line happen together; what is left to chance is the answer."""
        if wish.kind not in self._kinds or not wish.key or not wish.order:
            return 400, {"code": "bad_request", "message": "POST /KIND with an Idempotency-Key and an order"}
        nth = self._asked[wish.key] = self._asked.get(wish.key, 0) + 1
        treated = mood(wish, nth)
        if treated == "before":
            self._note(wish, "failed")
            return 500, {"code": "internal", "message": "out of order, try again"}
        answer = self._answers.get(wish.key)
        if answer is None:
            answer = self._answers[wish.key] = self._kinds[wish.kind](wish)
            self._note(wish, "done" if answer[0] == 200 else str(answer[1]["code"]), answer[1].get("amount", 0))
        else:
            self._note(wish, "repeated")
        if treated == "after":
            return 500, {"code": "internal", "message": "something broke, nobody knows when"}
        if treated == "stall":
            await asyncio.sleep(STALL_SECONDS)
        return answer

    def _charge(self, wish: Wish) -> Answer:
        amount, currency = int(wish.body["amount"]), wish.body["currency"]
        if str(wish.body["card"]).startswith("tok_declined"):
            return 402, {"code": "card_declined", "message": "the bank declined the card"}
        self._charged[wish.order] = self._charged.get(wish.order, 0) + amount
        return 200, {"id": self._id(wish), "amount": amount, "currency": currency}

    def _refund(self, wish: Wish) -> Answer:
        amount = self._charged.pop(wish.order, 0)
        if amount == 0:
            return 200, {"id": "none", "amount": 0}
        return 200, {"id": self._id(wish), "amount": amount}

    def _reserve(self, wish: Wish) -> Answer:
        if str(wish.body["sku"]).endswith("-X"):
            return 409, {"code": "out_of_stock", "message": f"no {wish.body['sku']} left"}
        return self._done(wish)

    def _done(self, wish: Wish) -> Answer:
        return 200, {"id": self._id(wish)}

    def _id(self, wish: Wish) -> str:
        return f"{wish.kind[:2]}_{hashlib.blake2b(wish.key.encode(), digest_size=8).hexdigest()}"

    def _note(self, wish: Wish, outcome: str, amount: int = 0) -> None:
        line = {
            "kind": wish.kind, "order": wish.order, "key": wish.key, "attempt": wish.attempt, "outcome": outcome,
            "amount": amount,
        }  # fmt: skip
        self._ledger.write(json.dumps(line) + "\n")
        self._ledger.flush()


async def read_wish(reader: asyncio.StreamReader) -> Wish | None:
    """The next request of a connection, or None at its end. Raises ValueError for what is not a plain POST."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    request, *lines = head.split("\r\n")
    method, target, _ = request.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if method != "POST" or not 0 < length <= BODY_MAX_BYTES:
        raise ValueError("a POST with a body of moderate size")
    body = json.loads(await reader.readexactly(length))
    return Wish(target.strip("/"), headers.get("idempotency-key", ""), int(headers.get("x-attempt", "0")), body)


def encode(status: int, body: dict[str, Any]) -> bytes:
    """An HTTP response with a JSON body."""
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'No'}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def converse(outside: Outside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection until the other side has enough, or makes no sense."""
    try:
        while (wish := await read_wish(reader)) is not None:
            writer.write(encode(*await outside.handle(wish)))
            await writer.drain()
    except (ValueError, KeyError, asyncio.LimitOverrunError) as error:
        writer.write(encode(400, {"code": "bad_request", "message": str(error)}))
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass  # the shop was killed in mid-sentence, or we stop: what has happened is in the ledger
    finally:
        writer.close()


async def serve(ledger_path: Path, port: int, *, until_eof: bool) -> None:
    """Serve on loopback until SIGTERM or SIGINT, or the end of stdin; prints the address first."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ledger_path.open("a", encoding="utf-8") as ledger:
        outside = Outside(ledger)
        server = await asyncio.start_server(
            lambda reader, writer: converse(outside, reader, writer),
            "127.0.0.1",
            port,
            limit=HEAD_MAX_BYTES,
            backlog=1_024,
        )
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        if until_eof:
            loop.add_reader(sys.stdin.fileno(), stop.set)  # nothing is ever written to it: readable means closed
        await stop.wait()
        server.close()


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(description="payment provider, warehouse and carrier of the example shop")
    parser.add_argument("--ledger", type=Path, required=True, help="append every request to this file")
    parser.add_argument("--port", type=int, default=0, help="0 (default) lets the system choose")
    parser.add_argument("--until-eof", action="store_true", help="stop when stdin (a pipe) is closed")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.ledger, arguments.port, until_eof=arguments.until_eof))


if __name__ == "__main__":
    main()
