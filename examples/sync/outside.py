"""The outside of the sync in one small process: a source in Stripe's shape, a mailer, and the witness of both.

`python outside.py --ledger FILE` prints its address and serves until it is told to stop (SIGTERM, SIGINT).
`GET /v1/customers` lists customers newest first, in pages (`limit`, `starting_after`, `has_more`, `created[gte]`), to
whoever brings the right key. While it is read, more customers sign up. `POST /mail` sends a mail; the effect of an
`Idempotency-Key` happens once. Both have bad moments: 429 with Retry-After, 500 before the effect and, worse, after it.
Each customer and each mail is a line of the ledger, so that afterwards nobody has to take the sync's word.

It knows nothing of runtimed: standard library only, and a folder of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import sys
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

KEY = "sk_test_sync"
CUSTOMERS = 1_200  # at the beginning
LATER = 50  # sign up while they are read, a few with each page
LATER_A_PAGE = 5
FIRST_CREATED = 1_760_000_000
LARGE_SEATS = 500
HEAD_MAX_BYTES, BODY_MAX_BYTES = 16_384, 65_536
PAGE_MAX = 100

Json = dict[str, Any]
NAMES = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Leslie", "Frances", "Niklaus", "Radia")
TOWNS = ("Oslo", "Bern", "Lyon", "Turin", "Graz", "Delft", "Cork", "Gent")


class Answer(NamedTuple):
    """A status, a body, and further headers."""

    status: int
    body: Json
    headers: tuple[tuple[str, str], ...] = ()


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Json


def draw(*parts: object) -> float:
    """A number from 0 to 1 that is always the same for these parts."""
    digest = hashlib.blake2b(" ".join(map(str, parts)).encode(), digest_size=2).digest()
    return int.from_bytes(digest, "big") / 65_536


def customer(number: int) -> Json:
    """The customer with this number, as Stripe tells them. Several are created in one second."""
    seats = 1 + int(draw("seats", number) ** 6 * 1_000)
    name = f"{NAMES[number % len(NAMES)]} of {TOWNS[number // len(NAMES) % len(TOWNS)]} {number}"
    return {
        "id": f"cus_{number:05}",
        "object": "customer",
        "created": FIRST_CREATED + number // 3,
        "name": name,
        "email": f"customer{number}@example.com",
        "phone": None,
        "currency": ("eur", "usd", "gbp")[number % 3],
        "balance": 0,
        "address": {"city": TOWNS[number % len(TOWNS)], "country": ("NO", "CH", "FR", "IT")[number % 4]},
        "metadata": {"seats": str(seats)},
    }


def is_large(number: int) -> bool:
    """Whether a person is asked about this customer."""
    return int(customer(number)["metadata"]["seats"]) >= LARGE_SEATS


class Outside:
    """Who has signed up, and which mails were sent."""

    def __init__(self, ledger: IO[str], customers: int = CUSTOMERS, later: int = LATER) -> None:
        self._ledger = ledger
        self._answers: dict[str, Answer] = {}
        self._asked: dict[str, int] = {}
        self._later = later
        self.customers: list[Json] = []
        for _ in range(customers):
            self._sign_up()

    def handle(self, asked: Asked) -> Answer:
        """Answer one request. An effect and its ledger line happen together; what is left to chance is the answer."""
        if (asked.method, asked.path) == ("GET", "/v1/customers"):
            return self._list(asked)
        if (asked.method, asked.path) == ("POST", "/mail"):
            return self._mail(asked)
        return Answer(404, {"error": {"message": f"Unrecognized request URL ({asked.method}: {asked.path})"}})

    # --- the source

    def _list(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            return Answer(401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}})
        after = asked.query.get("starting_after", "")
        nth = self._count(f"page {after}")
        if after and nth == 1 and draw("page", after) < 0.25:  # the first time a page is asked for; never for good
            busy = {"error": {"type": "rate_limit_error", "message": "Too many requests"}}
            return Answer(429, busy, (("Retry-After", "1"),)) if draw("why", after) < 0.5 else Answer(500, busy)
        rows = sorted(self.customers, key=lambda one: (one["created"], one["id"]), reverse=True)
        lowest, highest = int(asked.query.get("created[gte]", 0)), int(asked.query.get("created[lte]", 1 << 62))
        rows = [one for one in rows if lowest <= one["created"] <= highest]
        if after:
            places = [place for place, one in enumerate(rows) if one["id"] == after]
            if not places:
                return Answer(400, {"error": {"code": "resource_missing", "message": f"No such customer: '{after}'"}})
            rows = rows[places[0] + 1 :]
        size = min(PAGE_MAX, int(asked.query.get("limit", 10)))
        if after:  # while the list is read, it grows at its other end
            for _ in range(min(LATER_A_PAGE, self._later)):
                self._later -= 1
                self._sign_up()
        return Answer(200, {"object": "list", "has_more": len(rows) > size, "data": rows[:size]})

    def _sign_up(self) -> None:
        number = len(self.customers)
        self.customers.append(customer(number))
        self._note({"kind": "customer", "customer": self.customers[-1]["id"], "large": is_large(number)})

    # --- the mailer

    def _mail(self, asked: Asked) -> Answer:
        key, to = asked.headers.get("idempotency-key", ""), str(asked.body.get("customer", ""))
        if not key or not to:
            return Answer(400, {"code": "bad_request", "message": "POST /mail with an Idempotency-Key and a customer"})
        nth = self._count(f"mail {key}")
        mood = draw("mail", to) if nth == 1 else 1.0
        if mood < 0.03:
            return Answer(500, {"code": "internal", "message": "out of order, try again"})
        answer = self._answers.get(key)
        line = {"kind": "mail", "customer": to, "text": str(asked.body.get("text", "")), "key": key}
        if answer is None:
            answer = self._answers[key] = Answer(200, {"id": f"ml_{len(self._answers)}"})
            self._note({**line, "outcome": "done"})
        else:
            self._note({**line, "outcome": "repeated"})
        return Answer(500, {"code": "internal", "message": "nobody knows when it broke"}) if mood < 0.06 else answer

    def _count(self, what: str) -> int:
        self._asked[what] = self._asked.get(what, 0) + 1
        return self._asked[what]

    def _note(self, line: Json) -> None:
        self._ledger.write(json.dumps(line) + "\n")
        self._ledger.flush()


async def read_request(reader: asyncio.StreamReader) -> Asked | None:
    """The next request of a connection, or None at its end. Raises ValueError for what is none."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    request, *lines = head.split("\r\n")
    method, target, _ = request.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= BODY_MAX_BYTES:
        raise ValueError("a body of moderate size")
    body = json.loads(await reader.readexactly(length)) if length else {}
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return Asked(method, parts.path, query, headers, body)


