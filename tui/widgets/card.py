"""A card: shows what a wish would do, takes the reason, and sends it only by Submit. All wishes go through one.

The rules, each of them because somebody once confirmed by accident: a card opens only by a person's key; for 400 ms
and until the keyboard rests nothing counts; no field is focused or chosen; letters, digits and Enter do nothing outside
fields; Enter acts on Submit alone. What was sent once is never sent again blindly: if the connection breaks, the card asks the
daemon what came of it. Leaving without Submit changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Button

from runtimed.client import Client, DaemonUnreachable, TimedOut
from runtimed.client_wire import Broken
from tui.format import Line, Piece
from tui.source import Source
from tui.widgets.lines import Lines, dashboard
from wal.errors import RuntimedError

if TYPE_CHECKING:
    from tui.app import Dashboard

DEAD_SECONDS = 0.4
REASON_MIN = 8
OPEN, SENDING, UNKNOWN, DONE = "open", "sending", "unknown", "done"


class Card(ModalScreen[str | None]):
    """Subclasses say what is shown (`head`, `about`), what is asked (`fields`), whether it is complete (`missing`), how
    it is sent (`send`) and how to find out whether it came through (`find_out`). Dismissed with what was done, or
    None."""

    AUTO_FOCUS: ClassVar[str | None] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "next field", id="card.next"),
        Binding("shift+tab", "app.focus_previous", "field before", show=False, id="card.previous"),
        Binding("escape", "leave", "leave without doing it", id="card.leave"),
    ]

    def __init__(self) -> None:
        super().__init__(classes="card")
        self.state = OPEN
        self.idempotency_key = uuid.uuid4().hex
        self.armed = False
        self._rest: Timer | None = None

    # --- what a card says

    def head(self) -> Sequence[Line]:
        """The first lines; they may change while the card is open (a deadline), the fields never do."""
        return []

    def about(self) -> Sequence[Line]:
        """What would happen."""
        return []

    def fields(self) -> Sequence[Widget]:
        """What is asked; nothing of it may be chosen already."""
        return []

    def missing(self) -> str | None:
        """What is still to be given before Submit; None if nothing."""
        return None

    async def send(self, client: Client) -> str:
        """Send the wish under `idempotency_key`; what was done, in a sentence."""
        raise RuntimeError(f"{type(self).__name__} cannot be sent")

    async def find_out(self, source: Source) -> str | None:
        """After a break: what came of it, in a sentence, or None if nothing did."""
        return None

    # --- its life

    @property
    def dash(self) -> Dashboard:
        """The app."""
        return dashboard(self)

    def compose(self) -> ComposeResult:
        """Head, what would happen, fields, Submit, and how it went."""
        yield Lines(id="card-head", classes="card-head")
        yield Lines(id="card-about")
        with Vertical(id="card-fields", disabled=True):
            yield from self.fields()
        with Horizontal(id="card-foot"):
            yield Button("Submit", id="card-submit", disabled=True, compact=True)
            yield Lines(id="card-status", classes="line")
        yield Lines(id="card-keys", classes="line")

    def on_mount(self) -> None:
        """Draw, and begin the dead time."""
        self.redraw()
        self._rest = self.set_timer(DEAD_SECONDS, self._arm)

    def redraw(self) -> None:
        """Draw what may have changed: everything but the fields."""
        if not self.is_attached:
            return
        head = list(self.head())
        self.query_one("#card-head", Lines).styles.height = max(1, len(head))
        self.query_one("#card-head", Lines).show(head)
        self.query_one("#card-about", Lines).show(list(self.about()))
        why_not = self.dash.why_not()
        text, look = self._status(why_not)
        self.query_one("#card-status", Lines).show([[Piece(text, look)]])
        keys = "tab next field   enter on Submit only   esc leave without doing it"
        self.query_one("#card-keys", Lines).show([[Piece(keys, "dim")]])
        self.query_one("#card-fields").disabled = not self.armed or bool(why_not) or self.state != OPEN
        self.query_one("#card-submit", Button).disabled = self.query_one("#card-fields").disabled

    def _status(self, why_not: str) -> tuple[str, str]:
        if self.state == SENDING:
            return "  sending ...", "warn"
        if self.state == UNKNOWN:
            return "  the connection broke: outcome unknown, checking ...", "need"
        if why_not:
            return f"  {why_not}", "need"
        missing = self.missing()
        return (f"  {missing}", "dim") if missing else ("  complete", "ok")

    def _arm(self) -> None:
        self.armed = True
        self.redraw()

    def on_key(self, event: events.Key) -> None:
        """A key in the dead time was meant for something else: it begins anew."""
        if not self.armed and event.key != "escape":
            event.stop()
            event.prevent_default()
            if self._rest is not None:
                self._rest.stop()
            self._rest = self.set_timer(DEAD_SECONDS, self._arm)

    def on_input_changed(self) -> None:
        """What is missing has changed."""
        self.redraw()

    def on_text_area_changed(self) -> None:
        """The same."""
        self.redraw()

    def on_radio_set_changed(self) -> None:
        """The same."""
        self.redraw()

    # --- sending

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Submit, the one way out with an effect."""
        event.stop()
        missing = self.missing()
        if not self.armed or self.state != OPEN or self.dash.why_not():
            return
        if missing is not None:
            self.dash.toast(missing, severity="warning")
            return
        self.state = SENDING
        self.redraw()
        self.dash.run_worker(self._send(), group="card")  # the app's: it goes on when the card is left

    async def _send(self) -> None:
        client = self.dash.client
        if client is None:
            self._reopen("the daemon is away; nothing was sent")
            return
        try:
            done = await self.send(client)
        except (DaemonUnreachable, TimedOut, Broken):
            self.state = UNKNOWN
            self.redraw()
            await self._check()
        except RuntimedError as error:
            self._reopen(f"refused: {error}")
            await self.refused(error)
        else:
            self._done(done)

    async def refused(self, error: RuntimedError) -> None:
        """The daemon said no; a card that shows something stale reads it anew here."""

    async def _check(self) -> None:
        """Ask until the daemon is back and says what came of it."""
        while True:
            source = self.dash.source
            if source is not None and self.dash.link_state.live:
                try:
                    done = await self.find_out(source)
                except (RuntimedError, Broken):
                    done = None
                else:
                    if done is None:
                        self._reopen("nothing came of it: the daemon has no record. Submit sends it anew")
                    else:
                        self._done(done)
                    return
            await self.dash.link.told()

    def _reopen(self, text: str) -> None:
        self.state = OPEN
        self.redraw()
        if self.is_attached:
            self.query_one("#card-status", Lines).show([[Piece(f"  {text}", "need")]])
        else:
            self.dash.toast(text, severity="warning")

    def _done(self, text: str) -> None:
        self.state = DONE
        self.dash.toast(text)
        if self.is_current:
            self.dismiss(text)

    def action_leave(self) -> None:
        """Leave; what is under way goes on, and its outcome comes as a toast."""
        self.dismiss(None)


def reason_missing(reason: str, *, required: bool = True) -> str | None:
    """What is wrong with a reason; None if it will do."""
    length = len(reason.strip())
    if length == 0 and not required:
        return None
    return None if length >= REASON_MIN else f"a reason of at least {REASON_MIN} characters is required"
