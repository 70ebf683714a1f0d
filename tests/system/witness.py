"""The outside of the fault tests, a process of its own: does what steps ask for, and writes each attempt down.

`python witness.py SOCKET FILE` prints `ready` and serves on a unix socket until its standard input is closed. A request
is one line of JSON with `key`, `attempt` and more; it becomes a line `began` before anything is done, and a line `done`
when the effect has happened, both synced before the answer. Standard library only: it knows nothing of runtimed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SLOW_SECONDS = 0.08
PATIENT_FROM_ATTEMPT = 4  # from here on every attempt is treated well, so that a run gets to its end


def value_of(key: str) -> str:
    """What the effect of a key gives: the same each time, as from a service that honours idempotency keys."""
    return hashlib.blake2b(key.encode(), digest_size=6).hexdigest()


def mood(key: str, attempt: int) -> str:
    """How an attempt is treated: mostly `well`, else `slow` or an error `before` or `after` the effect. No chance."""
    if attempt >= PATIENT_FROM_ATTEMPT:
        return "well"
    draw = hashlib.blake2b(f"{key} {attempt}".encode(), digest_size=1).digest()[0]
    return "before" if draw < 12 else "after" if draw < 24 else "slow" if draw < 40 else "well"


class Witness:
    """The file of what happened."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, what: str, request: dict[str, Any]) -> None:
        """One line, on disk when this returns."""
        line = json.dumps({"what": what, "at_us": time.time_ns() // 1_000, **request}) + "\n"
        os.write(self._file, line.encode())
        os.fdatasync(self._file)

    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one attempt asks for."""
        key, attempt = request["key"], request["attempt"]
        self.note("began", request)
        if request.get("declined"):
            return {"declined": f"{request['tag']} is declined"}
        treated = mood(key, attempt)
        if treated == "before":
            return {"error": "out of order"}
        if treated == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        self.note("done", request)
        return {"error": "nobody knows"} if treated == "after" else {"value": value_of(key)}

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, until the daemon closes it or is killed."""
        try:
            while line := await reader.readline():
                if not line.endswith(b"\n"):
                    break
                writer.write(json.dumps(await self.handle(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # killed in mid-sentence: what has happened is in the file
        finally:
            writer.close()


async def serve(socket_path: Path, file: Path) -> None:
    """Serve until standard input ends."""
    stop = asyncio.Event()
    server = await asyncio.start_unix_server(Witness(file).converse, socket_path, backlog=1_024)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)  # nothing is sent: readable means closed
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
