"""A connector's poller: the actor that runs a source, hands its pages to the coordinator, and knows when to ask again.

Theory of operation
-------------------
One poll is one run of the source, from the cursor that the journal holds. The source runs in a task of its own and is
in lock step with this one: it goes on behind a `yield` only when that page is on disk. So what stands there may rely on
it (acknowledge a queue, move a file), and no page waits in memory (one, if the source may go `ahead`). The task is its
own because a source may hold scopes and nurseries open over a `yield`, which must not reach round what this actor waits
for.

    source            poller                     coordinator              disk
      | yield page ---->| keys, JSON, checks         |                      |
      |                 |--TakePage----------------->| records + cursor --->| one commit
      |                 |<--PageTaken-----------------------------receipt --|
      |<-- goes on -----|

- Full mailbox, crowded disk: the same page is offered again after a pause. Nothing is dropped, the source waits.
- Paused, reset meanwhile: ConnectorHeld; nothing of the page was taken, the poll ends.
- The coordinator restarted before it answered: nobody knows whether the page was taken, so the poll ends and the next
  one begins from what the journal says. A page that comes twice changes nothing.
- Cancelled anywhere: what was not acknowledged is read again from the cursor.

Between polls the actor sleeps until the next one is due, or it is woken: no timer ticks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import msgspec
import trio
from msgspec import Raw

from actors import connector_core as core
from actors import messages as m
from actors.clock import Clock
from actors.connector_spec import PAGE_EFFECTS_MAX, PAGE_RECORDS_MAX, ConnectorSpec, Page, Poll
from actors.errors import (
    ConnectorHeld,
    DefinitionError,
    MailboxFull,
    Overloaded,
    SourceError,
    SourceGarbled,
)
from actors.page_items import items_of, pieces
from actors.poll_faults import ERROR_CHARACTERS_MAX, FAILURES, OURS, closing, described, grouped, leaves_of
from actors.throughput import Throughput
from actors.wal_writer import WalWriter
from wal.intake import ConnectorRow
from wal.queries import Reader
from wal.records import DeliveryRefused, ErrorData, StoredItem

OFFER_AGAIN_S: Final = (0.05, 1.0)
BROKEN_OFF_AFTER_S: Final = 5.0
log = logging.getLogger("runtimed.connectors")
_encode = msgspec.json.encode


class Tools(msgspec.Struct, frozen=True):
    """What pollers work with. `ask` sends a command to the coordinator, `chance` is uniform in [0, 1), `has_room` says
    whether the disk has room for what comes in, `make_poll` gives a source what it may use."""

    reader: Reader
    writer: WalWriter
    clock: Clock
    ask: Callable[[m.Message], Awaitable[Any]]
    chance: Callable[[], float]
    make_poll: Callable[[ConnectorSpec, Any], Poll[Any]]
    has_room: Callable[[], bool]
    piece_bytes_max: int = 4 << 20


class _Drawn(msgspec.Struct):
    """What one poll has brought so far; it `begins` until its first page is taken."""

    records: int = 0
    moved: bool = False
    more: bool = False
    begins: bool = True


class ConnectorPoller:
    """The actor. `standing` says how it stands; the directory reads it, and calls `wake`, `poll_now` and `drain`."""

    def __init__(self, spec: ConnectorSpec, tools: Tools) -> None:
        self.spec, self._tools = spec, tools
        self._decoder = msgspec.json.Decoder(spec.cursor_type)
        self.standing = core.Standing(spec.every, spec.every, math.inf)
        self.last_error: str | None = None
        self.last_poll_us: int | None = None
        self.caught_up_us: int | None = None
        self.polls_total = self.errors_total = 0
        self.lately = Throughput()
        self.idle = trio.Event()  # set while no poll is under way
        self.idle.set()
        self._began = trio.Event()
        self._woken = trio.Event()
        self._stale = True  # the journal may know better how it stands
        self._wanted = False  # somebody waits for the next poll to begin
        self.draining = False
        self._poll_scope = trio.CancelScope()

    # --- for the directory: plain calls

    def wake(self) -> None:
        """The journal says something new of this connector."""
        self._stale = True
        # Whatever it is, the next page of a poll that began before it is not taken any more. A source that brings none
        # is broken off, though not at once: it may be the one that asked for this, and have something left to say.
        self._poll_scope.deadline = min(self._poll_scope.deadline, trio.current_time() + BROKEN_OFF_AFTER_S)
        self._woken.set()

    def poll_now(self) -> trio.Event:
        """Have it poll as soon as may be; the event is set when a poll begins, or none will: it is held, or stops."""
        if self.standing.polling and not self._stale:
            began = trio.Event()
            began.set()
            return began
        self._wanted = True  # for one that is under way is not what is wanted, after a hold or a reset
        self.standing = core.poll_now(self.standing, trio.current_time())
        self._woken.set()
        return self._began

    def drain(self) -> None:
        """Poll no more, and break off a poll that is under way: what was not acknowledged is read again."""
        self.draining = True
        self._poll_scope.cancel()
        self._woken.set()
        self._answer_waiters()

    @property
    def next_poll_us(self) -> int | None:
        """The instant of the next poll, or None."""
        due = self.standing.due
        if self.draining or math.isinf(due):
            return None
        return self._tools.clock.now_us() + round(max(0.0, due - trio.current_time()) * 1e6)

    def statistics(self) -> dict[str, Any]:
        """Figures for the tree."""
        return {
            "status": self.standing.status,
            "polls_total": self.polls_total,
            "errors_total": self.errors_total,
            "failures": self.standing.failures,
        }

    # --- the actor

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Poll until cancelled."""
        self.idle.set()
        self.standing = core.initial(self.spec.every, trio.current_time(), self._tools.chance())
        self._stale = True
        task_status.started()
        while True:
            if self._stale:
                await self._read_standing()
            if self._wanted:
                self.standing = core.poll_now(self.standing, trio.current_time())
            if self.standing.due <= trio.current_time() and not self.draining:
                await self._poll_once()
                continue
            self._woken = trio.Event()
            if self._stale:
                continue
            with trio.move_on_at(math.inf if self.draining else self.standing.due):
                await self._woken.wait()

    def _answer_waiters(self) -> None:
        """Who waits for a poll to begin goes on, and looks how it stands."""
        began, self._began = self._began, trio.Event()
        began.set()
        self._wanted = False

    async def _read_standing(self) -> ConnectorRow:
        """How the journal has it, with all that is on its way there."""
        self._stale = False
        await self._tools.writer.wait_durable(self._tools.writer.seq)
        row = self._tools.reader.connector(self.spec.name)
        if row.status == "running":
            if self.standing.held is not None:
                self.last_error = None  # a person has looked at it
            self.standing = core.release(self.standing, trio.current_time())
        else:
            self.standing = core.hold(self.standing, "paused" if row.status == "paused" else "quarantined")
            self._answer_waiters()
        if self.caught_up_us is None:
            self.caught_up_us = row.advanced_at
        return row

    async def _poll_once(self) -> None:
        self.idle = trio.Event()
        self.polls_total += 1
        self.last_poll_us = self._tools.clock.now_us()
        self.standing = core.begin(self.standing)
        self._answer_waiters()
        self._poll_scope = trio.CancelScope()
        drawn = _Drawn()
        error: BaseException | None = None
        try:
            with self._poll_scope:
                if self.draining:  # it was said before there was a scope to cancel
                    self._poll_scope.cancel()
                await self._poll(drawn)
        except Exception as caught:  # noqa: BLE001 - whatever it is, it is told, counted and shown
            error = caught
        finally:
            self.standing = core.interrupted(self.standing, trio.current_time())
            self.idle.set()
        await self._judge(drawn, error)

    async def _judge(self, drawn: _Drawn, error: BaseException | None) -> None:
        """What the end of a poll means for the next one."""
        now, chance = trio.current_time(), self._tools.chance()
        if error is None and not self._poll_scope.cancelled_caught:
            more = drawn.more and (drawn.records > 0 or drawn.moved)
            self.standing = core.ended(self.standing, now, chance, records=drawn.records, more=more)
            if self.spec.due_us is not None:
                self.standing = core.at(self.standing, now + self._until_due_s(self.spec.due_us))
            self.last_error = None
            if not drawn.more:
                self.caught_up_us = self._tools.clock.now_us()
            return
        leaves = [] if error is None else list(leaves_of(error))
        if not leaves or all(isinstance(leaf, OURS) for leaf in leaves):
            self._stale = True  # it goes on from what the journal says
            return
        leaf = next(leaf for leaf in leaves if not isinstance(leaf, OURS))
        self.last_error = described(leaf)
        self.errors_total += 1
        if all(isinstance(leaf, FAILURES + OURS) for leaf in leaves):
            after_s = leaf.retry_after_s if isinstance(leaf, SourceError) else None
            self.standing = core.failed(self.standing, now, chance, retry_after_s=after_s)
            # Not the message: a source's code may have put data into it. `connectors show` has it.
            log.warning("connector %s: a poll failed: %s", self.spec.name, type(leaf).__name__)
        else:
            await self._crashed(now, chance, leaf)

    def _until_due_s(self, due_us: Callable[[int], int | None]) -> float:
        """Seconds until the instant that the clock makes due; no more than `every`, because the clock may jump."""
        now_us = self._tools.clock.now_us()
        due = due_us(now_us)
        return self.spec.every if due is None else min(max(0.0, (due - now_us) / 1e6), self.spec.every)

    async def _crashed(self, now: float, chance: float, error: BaseException) -> None:
        self.standing = core.crashed(self.standing, now, chance)
        log.error("connector %s crashed", self.spec.name, exc_info=error)
        if self.standing.broken:
            data = ErrorData(type(error).__name__, str(error)[:ERROR_CHARACTERS_MAX])
            command = m.QuarantineConnector(name=self.spec.name, error=data, crashes=self.standing.crashes)
            try:
                await self._offer(command)
            except OURS as unheard:
                log.warning("connector %s is not quarantined yet, its next crash will: %s", self.spec.name, unheard)
            self._stale = True

    @property
    def _origin(self) -> m.Origin:
        return m.Origin(by=f"connector:{self.spec.name}")

    # --- one poll

    async def _poll(self, drawn: _Drawn) -> None:
        row = await self._read_standing()
        if self.standing.held is not None:
            raise ConnectorHeld(f"connector {self.spec.name!r} is {self.standing.held}")
        poll = self._tools.make_poll(self.spec, self._cursor(row.cursor))
        send, receive = trio.open_memory_channel[tuple[Page, trio.Event]](0)
        faults: list[Exception] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._draw, poll, send, faults)
            with receive:
                try:
                    await self._take_pages(row, poll, receive, drawn)
                except Exception as error:  # noqa: BLE001 - raised below, where no nursery wraps it
                    faults.insert(0, error)
            nursery.cancel_scope.cancel()
        if faults:
            raise grouped(faults)

    async def _draw(
        self, poll: Poll[Any], send: trio.MemorySendChannel[tuple[Page, trio.Event]], faults: list[Exception]
    ) -> None:
        """Run the source, a page at a time, in lock step with who takes them."""
        with send:
            try:
                async with closing(self.spec.source(poll)) as pages:
                    async for page in pages:
                        taken = trio.Event()
                        await send.send((page, taken))
                        await taken.wait()
            except Exception as error:  # noqa: BLE001 - whose fault it is, `_judge` decides
                faults.append(error)
            finally:
                await poll.rest()

    async def _take_pages(
        self,
        row: ConnectorRow,
        poll: Poll[Any],
        receive: trio.MemoryReceiveChannel[tuple[Page, trio.Event]],
        drawn: _Drawn,
    ) -> None:
        cursor = poll.cursor
        while True:
            try:
                with trio.fail_after(self.spec.timeout):
                    page, taken = await receive.receive()
            except trio.EndOfChannel:
                return
            except trio.TooSlowError:
                raise SourceError(f"no page came within {self.spec.timeout:g} s") from None
            if not isinstance(page, Page):
                raise DefinitionError(f"connector {self.spec.name} yields a {type(page).__name__}, not a runtimed.Page")
            if self.spec.ahead:
                taken.set()  # it reads what follows meanwhile, and waits with that: one page ahead, in order
            cursor = await self._take(row, page, cursor, drawn)
            drawn.more = page.more
            taken.set()

    async def _take(self, row: ConnectorRow, page: Page, before: Any, drawn: _Drawn) -> Any:
        """Have one page taken; gives the cursor after it. It moves with the last piece."""
        cursor, encoded = before, None
        if page.cursor is not None:
            cursor, encoded = self._checked(page.cursor, before)
            drawn.moved = drawn.moved or cursor != before
        items, refused = items_of(self.spec.name, page, self.spec.key)
        items_max = PAGE_RECORDS_MAX if self.spec.deliver.kind == "records" else PAGE_EFFECTS_MAX
        parts = list(pieces(items, self._tools.piece_bytes_max, items_max)) or [[]]
        for part in parts[:-1]:
            await self._offer_page(row, page, part, [], None, drawn)
        if parts[-1] or refused or encoded is not None:
            await self._offer_page(row, page, parts[-1], refused, encoded, drawn)
        return cursor

    async def _offer_page(
        self,
        row: ConnectorRow,
        page: Page,
        items: list[StoredItem],
        refused: list[DeliveryRefused],
        cursor: Raw | None,
        drawn: _Drawn,
    ) -> None:
        command = m.TakePage(
            connector=self.spec.name,
            generation=row.generation,
            deliver=self.spec.deliver,
            items=items,
            refused=refused,
            cursor=cursor,
            stream=page.stream,
            source_kind=self.spec.kind,
            begins=drawn.begins,
            origin=self._origin,
        )
        taken: m.PageTaken = await self._offer(command)
        drawn.begins = False
        fresh = taken.records - taken.repeated - taken.refused
        drawn.records += fresh
        self.lately.add(fresh, self._tools.clock.now_us())

    async def _offer(self, command: m.Message) -> Any:
        """Send a command until it is taken in: while all is full, or the disk is, this waits, and so does the source.
        Raises ActorRestarted, ConnectorHeld, Draining, after which the poll has to begin anew."""
        pause_s, longest_s = OFFER_AGAIN_S
        while True:
            try:
                if self._tools.has_room():
                    return await self._tools.ask(command)
            except (MailboxFull, Overloaded):
                pass  # said in health by who is overloaded; here only time helps
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, longest_s)

    # --- cursors

    def _cursor(self, raw: Raw) -> Any:
        """The cursor as the source's type. Raises DefinitionError if it was written by code that meant another."""
        if bytes(raw) == b"null":
            return None
        try:
            return self._decoder.decode(raw)
        except msgspec.MsgspecError as error:
            raise DefinitionError(
                f"the cursor of {self.spec.name} is {bytes(raw).decode()[:200]}: {error}",
                hint="The code took another type once. `runtimed connectors reset` sets the cursor anew.",
            ) from error

    def _checked(self, cursor: Any, before: Any) -> tuple[Any, Raw]:
        """A page's cursor as it will be read back, and its JSON. Raises SourceGarbled if it goes back."""
        if isinstance(cursor, float) and not math.isfinite(cursor):
            raise SourceGarbled(f"the cursor {cursor} is no number to go on from")
        try:
            encoded = Raw(_encode(cursor))
            decoded = self._decoder.decode(encoded)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise DefinitionError(
                f"the cursor {cursor!r} of a page does not fit the connector's type: {error}"
            ) from None
        if _ordered(decoded) and _ordered(before):
            try:
                back = decoded < before
            except TypeError as error:
                raise SourceGarbled(f"the cursor {cursor!r} cannot be compared with {before!r}: {error}") from None
            if back:
                raise SourceGarbled(f"the cursor goes back, from {before} to {decoded}; nothing of the page was taken")
        return decoded, encoded


def _ordered(cursor: Any) -> bool:
    return isinstance(cursor, int | float | datetime) and not isinstance(cursor, bool)
