"""The approvals: an inbox of what waits for people, what each asks, and what was decided last.

`enter` opens the card of one; nothing here decides anything. `m` leaves only what waits for whoever looks, `h` shows
what is decided.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical

from actors.errors import NotFound
from runtimed.client_wire import Broken
from runtimed.wire import CallerView
from tui.approval_text import (
    OUTCOMES,
    RISKS,
    Context,
    brief_of,
    closed_sentence,
    context_of,
    decided_line,
    facts_of,
    given,
    is_mine,
    payload_of,
    rule,
    votes_of,
)
from tui.format import Cell, Line, Piece, age_between, micros, short_id, until
from tui.messages import RowHighlighted, RowOpened
from tui.model import APPROVALS, APPROVALS_HELD_MAX, LINK, Change
from tui.screens.base import AreaScreen
from tui.screens.decision_card import DecisionCard
from tui.states import STATES
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from tui.work import begin
from wal.errors import RuntimedError
from wal.views import ApprovalView

COLUMNS = (
    Column("RISK", (4, 4, 4, 4)),
    Column("#", (6, 6, 7, 8), ">"),
    Column("WHAT", (20, 22, 24, 28), grow=True),
    Column("RUN", (0, 8, 8, 10)),
    Column("WAITS", (0, 5, 5, 5), ">"),
    Column("EXPIRES", (7, 7, 7, 7), ">"),
    Column("VOTES", (0, 5, 5, 5), ">"),
)
DECIDED_COLUMNS = (
    Column("ANSWER", (9, 9, 9, 9)),
    Column("#", (6, 6, 7, 8), ">"),
    Column("WHAT", (20, 22, 24, 28), grow=True),
    Column("RUN", (0, 8, 8, 10)),
    Column("BY", (10, 14, 14, 16)),
    Column("AGO", (5, 5, 5, 5), ">"),
)
HISTORY_RECORDS = 500
"""As many records of a run are read to say what a failure would undo; a longer run's card says less, never wrong."""
CONTEXTS_MAX = 100
DECIDED_SHOWN, DECIDED_SHOWN_WIDE = 3, 8
_RISK_ORDER = {"high": 0, "medium": 1, "low": 2}
_SORTS: dict[str, Callable[[ApprovalView], Any]] = {
    "expires": lambda view: (view.expires_at or "9", view.requested_at or ""),
    "waits": lambda view: (view.requested_at or "", view.expires_at or "9"),
    "risk": lambda view: (_RISK_ORDER.get(view.risk, 1), view.expires_at or "9", view.requested_at or ""),
}
OPEN, MINE, DECIDED = "open", "mine", "decided"


