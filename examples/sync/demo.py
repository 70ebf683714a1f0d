"""The sync as a story: customers out of a source in Stripe's shape, `kill -9` in the middle, a table at the end.

Starts the outside and the daemon as processes of their own. The connector in `runtimed.toml` reads the customers, who
go on signing up meanwhile, and each starts a run that mails them once. The daemon is killed while it reads, and started
again; people answer about the large ones. Then the runs and the mailer's ledger are held against the source's. Exits 0
only if all of it is right.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx2
import trio

from examples import processes
from examples.processes import Daemon
from examples.story import PAGE, DemoFailed, Story, tell
from examples.sync import verdict
from examples.sync.outside import CUSTOMERS, KEY, LATER
from examples.table import Row, render

HERE = Path(__file__).resolve().parent
DEADLINE_SECONDS = 150.0
KILL_SPAN = (0.15, 0.60)  # of the customers' runs
REASONS = {True: "worth a manager", False: "they asked for none"}


class Sync(Story):
    """One performance."""

    async def desk(self) -> None:
        """Answer for the people, about each large customer, with a reason."""
        while True:
            page = await self.request("GET", "/v1/approvals", params={"status": "open", "limit": PAGE})
            for asked in page.raise_for_status().json()["items"]:
                yes = verdict.approves(asked["run_id"])
                await self.decide(asked, yes, REASONS[yes])
            await trio.sleep(0.2)

    async def runs(self) -> int:
        """How many runs there are."""
        response = await self.request("GET", "/v1/runs", params={"limit": 1})
        return int(response.raise_for_status().json()["total"])

    async def connector(self) -> dict[str, Any]:
        """How the connector stands."""
        response = await self.request("GET", f"/v1/connectors/{verdict.CONNECTOR}")
        view: dict[str, Any] = response.raise_for_status().json()
        return view

    async def trouble(self) -> None:
        """Kill the daemon with -9 while it reads, and start it again."""
        share = self.chance.uniform(*KILL_SPAN)
        while await self.runs() < share * CUSTOMERS:  # noqa: ASYNC110 - another process is asked, which has no event
            await trio.sleep(0.01)
        view = await self.connector()
        await self.kill(f"{view['records_total']:,} customers")

    async def wait_for_the_end(self) -> None:
        """Return when every customer there will be has been mailed; say each second how far things are."""
        wanted = CUSTOMERS + LATER
        while True:
            view, done, blocked = await self.connector(), await self.total("completed"), await self.total("blocked")
            if blocked:
                raise DemoFailed(f"{blocked} runs are blocked: {await self.blocked()}")
            if done >= wanted and self.kills and view["status"] in ("ok", "polling"):
                return
            waiting = await self.total("waiting")
            error = f"  ({view['last_error']})" if view["status"] == "backoff" else ""
            self.say(
                f"connector {view['status']}, {view['records_total']:,} records; completed {done:,}, waiting {waiting}"
                + error
            )
            await trio.sleep(1.0)

    async def play(self) -> None:
        """All parts at once, until the end or the deadline."""
        with trio.move_on_after(DEADLINE_SECONDS) as deadline:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.desk)
                nursery.start_soon(self.trouble)
                await self.wait_for_the_end()
                nursery.cancel_scope.cancel()
        if deadline.cancelled_caught:
            raise DemoFailed(f"not done after {DEADLINE_SECONDS:.0f} s; the end of the log:\n{self.daemon.log_tail()}")


async def perform(folder: Path, seed: int) -> bool:
    """Play the demo with all its files in `folder`; True if the table is right."""
    began = trio.current_time()
    ledger = folder / "ledger.jsonl"
    ledger.touch()
    async with processes.outside(HERE / "outside.py", "--ledger", str(ledger)) as address:
        daemon = sync_daemon(folder / "data", address, folder / "daemon.log")
        story = Sync(daemon, seed, began)
        story.say(f"a source in Stripe's shape, {CUSTOMERS:,} customers, and a mailer are at {address}")
        try:
            await set_secret(daemon)
            story.say("$ runtimed secret set stripe < key")
            story.say(f"the daemon is ready after {await daemon.start():.2f} s (seed {seed})")
            await story.play()
            statuses, approvals, view = await story.statuses(), await story.approvals(), await story.connector()
        except httpx2.HTTPStatusError as error:
            raise DemoFailed(f"{error}: {error.response.text[:500]}\n{daemon.log_tail()}") from error
        finally:
            with trio.CancelScope(shield=True):
                await story.close()
                code = await daemon.stop()
    told = verdict.read_ledger(ledger)
    rows = [
        *verdict.judge(told, statuses, approvals),
        *verdict.of_connector(view, len(told.customers)),
        Row("kill -9", str(len(story.kills)), "after " + ", ".join(story.kills), len(story.kills) == 1),
        Row("exit code of the daemon", str(code), "after SIGTERM", code == 0),
        Row("seconds", f"{trio.current_time() - began:.1f}"),
    ]
    print("\n" + render(rows) + "\n", flush=True)
    return all(row.right is not False for row in rows)


def sync_daemon(data_dir: Path, address: str, log: Path) -> Daemon:
    """The daemon on the sync's configuration, with the outside at this address."""
    environment = {"MAIL_URL": address, "RUNTIMED__CONNECTORS__CUSTOMERS__OPTIONS__BASE_URL": address}
    options = ["--config", str(HERE / "runtimed.toml")]
    return Daemon(HERE, data_dir, log, options=options, environment=environment)


async def set_secret(daemon: Daemon) -> None:
    """Give the source's key, from stdin, before there is a daemon."""
    daemon.data_dir.mkdir(mode=0o700, exist_ok=True)
    done = await daemon.command_on_the_folder("secret", "set", "stripe", stdin=KEY.encode())
    if done.returncode != 0:
        raise DemoFailed(f"the secret was refused: {done.stderr.decode()}")


def main() -> int:
    """Perform; returns the exit code."""
    return tell(perform, (__doc__ or "").split("\n", maxsplit=1)[0], "sync-")


if __name__ == "__main__":
    sys.exit(main())
