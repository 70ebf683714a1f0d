"""The main job, told as a story: orders in, `kill -9` in the middle, a table at the end.

Starts the outside and the daemon as processes of their own, feeds the orders of `orders.csv` in over HTTP, kills the
daemon at random points, restarts it, answers for the people who approve large orders, waits until every run has ended,
and holds the outcome against the file and against the outside's ledger. Exits 0 only if all of it is right.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import httpx2
import trio

from examples.shop import orders, verdict
from examples.shop.orders import WRONG, Expected
from examples.shop.processes import Daemon, outside
from examples.story import PAGE, DemoFailed, Story, tell
from examples.table import Row, render

BATCH = 100
DEADLINE_SECONDS = 150.0
FEED_SPAN = (0.30, 0.70)  # the first kill falls while orders come in: shares of the orders sent
WORK_SPANS = [(0.15, 0.32), (0.42, 0.58), (0.70, 0.88)]  # the others: shares of all effects outside
KILLS = 1 + len(WORK_SPANS)
REASONS = {True: "looks fine", False: "address unknown"}


class Demo(Story):
    """One performance: what was sent, what was seen, and the tasks that play the parts."""

    def __init__(self, daemon: Daemon, ledger: Path, seed: int, began: float) -> None:
        super().__init__(daemon, seed, began)
        self.expected = orders.read()
        self.accepted = 0
        self.fed = 0
        self.shown: set[bool] = set()  # which answers were given at the command line
        self._ledger = ledger

    async def feed(self) -> None:
        """Send all orders, a hundred in one request; what a kill interrupts is sent again under the same key."""
        for start in range(0, len(self.expected), BATCH):
            batch = self.expected[start : start + BATCH]
            items = [{"workflow": "checkout", "id": one.run_id, "input": one.order} for one in batch]
            key = {"Idempotency-Key": f"orders-{start}"}
            response = await self.request("POST", "/v1/runs", json=items, headers=key)
            self._check_answers(batch, response)
            self.fed += len(batch)
        self.say(f"all {self.fed:,} orders are sent, {self.accepted:,} accepted")

    def _check_answers(self, batch: list[Expected], response: httpx2.Response) -> None:
        if response.status_code != 200:
            raise DemoFailed(f"a batch was answered {response.status_code}: {response.text[:500]}")
        for one, item in zip(batch, response.json()["items"], strict=True):
            refused = item["status"] == 400
            if refused != (one.ending == WRONG):
                raise DemoFailed(f"order {one.id} ({one.ending}) was answered {str(item)[:500]}")
            if refused:
                self.say(f"refused at the door: {one.id}, {item['problem']['detail'][:90]}")
            else:
                self.accepted += 1

    async def desk(self) -> None:
        """Answer for the people: the first yes and the first no at the command line, the others over HTTP, each with a
        reason and bound to what was shown."""
        while True:
            page = await self.request("GET", "/v1/approvals", params={"status": "open", "limit": PAGE})
            for asked in page.raise_for_status().json()["items"]:
                yes = orders.approves(asked["run_id"].removeprefix("checkout-"))
                if yes not in self.shown:
                    await self._decide_by_hand(asked, yes)
                else:
                    await self.decide(asked, yes, REASONS[yes])
            await trio.sleep(0.2)

    async def _decide_by_hand(self, asked: dict[str, Any], yes: bool) -> None:
        """Should the daemon be killed just then, the command fails, and whoever is still asked is asked again."""
        verb = "approve" if yes else "deny"
        prefix = asked["payload_hash"][:8]
        said = ["approvals", verb, asked["id"], "--reason", REASONS[yes], "--payload-hash", prefix]
        done = await self.daemon.command(*said)
        if done.returncode == 0:
            self.shown.add(yes)
            self.say(f"$ runtimed {shlex.join(said)}\n{'':10}{done.stdout.decode().strip()}")

    async def trouble(self) -> None:
        """Kill the daemon with -9 at random points, and start it again: once while orders come in, then in the work."""
        at = self.chance.uniform(*FEED_SPAN) * len(self.expected)
        while self.fed < at:  # noqa: ASYNC110 - an event a batch would be more code and no truer
            await trio.sleep(0.002)
        await self.kill(f"{self.fed:,} orders sent")
        effects = sum(len(verdict.EFFECTS[one.ending]) for one in self.expected)
        for span in WORK_SPANS:
            share = self.chance.uniform(*span)
            while self._lines() < share * effects:  # noqa: ASYNC110 - a file that another process writes has no event
                await trio.sleep(0.02)
            await self.kill(f"{share:.0%} of the work")

    def _lines(self) -> int:
        with self._ledger.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))

    async def wait_for_the_end(self) -> None:
        """Return when every accepted order has ended; say each second how far things are."""
        wanted = sum(one.ending != WRONG for one in self.expected)
        while True:
            counts = {status: await self.total(status) for status in ("completed", "failed", "waiting", "blocked")}
            if counts["blocked"]:
                raise DemoFailed(f"{counts['blocked']} runs are blocked: {await self.blocked()}")
            if counts["completed"] + counts["failed"] == wanted and len(self.kills) == KILLS:
                return
            self.say("  ".join(f"{status} {count:,}" for status, count in counts.items()))
            await trio.sleep(1.0)

    async def play(self) -> None:
        """All parts at once, until the end or the deadline."""
        with trio.move_on_after(DEADLINE_SECONDS) as deadline:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.desk)
                nursery.start_soon(self.trouble)
                await self.feed()
                await self.wait_for_the_end()
                nursery.cancel_scope.cancel()
        if deadline.cancelled_caught:
            raise DemoFailed(f"not done after {DEADLINE_SECONDS:.0f} s; the end of the log:\n{self.daemon.log_tail()}")


async def perform(folder: Path, seed: int) -> bool:
    """Play the demo with all its files in `folder`; True if the table is right."""
    began = trio.current_time()
    ledger = folder / "ledger.jsonl"
    ledger.touch()
    async with outside(ledger) as shop_url:
        daemon = Daemon(folder / "data", shop_url, folder / "daemon.log")
        demo = Demo(daemon, ledger, seed, began)
        demo.say(f"payment provider, warehouse and carrier are at {shop_url}")
        try:
            demo.say(f"the daemon is ready after {await daemon.start():.2f} s (seed {seed})")
            await demo.play()
            statuses, approvals = await demo.statuses(), await demo.approvals()
        finally:
            with trio.CancelScope(shield=True):
                await demo.close()
                code = await daemon.stop()
    rows = verdict.judge(demo.expected, statuses, verdict.read_ledger(ledger))
    rows += [
        verdict.decisions(demo.expected, approvals),
        Row("kill -9", str(len(demo.kills)), "after " + ", ".join(demo.kills)),
        Row("exit code of the daemon", str(code), "after SIGTERM", code == 0),
        Row("seconds", f"{trio.current_time() - began:.1f}"),
    ]
    print("\n" + render(rows) + "\n", flush=True)
    return all(row.right is not False for row in rows)


def main() -> int:
    """Perform; returns the exit code."""
    return tell(perform, (__doc__ or "").split("\n", maxsplit=1)[0], "shop-")


if __name__ == "__main__":
    sys.exit(main())
