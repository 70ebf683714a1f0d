"""`runtimed events`: committed records as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
import click
import msgspec

from runtimed.cli.options import SEQ, with_shell
from runtimed.cli.shell import Shell
from runtimed.cli.text import cell
from runtimed.client_errors import DaemonUnreachable, TimedOut

if TYPE_CHECKING:
    from runtimed.client import Client
    from runtimed.client_events import EventStream
    from wal.views import EventView

RECENT = 100
"""How many of the last records are shown when nobody says where to begin."""


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with those to come.")
@click.option("--after", type=SEQ, help="Begin after this record; without it with the last 100.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only these, such as step_failed; may be repeated."
)
@click.option("--run", "run_id", metavar="ID", help="Only this run's.")
@with_shell
def events(shell: Shell, follow: bool, after: int | None, kinds: tuple[str, ...], run_id: str | None) -> None:
    """Show committed records; with -f those to come as well, across restarts of the daemon.

    Without -f it ends with the last record there was when it was asked, or with 7 if nothing comes for --timeout.
    """

    def wanted(event: EventView) -> bool:
        return (not kinds or event.kind in kinds) and run_id in (None, event.run_id)

    async def work(client: Client) -> None:
        head: int = msgspec.json.decode(await client.link.get("/v1/runs", [("limit", 1)]))["seq"]
        async with client.events(max(0, head - RECENT) if after is None else after) as feed:
            while follow or feed.seq < head:
                found = await (anext(feed) if follow else _before(head, feed, client.link.wire.timeout))
                if not follow and found.seq > head:  # the last ones of before were forgotten meanwhile
                    return
                if wanted(found):
                    _print(shell, found)

    try:
        shell.ask(work)
    except DaemonUnreachable as error:
        if follow:
            raise
        _from_file(shell, error, after, wanted)


async def _before(head: int, feed: EventStream, seconds: float) -> EventView:
    """The next record; one up to the head will come, so silence is a fault and not the end. Raises `TimedOut`."""
    with anyio.move_on_after(seconds):
        return await anext(feed)
    raise TimedOut(f"nothing came within {seconds:g} s: records {feed.seq + 1} to {head} are missing")


def _from_file(shell: Shell, error: DaemonUnreachable, after: int | None, wanted: Callable[[EventView], bool]) -> None:
    with shell.file(error) as source:
        place = max(0, source.seq - RECENT) if after is None else after
        while page := source.events(place):
            for event in page:
                if wanted(event):
                    _print(shell, event)
            place = page[-1].seq


def _print(shell: Shell, event: EventView) -> None:
    if shell.output in ("json", "jsonl"):
        shell.print_json(msgspec.json.encode(event))
    elif shell.output == "id":
        shell.print(str(event.seq))
    else:
        about = [cell(part) for part in (event.run_id, event.call, event.name) if part is not None]
        shell.print(f"{event.seq:>9}  {event.at}  {event.kind:<24}  {'  '.join(about)}".rstrip())
