"""What the demos share: a story told line by line, requests that outlive a kill, and how it begins and ends."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import trio

from examples.processes import Daemon, DaemonLost

PAGE = 200
PATIENCE_SECONDS = 30.0  # how long one request is tried again while the daemon is away


class DemoFailed(Exception):
    """The demo cannot go on; the text says why."""


class Story:
    """One performance: the daemon, and how it is asked."""

    def __init__(self, daemon: Daemon, seed: int, began: float) -> None:
        self.daemon = daemon
        self.kills: list[str] = []
        self.chance = random.Random(seed)
        self._began = began
        self._client = daemon.client()

    def say(self, text: str) -> None:
        """A line of the story, with the time since its beginning."""
        print(f"{trio.current_time() - self._began:6.1f} s  {text}", flush=True)

    async def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """One request, tried again while the daemon is away: ids and keys make the repeat harmless."""
        with trio.move_on_after(PATIENCE_SECONDS):
            while True:
                try:
                    response = await self._client.request(method, path, **options)
                except httpx2.TransportError:
                    await trio.sleep(0.05)
                    continue
                if response.status_code != 503:
                    return response
                await trio.sleep(0.2)
        raise DemoFailed(f"{method} {path}: no answer; the end of the daemon's log:\n{self.daemon.log_tail()}")

    async def all_of(self, path: str) -> list[dict[str, Any]]:
        """A list whole, page by page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params = {"limit": PAGE} | ({"cursor": cursor} if cursor else {})
            page = (await self.request("GET", path, params=params)).raise_for_status().json()
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found

    async def total(self, status: str) -> int:
        """How many runs have this status."""
        response = await self.request("GET", "/v1/runs", params={"status": status, "limit": 1})
        return int(response.raise_for_status().json()["total"])

    async def statuses(self) -> dict[str, str]:
        """The status of every run there is, by its id."""
        return {run["id"]: run["status"] for run in await self.all_of("/v1/runs")}

    async def approvals(self) -> list[dict[str, Any]]:
        """All that was asked of people, and what they said."""
        return await self.all_of("/v1/approvals")

    async def decide(self, asked: dict[str, Any], yes: bool, reason: str) -> None:
        """Answer one approval, bound to what was shown. After a kill, a repeat gets the first answer."""
        said = {"approve": yes, "reason": reason, "payload_hash": asked["payload_hash"]}
        key = {"Idempotency-Key": f"desk-{asked['id']}"}
        decide = f"/v1/approvals/{asked['id']}/decide"
        (await self.request("POST", decide, json=said, headers=key)).raise_for_status()

    async def kill(self, when: str) -> None:
        """`kill -9` the daemon and start it again."""
        await self.daemon.kill()
        seconds = await self.daemon.start()
        self.kills.append(when)
        self.say(f"kill -9 after {when}; ready again after {seconds:.2f} s")

    async def blocked(self) -> str:
        """The first runs that are blocked, and why."""
        response = await self.request("GET", "/v1/runs", params={"status": "blocked", "limit": 3})
        return str([(run["id"], run["error"]) for run in response.json()["items"]])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _flatten(group: BaseException) -> list[BaseException]:
    if isinstance(group, BaseExceptionGroup):
        return [leaf for inner in group.exceptions for leaf in _flatten(inner)]
    return [group]


def tell(perform: Callable[[Path, int], Awaitable[bool]], what: str, prefix: str) -> int:
    """Parse the arguments, perform in a folder of its own, clean up; returns the exit code."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--seed", type=int, default=None, help="where the kills fall; a new one each time")
    parser.add_argument("--keep", action="store_true", help="keep the data folder also when all is well")
    arguments = parser.parse_args()
    seed = random.randrange(10_000) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    right = False
    try:
        right = trio.run(perform, folder, seed)
    except* (DemoFailed, DaemonLost) as failures:
        for failure in _flatten(failures):
            print(f"\n{failure}", file=sys.stderr)
    except* KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    if right and not arguments.keep:
        shutil.rmtree(folder)
    else:
        print(f"journal, ledger and log are in {folder}; the same kills again: --seed {seed}")
    return 0 if right else 1
