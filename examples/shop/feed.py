"""Send orders of the file to the daemon of `make serve`: `python -m examples.shop.feed [HOW_MANY]`, 300 unless told.

The first 300 hold every ending: orders that complete, cards declined, goods sold out, rows that are
refused at the door, and large orders that wait for a person. A second time the same runs are found, not made.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import anyio

from examples.shop import orders
from runtimed.client import Client, NewRun
from runtimed.client_errors import DaemonUnreachable
from wal.errors import RuntimedError

SOCKET = Path(".shop-data/runtimed.sock")
HOW_MANY, BATCH = 300, 500
OUTCOMES = ("started", "there already", "refused")


async def feed(socket: Path, how_many: int) -> str:
    """Send the first `how_many` orders; what became of them, in a sentence. Raises `DaemonUnreachable`."""
    wanted = orders.read()[:how_many]
    found: Counter[str] = Counter()
    async with Client(socket=socket) as client:
        for at in range(0, len(wanted), BATCH):
            batch = [NewRun(workflow="checkout", id=one.run_id, input=one.order) for one in wanted[at : at + BATCH]]
            for answer in await client.start_many(batch):
                if isinstance(answer, RuntimedError):
                    found["refused"] += 1
                else:
                    found["started" if answer.created else "there already"] += 1
    return f"{len(wanted)} orders: " + ", ".join(f"{found[how]} {how}" for how in OUTCOMES)


def main() -> int:
    """The command; 3 if there is no daemon."""
    parser = argparse.ArgumentParser(description="Send orders to the daemon of `make serve`.")
    parser.add_argument("how_many", nargs="?", type=int, default=HOW_MANY, metavar="HOW_MANY")
    try:
        print(anyio.run(feed, SOCKET, parser.parse_args().how_many))
    except DaemonUnreachable as error:
        print(f"{error}; start it with `make serve`")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
