"""A load balancer's probe as a process of its own, so that what is measured is the daemon and not the attacker.

Asks for a path on a TCP port on a new connection each time, until stdin ends; then prints how it went as JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

PAUSE_S = 0.02
GIVE_UP_S = 30.0


def probe(port: int, path: str) -> int:
    """The status of one answer; 0 if there was none."""
    with socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP_S) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := link.recv(4096):
            answer += data
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def main() -> None:
    """Probe until told to stop."""
    port, path = int(sys.argv[1]), sys.argv[2]
    seconds: list[float] = []
    statuses: dict[int, int] = {}
    sys.stdout.write("probing\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        began = time.perf_counter()
        try:
            status = probe(port, path)
        except OSError:
            status = 0
        seconds.append(time.perf_counter() - began)
        statuses[status] = statuses.get(status, 0) + 1
    sys.stdout.write(json.dumps({"seconds": seconds, "statuses": statuses}) + "\n")


if __name__ == "__main__":
    main()
