"""What every area's screen is: the frame of header, tabs and keys round a body, and what the app asks of a screen.

A new screen derives from `AreaScreen`, says its `AREA`, yields its body in `body()`, and draws in `show(change)`. It
reads `self.model`, asks `await self.ask(lambda source: ...)` for more, and goes elsewhere by `self.dash.go`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen

from runtimed.client_wire import Broken
from tui.format import Piece, fit
from tui.lean import LeanCompositor
from tui.messages import AreaChosen
from tui.model import EVERYTHING, Change, Model
from tui.source import Source
from tui.widgets.header import Header
from tui.widgets.keys import Keys
from tui.widgets.lines import Lines, dashboard
from tui.widgets.tabs import Tabs
from tui.work import EndsWork
from wal.errors import RuntimedError

if TYPE_CHECKING:
    from tui.app import Dashboard

T = TypeVar("T")


class AreaScreen(EndsWork, Screen[None]):
    """One area. Subclasses set `AREA` and implement `body` and `show`."""

    AREA: ClassVar[str] = ""
    AUTO_FOCUS: ClassVar[str | None] = "VirtualList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", show=False, id="screen.filter"),
        Binding("escape", "back", "back", show=False, id="screen.back"),
        Binding("y", "copy_id", "copy id", id="screen.copy_id"),
        Binding("Y", "copy_command", "copy CLI", id="screen.copy_command"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._compositor = LeanCompositor()
        self._journal_number = 0
        self._header, self._keys = Header(classes="header"), Keys(classes="keys")

    # --- what a screen provides

    def body(self) -> ComposeResult:
        """The widgets between the tabs and the keys."""
        yield Lines(id="body")

    def show(self, change: Change) -> None:
        """Draw what has changed. Called at most four times a second while this screen is current, with `EVERYTHING`
        when it becomes so; and each second with no change, for ages: draw only text that is different."""

    def forget(self) -> None:
        """Another journal is read from now on, such as a backup that was put back: drop what is kept by seqs or ids of
        the old one. `show` comes after it."""

    def set_filter(self, text: str) -> None:
        """The filter line was answered; empty text clears."""

    @property
    def filter_text(self) -> str:
        """The filter as it stands."""
        return ""

    def open_target(self, target: str) -> None:
        """Show the thing of this id: the end of `:run 7f3`, of the palette, of a need on the overview."""

    def shows_run(self, run_id: str) -> bool:
        """Whether this run is on screen: then it is asked for when it changes, also if it is not among those held."""
        return False

    def countdowns(self) -> Iterable[str | None]:
        """The instants up to which is counted down on screen; at the end that is exact to the second."""
        model = self.model
        yield from (view.expires_at for view in model.approvals.values())
        yield from (run.waiting_until for run in model.runs.values() if self.shows_run(run.id))

    def selected_id(self) -> str | None:
        """What `y` copies."""
        return None

    def command(self) -> str | None:
        """The command line that shows the same; what `Y` copies."""
        return None

    def remark(self) -> str:
        """A few words at the right of the last line, such as how many are marked."""
        return ""

    # --- what a screen gets

    @property
    def dash(self) -> Dashboard:
        """The app."""
        return dashboard(self)

    @property
    def model(self) -> Model:
        """What is known."""
        return self.dash.model

    async def ask(self, work: Callable[[Source], Awaitable[T]]) -> T | None:
        """Ask the daemon or the file; None, with a toast that says why, if there is no answer."""
        source = self.dash.source
        if source is None:
            return None
        try:
            return await work(source)
        except (RuntimedError, Broken) as error:
            self.dash.toast(str(error), severity="error")
            return None

    # --- the frame

    def compose(self) -> ComposeResult:
        """The frame round the body."""
        yield self._header
        yield Tabs(self.AREA)
        yield Lines(id="banner")
        with Vertical(classes="body"):
            yield from self.body()
        yield self._keys

    def on_screen_resume(self) -> None:
        """This screen is looked at again: it may have missed changes."""
        self.changed(EVERYTHING)

    def on_resize(self) -> None:
        """Another size: draw all once the layout is done."""
        self.call_after_refresh(self.changed, EVERYTHING)

    def changed(self, change: Change) -> None:
        """The frame and the body, after a change."""
        if not self._header.is_attached:
            return
        self.show_frame()
        if self._journal_number != self.model.journal_number:
            self._journal_number = self.model.journal_number
            self.forget()
        self.show(change)
        self.update_keys()

    def show_frame(self) -> None:
        """Header, tabs and banner; all that moves while the screen is frozen."""
        if not self._header.is_attached:  # being made: a change may come in between, and all is drawn once they are
            return
        self._header.update_header()
        self.query_one(Tabs).update_tabs()
        self._show_banner()

    def update_keys(self) -> None:
        """The last line anew: what has the focus, or what the line says at its right, has changed."""
        if self._keys.is_attached:
            self._keys.update_keys(self.remark())

    def on_descendant_focus(self) -> None:
        """Other keys are live."""
        self.update_keys()

    def _show_banner(self) -> None:
        banner, text = self.query_one("#banner", Lines), self.dash.banner()
        banner.display = bool(text)
        if text:
            banner.show([[Piece(fit(text, self.size.width), "need")]])

    def on_area_chosen(self, message: AreaChosen) -> None:
        """A tab was clicked."""
        self.dash.action_area(message.area)

    # --- keys that all areas have

    def action_filter(self) -> None:
        self.dash.prompt("filter", self.filter_text, self.set_filter)

    def action_back(self) -> None:
        """Clear the filter if there is one; screens that drill down go back first."""
        if self.filter_text:
            self.set_filter("")

    def action_copy_id(self) -> None:
        self.dash.copy(self.selected_id())

    def action_copy_command(self) -> None:
        self.dash.copy(self.command())