def encode(answer: Answer) -> bytes:
    """An HTTP response with a JSON body."""
    data = json.dumps(answer.body).encode()
    lines = [f"HTTP/1.1 {answer.status} {'OK' if answer.status == 200 else 'No'}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


async def converse(outside: Outside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection until the other side has enough, or makes no sense."""
    try:
        while (asked := await read_request(reader)) is not None:
            writer.write(encode(outside.handle(asked)))
            await writer.drain()
    except (ValueError, KeyError, asyncio.LimitOverrunError) as error:
        writer.write(encode(Answer(400, {"code": "bad_request", "message": str(error)})))
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass  # the daemon was killed in mid-sentence, or we stop: what has happened is in the ledger
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
            lambda reader, writer: converse(outside, reader, writer), "127.0.0.1", port, limit=HEAD_MAX_BYTES,
            backlog=1_024,
        )  # fmt: skip
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        if until_eof:
            loop.add_reader(sys.stdin.fileno(), stop.set)  # nothing is ever written to it: readable means closed
        await stop.wait()
        server.close()


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(description="a source in Stripe's shape, and a mailer")
    parser.add_argument("--ledger", type=Path, required=True, help="append every customer and mail to this file")
    parser.add_argument("--port", type=int, default=0, help="0 (default) lets the system choose")
    parser.add_argument("--until-eof", action="store_true", help="stop when stdin (a pipe) is closed")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.ledger, arguments.port, until_eof=arguments.until_eof))


if __name__ == "__main__":
    main()
