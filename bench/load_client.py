"""A lean HTTP load generator on a unix socket: plain sockets and prepared bytes: what is measured is the daemon.

`load_client.py SOCKET KIND CONNECTIONS SECONDS` prints JSON. Kinds: `single` (a run a request), `batch` (1,000 runs a
request), `later` (the same, to start in a year: intake alone), `done` (start a run, wait for its result), `paced`
(runs of 50 steps, CONNECTIONS of them a second, at an even pace). Standard library only; runs as a process of its own.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

BATCH = 1_000
BATCHES = 100
LATER = f"{datetime.now(UTC).year + 1}-12-31T00:00:00Z"
ANSWER_MAX_BYTES = 4 << 20


def post(path: str, body: object) -> bytes:
    """A POST as bytes."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def get(path: str) -> bytes:
    """A GET as bytes."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class Connection:
    """One keep-alive connection: bytes out, one whole answer in."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.sent_at = 0.0
        self._received = bytearray()

    def send(self, request: bytes) -> None:
        """Send a request whole."""
        self._received.clear()
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """Take what is there; returns the body once the answer is whole. Raises on anything but 2xx."""
        chunk = self.socket.recv(1 << 18)
        self._received += chunk
        end = self._received.find(b"\r\n\r\n")
        if not chunk or len(self._received) > ANSWER_MAX_BYTES:
            raise SystemExit(f"the daemon closed the connection, or said too much: {bytes(self._received[:300])!r}")
        if end < 0:
            return None
        head = bytes(self._received[:end]).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self._received) < end + 4 + length:
            return None
        if not head.startswith((b"http/1.1 200", b"http/1.1 201", b"http/1.1 202")):
            raise SystemExit(f"the daemon answered {bytes(self._received[:600])!r}")
        return bytes(self._received[end + 4 :])

    def ask(self, request: bytes) -> bytes:
        """Send and wait for the answer."""
        self.send(request)
        while (answer := self.receive()) is None:
            pass
        return answer


def wanted(kind: str) -> Iterator[bytes]:
    """Requests without end: each run has an id, as an honest client's has."""
    mark, number = os.urandom(4).hex(), 0
    while True:
        if kind != "single":
            more = {"start_at": LATER} if kind == "later" else {}
            numbers = range(number, number + BATCH)
            yield post("/v1/runs", [{"workflow": "one", "input": n, "id": f"b-{mark}-{n}", **more} for n in numbers])
            number += BATCH
        else:
            yield post("/v1/runs", {"workflow": "one", "input": number, "id": f"s-{mark}-{number}"})
            number += 1


def flood(path: str, kind: str, connections: int, seconds: float) -> dict[str, object]:
    """Each connection sends its next request as soon as its last is answered."""
    selector = selectors.DefaultSelector()
    requests = wanted(kind)
    if kind != "single":
        requests = iter(list(islice(requests, BATCHES)))  # made beforehand: encoding 1,000 runs is the client's time
    latencies: list[float] = []
    began = time.perf_counter()
    for _ in range(connections):
        connection = Connection(path)
        connection.send(next(requests))
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    busy = connections
    while busy:
        for key, _ in selector.select():
            connection = key.data
            if connection.receive() is None:
                continue
            now = time.perf_counter()
            latencies.append(now - connection.sent_at)
            following = next(requests, None) if now - began < seconds else None
            if following is None:
                selector.unregister(connection.socket)
                busy -= 1
            else:
                connection.send(following)
    return {"answers": len(latencies), "seconds": time.perf_counter() - began, "latencies": latencies}


def done(path: str, seconds: float) -> dict[str, object]:
    """One run at a time: seconds from the first byte of the start to the last byte of the result."""
    connection = Connection(path)
    latencies: list[float] = []
    mark = os.urandom(4).hex()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        run_id = f"d-{mark}-{len(latencies)}"
        asked = time.perf_counter()
        connection.ask(post("/v1/runs", {"workflow": "one", "input": 1, "id": run_id}))
        connection.ask(get(f"/v1/runs/{run_id}/result?wait=5"))
        latencies.append(time.perf_counter() - asked)
    return {"answers": len(latencies), "seconds": time.perf_counter() - began, "latencies": latencies}


def paced(path: str, runs_per_second: int, seconds: float) -> dict[str, object]:
    """Start a run at each tick, whatever the answers take; those that are late are made up for at once."""
    connection = Connection(path)
    mark, latencies = os.urandom(4).hex(), []
    began = time.perf_counter()
    for number in range(int(runs_per_second * seconds)):
        time.sleep(max(0.0, began + number / runs_per_second - time.perf_counter()))
        asked = time.perf_counter()
        connection.ask(post("/v1/runs", {"workflow": "fifty", "input": number, "id": f"p-{mark}-{number}"}))
        latencies.append(time.perf_counter() - asked)
    return {"answers": len(latencies), "seconds": time.perf_counter() - began, "latencies": latencies}


def main() -> None:
    """Parse the arguments, load, print."""
    path, kind, connections, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    if kind == "paced":
        found = paced(path, connections, seconds)
    else:
        found = done(path, seconds) if kind == "done" else flood(path, kind, connections, seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