class Inbox(VirtualList):
    """The list, which says what enter does."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "open card", id="list.open")]


class ApprovalsScreen(AreaScreen):
    """Area 3."""

    AREA = "approvals"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "mine", "mine", id="approvals.mine"),
        Binding("h", "decided", "decided", id="approvals.decided"),
        Binding("s", "sort", "sort", id="approvals.sort"),
        Binding("S", "reverse", "reverse", show=False, id="approvals.reverse"),
    ]
    CSS = """
    ApprovalsScreen #panes { layout: vertical; height: 1fr; width: 100%; }
    ApprovalsScreen #inbox-side { width: 1fr; height: 1fr; }
    ApprovalsScreen #request { height: 9; }
    ApprovalsScreen #decided { height: 4; }
    ApprovalsScreen #decided-side { height: 10; display: none; }
    ApprovalsScreen #context { display: none; }
    ApprovalsScreen.-short #decided, ApprovalsScreen.-narrow #decided { display: none; }
    ApprovalsScreen.-narrow #request { height: 6; }
    ApprovalsScreen.-wide #panes, ApprovalsScreen.-xwide #panes { layout: horizontal; }
    ApprovalsScreen.-wide #request, ApprovalsScreen.-xwide #request { height: 1fr; width: 1fr; }
    ApprovalsScreen.-wide #decided, ApprovalsScreen.-xwide #decided { display: none; }
    ApprovalsScreen.-wide #decided-side, ApprovalsScreen.-xwide #decided-side { display: block; }
    ApprovalsScreen.-xwide #inbox-side { width: 74; }
    ApprovalsScreen.-xwide #context { display: block; width: 52; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[ApprovalView] = ListRows(lambda view: view.id, self._cells)
        self.which = OPEN
        self.sort, self.reversed = "expires", False
        self.caller: CallerView | None = None
        self.card: DecisionCard | None = None
        self._filter = ""
        self._contexts: OrderedDict[str, Context] = OrderedDict()

    def body(self) -> ComposeResult:
        """A line of counts, the inbox, the request at the cursor, what was decided last."""
        yield Lines(id="counts", classes="line")
        with Container(id="panes"):
            with Vertical(id="inbox-side"):
                yield Inbox(COLUMNS, self.rows, id="inbox", empty=self._empty)
                yield Lines(id="decided-side")
            yield Lines(id="request")
            yield Lines(id="context", frame=True, title="Context")
        yield Lines(id="decided")

    # --- what is listed

    @property
    def filter_text(self) -> str:
        return self._filter

    def forget(self) -> None:
        self._contexts.clear()

    def set_filter(self, text: str) -> None:
        self._filter = text
        self._relist()

    def show(self, change: Change) -> None:
        if LINK in change.topics:
            begin(self, self._learn_who, group="whoami", exclusive=True)
            if self.card is not None:
                self.card.draw()  # it may take input again, or not any more
            self._look_at_cursor()
        if APPROVALS in change.topics:
            self._relist()
            self._tell_card()
        else:
            self.query_one(VirtualList).repaint()
            self._show_panes()

    def _relist(self) -> None:
        self.rows.items = self._listed()
        self.query_one(VirtualList).reload()
        self._show_panes()
        self.update_keys()

    def _listed(self) -> list[ApprovalView]:
        if self.which == DECIDED:
            found = sorted(self.model.decided, key=lambda view: view.decided_at or "", reverse=not self.reversed)
        else:
            found = sorted(self.model.approvals.values(), key=_SORTS[self.sort], reverse=self.reversed)
        if self.which == MINE:
            found = [view for view in found if self._mine(view)]
        return [view for view in found if self._matches(view)]

    def _mine(self, view: ApprovalView) -> bool:
        return is_mine(view, self.caller, self._contexts.get(view.id, Context()))

    def _matches(self, view: ApprovalView) -> bool:
        about = f"#{view.id} {view.title} {view.run_id} {view.workflow} risk:{view.risk} "
        about += " ".join(f"role:{role}" for role in view.roles)
        return all(word in about.lower() for word in self._filter.lower().split())

    def _cells(self, view: ApprovalView) -> Sequence[Cell]:
        now, step = self.dash.now(), self.dash.width_class
        run = short_id(view.run_id, COLUMNS[3].widths[step])
        if self.which == DECIDED:
            word, look = OUTCOMES.get(view.status, (view.status.upper(), ""))
            by = view.votes[-1].by if view.votes and view.status in ("approved", "refused") else None
            return [Piece(word, look), view.id, view.title, run, by or "-", age_between(view.decided_at, now)]
        word, look = RISKS.get(view.risk, (view.risk.upper()[:4], "warn"))
        waits, expires = age_between(view.requested_at, now), until(view.expires_at, now)
        soon = (micros(view.expires_at) or now + 1_000_000_000_000) - now < 600_000_000
        votes = f"{given(view)}/{view.quorum}"
        return [Piece(word, look), view.id, view.title, run, waits, Piece(expires, "warn" if soon else ""), votes]

    def _empty(self) -> str:
        held = len(self.model.approvals)
        if self._filter:
            return f"nothing matches {self._filter} ({held} open) - esc clears the filter"
        if self.which == MINE and held:
            return f"nothing waits for you ({held} open for others) - m shows all"
        if self.which == DECIDED:
            return "nothing was decided lately - h shows what is open"
        decided = len(self.model.decided)
        return "nobody is asked for anything" + (f" ({decided} decided lately - h shows them)" if decided else "")

    # --- what is shown beside

    def _show_panes(self) -> None:
        now, glyphs = self.dash.now(), self.dash.glyphs
        self.query_one("#counts", Lines).show([self._counts()])
        request = self.query_one("#request", Lines)
        request.frame = self.dash.width_class >= 2
        view = self.rows.item(self.query_one(VirtualList).cursor_key)
        width = request.room.width
        if view is None:
            request.show([], title="")
            self.query_one("#context", Lines).show([])
        else:
            context = self._contexts.get(view.id, Context())
            if request.frame:
                request.show(self._whole(view, context, width), title=f"#{view.id} {view.title}")
                self.query_one("#context", Lines).show(self._around(view, context))
            else:
                request.show(brief_of(view, context, now, width, glyphs))
        decided = [decided_line(each, now) for each in self.model.decided]
        for pane, most in (("#decided", DECIDED_SHOWN), ("#decided-side", DECIDED_SHOWN_WIDE)):
            head = rule(f"decided (last {min(most, len(decided))})", self.size.width, glyphs)
            self.query_one(pane, Lines).show([head, *decided[:most]])

    def _counts(self) -> Line:
        views = self.model.approvals.values()
        more = "+" if len(views) >= APPROVALS_HELD_MAX else ""
        mine = "?" if self.caller is None else str(sum(1 for view in views if self._mine(view)))
        pieces = [Piece(f"open {len(views)}{more}", "need" if views else "")]
        pieces.append(Piece(f"  mine {mine}{more}  decided {len(self.model.decided)} lately"))
        sort = "NEWEST" if self.which == DECIDED else self.sort.upper()
        way = " reversed" if self.reversed else ""
        pieces.append(Piece(f"   shown: {self.which}   sort {sort}{way}   filter: {self._filter or '-'}", "dim"))
        return pieces

    def _whole(self, view: ApprovalView, context: Context, width: int) -> list[Line]:
        now, glyphs = self.dash.now(), self.dash.glyphs
        if view.status != "open":
            settled: list[Line] = [[Piece(" " + closed_sentence(view), "warn")], []]
        else:
            settled = []
        payload = rule(f"payload  sha256 {view.payload_hash[:16]}..", width, glyphs)
        facts = facts_of(view, context, now, width)
        return [*settled, *facts, *votes_of(view, now, width), payload, *payload_of(view, width)]

    def _around(self, view: ApprovalView, context: Context) -> list[Line]:
        """The run's steps, other requests of the same run and workflow, and the policy."""
        glyphs = self.dash.glyphs
        lines: list[Line] = [[Piece(f"run {short_id(view.run_id, 36)}", "bold")]]
        for name, word in context.steps[-12:]:
            state = STATES[word]
            lines.append([Piece(f" {glyphs.of(state)} {word:<5} ", state.look), Piece(name)])
        if not context.known:
            lines.append([Piece(" its records are not read yet", "dim")])
        others = [each for each in self.model.approvals.values() if each.id != view.id and each.run_id == view.run_id]
        similar = [each for each in self.model.decided if each.workflow == view.workflow and each.id != view.id]
        lines += [[], [Piece("same run, open too", "bold")]]
        lines += [[Piece(f" #{each.id} {each.title}")] for each in others[:5]] or [[Piece(" none", "dim")]]
        lines += [[], [Piece("same workflow, decided", "bold")]]
        lines += [decided_line(each, self.dash.now()) for each in similar[:5]] or [[Piece(" none lately", "dim")]]
        return lines

    # --- what is asked for

    async def _learn_who(self) -> None:
        """Who we are to the daemon: it says which requests are ours."""
        client = self.dash.client
        if client is None:
            return
        try:
            caller = await client.whoami()
        except NotFound:  # an older daemon, which then says no by itself
            return
        except (RuntimedError, Broken) as error:
            self.dash.toast(str(error), severity="warning")
            return
        if caller != self.caller:
            self.caller = caller
            self._relist()

    async def _learn_context(self, view: ApprovalView) -> Context:
        page = await self.ask(lambda source: source.history(view.run_id, limit=HISTORY_RECORDS))
        if page is None:
            return self._contexts.get(view.id, Context())  # not known yet; asked again when it is looked at again
        context = Context() if page.next is not None else context_of(page.items)
        self._contexts[view.id] = context
        self._contexts.move_to_end(view.id)
        while len(self._contexts) > CONTEXTS_MAX:
            self._contexts.popitem(last=False)
        return context

    async def _learn_highlighted(self, view: ApprovalView) -> None:
        await self._learn_context(view)
        self._show_panes()

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another request to show."""
        self._look_at_cursor()
        self._show_panes()

    def _look_at_cursor(self) -> None:
        view = self.rows.item(self.query_one(VirtualList).cursor_key)
        if view is not None and view.id not in self._contexts and self.dash.source is not None:
            begin(self, partial(self._learn_highlighted, view), group="context", exclusive=True)

    # --- the card

    def on_row_opened(self, message: RowOpened) -> None:
        """Enter or a second click: the card."""
        self._open_card(message.key)

    def open_target(self, target: str) -> None:
        self.query_one(VirtualList).move_to_key(target)
        self._open_card(target)

    def _open_card(self, approval_id: str) -> None:
        begin(self, partial(self._fetch_card, approval_id), group="card", exclusive=True)

    async def _fetch_card(self, approval_id: str) -> None:
        view = await self.ask(lambda source: source.approval(approval_id))
        if view is None:
            return
        context = await self._learn_context(view)
        await self._learn_who()
        if self.app.screen is self:  # whoever asked for it is still here
            self.card = DecisionCard(view, context, self.caller)
            self.app.push_screen(self.card, self._card_left)

    def _card_left(self, outcome: str | None) -> None:
        self.card = None
        if outcome is not None:
            self.dash.toast(outcome)

    def _tell_card(self) -> None:
        """The open card's approval as the events told it; asked for if it is in no list any more."""
        card = self.card
        if card is None or not card.is_mounted:
            return
        lists = [*self.model.approvals.values(), *self.model.decided]
        view = next((view for view in lists if view.id == card.view.id), None)
        if view is not None:
            card.seen(view)
        else:
            begin(card, card.look_again, group="look", exclusive=True)

    # --- keys

    def action_mine(self) -> None:
        """Only what waits for whoever looks, or all."""
        self._switch(MINE)

    def action_decided(self) -> None:
        """What was decided, or what is open."""
        self._switch(DECIDED)

    def _switch(self, which: str) -> None:
        self.which = OPEN if self.which == which else which
        listing = self.query_one(VirtualList)
        listing.columns = DECIDED_COLUMNS if self.which == DECIDED else COLUMNS
        listing.refresh()
        self._relist()

    def action_sort(self) -> None:
        """By expiry, by waiting time, by risk."""
        names = list(_SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]
        self._relist()

    def action_reverse(self) -> None:
        self.reversed = not self.reversed
        self._relist()

    def action_back(self) -> None:
        """The filter first, then the whole inbox."""
        if self.filter_text:
            self.set_filter("")
        elif self.which != OPEN:
            self._switch(self.which)

    def selected_id(self) -> str | None:
        return self.query_one(VirtualList).cursor_key

    def command(self) -> str | None:
        key = self.selected_id()
        return None if key is None else self.dash.command("approvals", "show", key)
