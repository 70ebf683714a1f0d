"""The one worker: a snapshot from the daemon, then its events, folded into the model and told to the app in batches.

Nothing is polled. Events drive everything: what they change is told at most four times a second; what is no record
(actors, health, sizes) is asked for again after something happened, at most every two seconds, and every fifteen while
somebody looks; the connectors, after a record of one, at most once a second. A break is shown as STALE and mended by
the same seq; when nothing listens, the file is read instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import msgspec

from actors.errors import NotFound
from runtimed.client import Client, DaemonUnreachable
from runtimed.client_errors import BadAnswer, TimedOut, from_problem
from runtimed.client_wire import Broken, Stream
from runtimed.sse import Parser, TooLarge
from tui.format import micros
from tui.link_state import LIVE, OFFLINE, STALE, LinkState
from tui.model import (
    ACTORS,
    APPROVALS,
    APPROVALS_HELD_MAX,
    CONNECTORS,
    COUNTS,
    EVERYTHING,
    HEALTH,
    LINK,
    NOTHING,
    RUNS,
    SESSIONS,
    Change,
    Model,
)
from tui.offline import JournalFile, open_file
from tui.runs_index import RunFilter
from tui.source import Online, Source
from tui.states import OPEN_STATUSES
from wal.errors import RuntimedError
from wal.views import ApprovalView, EventView, RunView

BATCH_SECONDS = 0.25
"""The least time between two changes told to the app: four frames a second are enough to follow, and cheap."""
FIGURES_SECONDS, IDLE_FIGURES_SECONDS = 2.0, 15.0
CONNECTORS_SECONDS = 1.0
"""The least time between two questions for the connectors, however many records they bring."""
SILENCE_SECONDS = 45.0
"""Without a byte for so long, three heartbeats, the connection is taken for dead."""
BACKOFF_FIRST, BACKOFF_MAX = 0.2, 5.0
REFUSED_FIRST, REFUSED_MAX = 2.0, 60.0
"""How long after a question that was refused it is asked again: each time twice as long."""
EVENTS_BACK = 500
"""How many records before the snapshot are read for the lists of events and the rates."""
SNAPSHOT_PAGE, SNAPSHOT_RUNS_MAX = 500, 2_000
ASK_RUNS_MAX = 50
PROBLEM_MAX_BYTES = 1024**2
DECIDED_SHOWN = 50
DECIDED_STATUSES = ("approved", "refused", "expired", "withdrawn")

_decode = msgspec.json.Decoder(EventView).decode
_AWAY = (DaemonUnreachable, TimedOut, Broken)
MakeClient = Callable[[], Client]


def now_micros() -> int:
    """The present instant in microseconds since the epoch."""
    return time.time_ns() // 1_000


class Link:
    """Keeps a `Model` as the daemon is. `tell` gets each change; `watched` says whether anybody looks."""

    def __init__(
        self,
        model: Model,
        make_client: MakeClient,
        journal: Path | None,
        tell: Callable[[Change], None],
        *,
        watched: Callable[[], bool] = lambda: True,
        now: Callable[[], int] = now_micros,
    ) -> None:
        self.model, self.journal = model, journal
        self.state = LinkState(since=now())
        self.client: Client | None = None
        self.source: Source | None = None
        self.bytes_in = 0
        self._make_client, self._tell, self._watched, self._now = make_client, tell, watched, now
        self._pending = NOTHING
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = 0.0
        self._figures_wanted = asyncio.Event()
        self._connectors_wanted = asyncio.Event()
        self._asking: set[str] = set()
        self._once_more: set[str] = set()
        self._refused: dict[str, int] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._snapshot_seq = 0
        self._told = asyncio.Event()

    # --- its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the daemon until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_figures)
            tasks.start_soon(self._keep_connectors)
            wait = BACKOFF_FIRST
            try:
                while True:
                    try:
                        async with self._connected() as client:
                            await self._snapshot(Online(client))
                            wait = BACKOFF_FIRST
                            await self._follow(client)
                    except _AWAY as error:
                        await self._lost(error, wait)
                    except RuntimedError as error:  # it answers, but not as it should: no use in asking often
                        wait = BACKOFF_MAX
                        await self._lost(error, wait)
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, BACKOFF_MAX)
            finally:
                for timer in (self._timer, *self._later.values()):
                    if timer is not None:
                        timer.cancel()
                with anyio.CancelScope(shield=True):
                    await self._close_file(self.source)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        async with self._make_client() as client:
            self.client = client
            try:
                yield client
            finally:
                self.client = None

    async def _lost(self, error: Exception, wait: float) -> None:
        """The daemon is away: say so, and read the file if there is one and nothing listens any more."""
        was, now = self.state.name, self._now()
        since = self.state.since if was in (STALE, OFFLINE) else now
        self.state.problem = str(error) or type(error).__name__
        self.state.retry_at = now + int(wait * 1e6)
        if isinstance(error, DaemonUnreachable) and self.journal is not None and await self._read_file():
            self.state.name, self.state.since = OFFLINE, since if was == OFFLINE else now
        else:
            self.state.name, self.state.since = STALE, since
        self._note(Change(frozenset({LINK})))

    # --- the snapshot -------------------------------------------------------------------------------------------------

    async def _snapshot(self, source: Source) -> None:
        """Everything anew. The seq of the first page is where the events begin: views carry their own seq, so an event
        that a view already holds changes nothing."""
        model = self.model
        seq, runs, complete = await self._newest(source, OPEN_STATUSES)
        if not complete:  # what needs a person may be older than all of those
            _, blocked, _ = await self._newest(source, ("blocked",))
            known = {run.id for run in runs}
            runs += [run for run in blocked if run.id not in known]
        model.begin(seq)
        model.put_runs(runs, complete=complete)
        self._snapshot_seq = seq
        await self._ask_approvals(source)
        model.sessions = list((await source.sessions(limit=SNAPSHOT_PAGE)).items)
        model.connectors = await source.connectors()
        failed = await source.runs(RunFilter(("failed",)), limit=200)
        for run in failed.items:
            if (at := micros(run.ended_at)) is not None:
                model.rates.note_failure(run.id, at)
        await self._ask_figures(source)
        before, self.source = self.source, source
        if before is not source:
            await self._close_file(before)
        if not source.offline:
            self.state.name, self.state.since, self.state.problem, self.state.banner = LIVE, self._now(), "", ""
        self._note(EVERYTHING)

    @staticmethod
    async def _newest(source: Source, statuses: tuple[str, ...]) -> tuple[int, list[RunView], bool]:
        """The newest runs with these statuses, the seq of their first page, and whether these are all."""
        page = await source.runs(RunFilter(statuses), limit=SNAPSHOT_PAGE)
        seq, runs = page.seq, list(page.items)
        while page.next is not None and len(runs) < SNAPSHOT_RUNS_MAX:
            page = await source.runs(RunFilter(statuses), page.next, SNAPSHOT_PAGE)
            runs += page.items
        return seq, runs, page.next is None

    async def _read_file(self) -> bool:
        """The model out of the file; False if it cannot be read (then `state.problem` says why)."""
        assert self.journal is not None
        file = self.source if isinstance(self.source, JournalFile) else None
        try:
            if file is not None and await file.head_seq() == self.model.seq:
                return True  # it stays open while the daemon is down
            file = file or await open_file(self.journal)
            self.state.banner = await file.banner()
            await self._snapshot(file)
            for event in await file.events_before(self.model.seq, EVENTS_BACK):
                if not self.model.events or event.seq > self.model.events[-1].seq:
                    self.model.apply(event)
        except RuntimedError as error:
            await self._close_file(file)
            self.state.problem = str(error)
            return False
        return True

    async def _close_file(self, source: Source | None) -> None:
        if isinstance(source, JournalFile):
            self.source = None if self.source is source else self.source
            await source.close()

    # --- events -------------------------------------------------------------------------------------------------------

    async def _follow(self, client: Client) -> None:
        """Read the stream until it breaks (`Broken`)."""
        held = self.model.events[-1].seq if self.model.events else 0
        after = max(0, held, self.model.seq - EVENTS_BACK)
        stream = await self._open(client, min(after, self.model.seq))
        parser = Parser()
        try:
            while True:
                with anyio.move_on_after(SILENCE_SECONDS) as silence:
                    data = await stream.read()
                if silence.cancelled_caught or not data:
                    raise Broken("the stream ended or fell silent")
                self.bytes_in += len(data)
                try:
                    self._take([_decode(event.data) for event in parser.feed(data)])
                except (TooLarge, msgspec.DecodeError) as error:
                    raise BadAnswer(f"an event that is none: {error}") from error
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

    async def _open(self, client: Client, after: int) -> Stream:
        stream = await client.link.open_events(after)
        if stream.status == 200:
            return stream
        body = b""
        try:
            while len(body) < PROBLEM_MAX_BYTES and (part := await stream.read()):
                body += part
        finally:  # also when it breaks off, or nobody wants it any more
            await stream.aclose()
        problem = from_problem(stream.status, stream.headers, body)
        if stream.status in (429, 503):
            raise DaemonUnreachable(str(problem)) from problem
        raise problem

    def _take(self, events: list[EventView]) -> None:
        held = self.model.events[-1].seq if self.model.events else 0
        change = NOTHING
        for event in events:
            if event.seq > held:
                change |= self.model.apply(event)
        if not change:
            return
        if events[-1].seq > self._snapshot_seq:  # what is older is read for the lists only
            newest = micros(events[-1].at) or self._now()
            self.state.behind_at = self._now()
            self.state.behind = max(0, self.state.behind_at - newest)
        self._figures_wanted.set()
        if CONNECTORS in change.topics:
            self._connectors_wanted.set()
        self._note(change)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _note(self, change: Change) -> None:
        """Tell the app soon: at once if it has not been told for a while, else with what else comes until then."""
        self._pending |= change
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._told_at + BATCH_SECONDS), self._flush)

    def _flush(self) -> None:
        change, self._pending, self._timer = self._pending, NOTHING, None
        self._told_at = asyncio.get_running_loop().time()
        told, self._told = self._told, asyncio.Event()
        told.set()
        self._tell(change)

    async def told(self) -> None:
        """Wait until something has changed, the state of this link included."""
        await self._told.wait()

    # --- asking again -------------------------------------------------------------------------------------------------

    async def ask(self, change: Change) -> None:
        """What a change says must be asked for. The app runs this as a worker, so a slow answer holds nothing up. Not
        while there is no connection: the snapshot of the next one has it all."""
        source = self.source
        if source is None or not self.state.live:
            return
        for topic, work in ((APPROVALS, self._ask_approvals), (SESSIONS, self._ask_sessions)):
            if topic in change.ask:
                await self._guarded(topic, partial(work, source), Change(ask=frozenset({topic})))
        wanted = sorted(change.ask_runs)
        for run_id in wanted[:ASK_RUNS_MAX]:
            only = frozenset({run_id})
            again = Change(ask_runs=only, must_ask=only)
            await self._guarded(f"run {run_id}", partial(self._ask_run, source, run_id), again)
        if rest := frozenset(wanted[ASK_RUNS_MAX:]):
            self._note(Change(ask_runs=rest, must_ask=rest))

    async def _guarded(self, what: str, work: Callable[[], Awaitable[None]], again: Change = NOTHING) -> None:
        """Ask for something. What is being asked for already is asked for once more after its answer, which may be
        older than what happened since; what cannot be had now is asked for `again` later."""
        if what in self._asking:
            self._once_more.add(what)
            return
        self._asking.add(what)
        try:
            while True:
                self._once_more.discard(what)
                await work()
                self._refused.pop(what, None)
                if what not in self._once_more:
                    break
        except NotFound:  # a run whose records are kept no more
            self._refused.pop(what, None)
        except (RuntimedError, Broken) as error:
            self.state.problem = str(error)  # the stream will say whether the daemon is gone
            self._ask_later(what, again)
        finally:
            self._asking.discard(what)

    def _ask_later(self, what: str, again: Change) -> None:
        if again is NOTHING:
            return
        times = self._refused[what] = self._refused.get(what, 0) + 1
        wait = min(REFUSED_FIRST * 2 ** (times - 1), REFUSED_MAX)
        if what in self._later:
            self._later[what].cancel()
        self._later[what] = asyncio.get_running_loop().call_later(wait, self._ask_again, what, again)

    def _ask_again(self, what: str, again: Change) -> None:
        del self._later[what]
        self._note(again)

    async def _ask_approvals(self, source: Source) -> None:
        views = await source.approvals("open", APPROVALS_HELD_MAX)
        decided: list[ApprovalView] = []
        for status in DECIDED_STATUSES:  # the newest of all may all be open
            decided += await source.approvals(status, DECIDED_SHOWN)
        decided.sort(key=lambda view: view.decided_at or "", reverse=True)
        self.model.put_approvals(views, decided[:DECIDED_SHOWN])
        self._note(Change(frozenset({APPROVALS})))

    async def _ask_sessions(self, source: Source) -> None:
        self.model.sessions = list((await source.sessions(limit=SNAPSHOT_PAGE)).items)
        self._note(Change(frozenset({SESSIONS})))

    async def _ask_run(self, source: Source, run_id: str) -> None:
        detail = await source.run(run_id)
        view = RunView(**{name: getattr(detail, name) for name in RunView.__struct_fields__})
        self._note(self.model.put_run(view) | Change(frozenset({RUNS}), runs=frozenset({run_id})))

    async def _keep_figures(self) -> None:
        """Ask for what is no record: after something happened, and now and then while somebody looks."""
        while True:
            with anyio.move_on_after(IDLE_FIGURES_SECONDS) as idle:
                await self._figures_wanted.wait()
            self._figures_wanted.clear()
            source = self.source
            wanted = self._watched() or not idle.cancelled_caught
            if source is not None and self.state.live and wanted:
                await self._guarded(HEALTH, partial(self._ask_figures, source))
            await asyncio.sleep(FIGURES_SECONDS)

    async def _keep_connectors(self) -> None:
        """Ask for what the records of connectors do not tell: when one polls next, how far it lags."""
        while True:
            await self._connectors_wanted.wait()
            self._connectors_wanted.clear()
            source = self.source
            if source is not None and self.state.live:
                await self._guarded(CONNECTORS, partial(self._ask_connectors, source))
            await asyncio.sleep(CONNECTORS_SECONDS)

    async def _ask_connectors(self, source: Source) -> None:
        self.model.connectors = await source.connectors()
        self._note(Change(frozenset({CONNECTORS})))

    async def _ask_figures(self, source: Source) -> None:
        health = await source.health()
        self.model.put_health(health.status, health.reasons, health.checks)
        self.model.actors = await source.actors()
        metrics = await source.metrics()
        self.model.put_counts(metrics.counts)
        self.model.figures = metrics.figures
        self.model.daemon_version = metrics.version or self.model.daemon_version
        topics = {HEALTH, ACTORS, COUNTS}
        if self.model.connectors:  # a poll that failed is no record
            self.model.connectors = await source.connectors()
            topics.add(CONNECTORS)
        self._note(Change(frozenset(topics)))
