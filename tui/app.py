"""The dashboard's app: the eight areas, the keys that are the same everywhere, and what the screens share."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType, Keymap
from textual.command import Provider
from textual.dom import DOMNode
from textual.geometry import Size
from textual.screen import Screen

from runtimed.client import Client
from tui.areas import AREAS, BY_NAME
from tui.copying import COPY_MAX_BYTES, osc52
from tui.format import TIME_STYLES, TimeStyle, clock, rfc3339_now, safe, stamp
from tui.glyphs import ASCII, UTF8
from tui.jump import Jump, parse_jump
from tui.link import Link, MakeClient, now_micros
from tui.link_state import LIVE, OFFLINE, LinkState
from tui.looks import ANSI_THEME, DEFAULT_THEME, THEMES, Looks, themes
from tui.messages import ModelChanged
from tui.model import EVERYTHING, NOTHING, Change, Model
from tui.palette import FindProvider, Palette
from tui.screens.base import AreaScreen
from tui.screens.help import Help
from tui.screens.prompt import Prompt
from tui.source import Source
from tui.widgets.keys import all_keys

AGE_SECONDS = 1.0
IDLE_TICKS = 10
LIVELY_MICROS, COUNTDOWN_MICROS, MINUTE_MICROS = 60_000_000, 10_000_000, 60_000_000
"""Ages are exact below ten seconds, then go in steps of ten, and from a minute on of minutes: where nothing has
happened for a minute and nothing ends within ten seconds, drawing at every tenth tick is soon enough."""
LEAST_SIZE = Size(60, 15)
_NEVER = "9"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the dashboard was started. `host` is what the header calls the daemon's place."""

    host: str = "local"
    journal: Path | None = None
    read_only: bool = False
    ascii: bool = False
    theme: str = DEFAULT_THEME
    color: bool = True
    place: str = ""
    area: str = "overview"
    keymap: dict[str, str] = {}


def _load(path: str) -> type[AreaScreen]:
    module, _, name = path.partition(":")
    found: type[AreaScreen] = getattr(importlib.import_module(module), name)
    return found


class Dashboard(App[int], inherit_bindings=False):
    """The app. `make_client` makes a client of the daemon; tests give one that plays a script.

    Textual's own keys are left out: ctrl+q is flow control on many terminals, and ctrl+c shall not quit by a slip.
    """

    CSS_PATH = "style.tcss"
    TITLE = "runtimed"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {FindProvider}
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-std"), (120, "-wide"), (160, "-xwide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (20, "-normal"), (40, "-tall")]
    PAUSE_GC_ON_SCROLL: ClassVar[bool] = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(
                f"{area.number},f{area.number}", f"area('{area.name}')", area.title, show=False, id=f"area.{area.name}"
            )
            for area in AREAS
        ),
        Binding("colon", "jump", "jump", show=False, id="app.jump"),
        Binding("question_mark", "help_keys", "help", show=False, id="app.help"),
        Binding("p", "freeze", "pause screen", id="app.freeze"),
        Binding("T", "next_theme", "theme", id="app.theme"),
        Binding("t", "next_time", "time", show=False, id="app.time"),
        Binding("q", "leave", "quit", id="app.quit"),
    ]

    def __init__(self, options: Options, make_client: MakeClient, *, now: Callable[[], int] = now_micros) -> None:
        super().__init__(ansi_color=None if options.color else True)
        self.options, self.now = options, now
        self.model = Model()
        self.link = Link(self.model, make_client, options.journal, self._tell, watched=lambda: self.app_focus, now=now)
        self.glyphs = ASCII if options.ascii else UTF8
        for theme in themes():
            self.register_theme(theme)
        self.theme = options.theme if options.color else ANSI_THEME
        self.looks = Looks(self.theme, ascii=self.options.ascii)
        self.time_style: TimeStyle = "utc"
        self.frozen = False
        self.frozen_events = 0
        self._history: dict[str, list[str]] = {}
        self._ticks, self._minute, self._ends_at = 0, 0, ""
        for area in AREAS:
            self.add_mode(area.name, lambda path=area.screen: _load(path)())  # type: ignore[misc]

    # --- what screens share -------------------------------------------------------------------------------------------

    @property
    def link_state(self) -> LinkState:
        """How fresh things are."""
        return self.link.state

    @property
    def source(self) -> Source | None:
        """Where to ask for more: the daemon, or its file; None before the first answer."""
        return self.link.source

    @property
    def client(self) -> Client | None:
        """For what changes something; None while there is no daemon. `why_not` says whether it may be used."""
        return self.link.client if self.link_state.live else None

    @property
    def host(self) -> str:
        """What the header calls the daemon's place."""
        return self.options.host

    @property
    def mode_word(self) -> str:
        """`ro` where nothing can be changed from here, else `rw`."""
        return "ro" if self.options.read_only or self.link_state.name == OFFLINE else "rw"

    @property
    def width_class(self) -> int:
        """0 below 80 columns, 1 below 120, 2 below 160, 3 beyond: the index into a column's widths."""
        return sum(self.size.width >= least for least in (80, 120, 160))

    @staticmethod
    def too_small(size: Size) -> bool:
        """Whether a terminal of this size has no room for panes."""
        return size.width < LEAST_SIZE.width or size.height < LEAST_SIZE.height

    def banner(self) -> str:
        """What must be said above everything: the daemon is down, or this is not a terminal for panes."""
        if self.too_small(self.size):
            return f"too small for panes: {self.size.width}x{self.size.height}, need 60x15"
        if self.link_state.name == OFFLINE:
            since = self.link_state.down_since(self.model)
            today = stamp(since)[:10] == stamp(rfc3339_now(self.now()))[:10]
            return f"DOWN since {clock(since) if today else stamp(since)} - {self.link_state.banner}"
        if self.link_state.name != LIVE and self.link_state.problem and self.source is None:
            return self.link_state.problem
        return ""

    def why_not(self) -> str:
        """Why nothing can be changed from here; empty if it can."""
        if self.options.read_only:
            return "this dashboard was started read-only"
        return self.link_state.why_not()

    def area_badge(self, area: str) -> str:
        """The number in a tab; empty for none."""
        return self.model.approvals_count() if area == "approvals" and self.model.approvals else ""

    def command(self, *words: str) -> str:
        """A command line for the same daemon."""
        return " ".join(["runtimed", *words, *([self.options.place] if self.options.place else [])])

    def toast(self, text: str, *, severity: Literal["information", "warning", "error"] = "information") -> None:
        """A note in the corner. The text is escaped and is not markup."""
        self.notify(safe(text), severity=severity, markup=False)

    def copy(self, text: str | None) -> None:
        """Put a text into the clipboard of the terminal."""
        if not text:
            self.toast("nothing to copy here", severity="warning")
            return
        sequence = osc52(text, os.environ)
        if sequence is None:
            self.toast(f"too long to copy: more than {COPY_MAX_BYTES} bytes", severity="warning")
            return
        self._clipboard = text
        if self._driver is not None:
            self._driver.write(sequence)
        self.toast(f"copied {len(text)} characters")

    def prompt(self, mark: str, text: str, answer: Callable[[str], None]) -> None:
        """Ask for a line at the foot; `answer` gets it, and nothing if it is left."""
        history = self._history.setdefault(mark, [])
        self.push_screen(Prompt(mark, text, history), lambda given: None if given is None else answer(given))

    # --- its life -----------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Show the first area and begin to follow the daemon."""
        if self.options.keymap:
            self.set_keymap(self.options.keymap)
        self.switch_mode(self.options.area)
        self.run_worker(self.link.run(), name="link", group="link", exclusive=True)
        self.set_interval(AGE_SECONDS, self._tick, name="ages")

    def _tell(self, change: Change) -> None:
        self.post_message(ModelChanged(change))

    def on_model_changed(self, message: ModelChanged) -> None:
        """Something changed: let the current screen draw it, and ask again for what the change does not say."""
        change = message.change
        wanted = self._worth_asking(change)
        if wanted.ask or wanted.ask_runs:
            self.run_worker(self.link.ask(wanted), group="ask")
        if self.frozen:
            self.frozen_events += change.events
        self._show(change)

    def _worth_asking(self, change: Change) -> Change:
        """Where more runs are open than are held, a run that is neither held nor on screen is not asked for: its count
        comes with the figures, and its page with the list."""
        if self.model.complete:
            return change
        screen, held = self.area_screen, self.model.runs
        runs = {
            one
            for one in change.ask_runs
            if one in held or one in change.must_ask or (screen is not None and screen.shows_run(one))
        }
        return msgspec.structs.replace(change, ask_runs=frozenset(runs))

    def _show(self, change: Change) -> None:
        screen = self.area_screen
        if screen is not None and self.frozen:
            screen.show_frame()
        elif screen is not None:
            screen.changed(change)

    @property
    def area_screen(self) -> AreaScreen | None:
        """The area's screen that is on top, or below a prompt or a help."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, AreaScreen):
                return screen if screen.is_mounted else None
        return None

    def _tick(self) -> None:
        """Ages go on. Only text that is different is drawn, and where none can be nothing is made to be compared."""
        self._ticks += 1
        now = self.now()
        if self.frozen or not (self._ticks % IDLE_TICKS == 0 or self._lively(now)):
            return
        self._minute = now // MINUTE_MICROS
        self._show(NOTHING)

    def _lively(self, now: int) -> bool:
        """Whether something may read differently than a second ago: a young age, the clock, what ends soon."""
        state = self.link_state
        if state.name != LIVE or now - max(state.since, state.behind_at) < LIVELY_MICROS:
            return True
        if self._ticks % IDLE_TICKS == 1 or self._ends_at < rfc3339_now(now):
            self._ends_at = self._next_end(rfc3339_now(now))
        return now // MINUTE_MICROS != self._minute or self._ends_at <= rfc3339_now(now + COUNTDOWN_MICROS)

    def _next_end(self, now: str) -> str:
        screen = self.area_screen
        ends = screen.countdowns() if screen is not None else ()
        return min((end for end in ends if end and end >= now), default=_NEVER)

    def watch_theme(self, theme: str) -> None:
        """Colours of the lines go with the theme."""
        self.looks = Looks(theme, ascii=self.options.ascii)

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: DOMNode) -> None:
        """A keymap that takes a key twice is told, not followed silently."""
        names = ", ".join(sorted(binding.id or binding.action for binding in clashed_bindings))
        self.toast(f"the keymap takes a key of {names}", severity="warning")

    def get_system_commands(self, screen: Screen[Any]) -> Any:
        """The palette's own commands."""
        for area in AREAS:
            yield SystemCommand(
                area.title, f"Go to {area.title} ({area.number})", lambda a=area.name: self.action_area(a)
            )
        for name in THEMES:
            yield SystemCommand(f"Theme {name}", "Colours", lambda n=name: setattr(self, "theme", n))
        yield SystemCommand("Keys", "What the keys do here (?)", self.action_help_keys)
        yield SystemCommand("Quit", "Leave the dashboard; the daemon goes on (q)", self.exit)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def action_area(self, area: str) -> None:
        """Go to an area."""
        if area in BY_NAME and self.current_mode != area:
            self._ends_at = ""
            self.switch_mode(area)

    def action_jump(self) -> None:
        """Ask where to."""
        self.prompt("jump: runs st:fail | run ID | a ID | seq N", "", self.jump)

    def jump(self, text: str) -> None:
        """Go where a line says; see `tui.jump`."""
        where = parse_jump(text)
        if where is None:
            self.toast(f"no such place: {text}", severity="warning")
        else:
            self.go(where)

    def go(self, where: Jump) -> None:
        """Go to an area, and within it to a filter or a thing."""
        self.action_area(where.area)
        self.call_after_refresh(self._arrive, where)

    def _arrive(self, where: Jump) -> None:
        screen = self.area_screen
        if screen is None or screen is not self.screen:  # whoever has opened something else meanwhile stays there
            return
        if where.filter is not None:
            screen.set_filter(where.filter)
        if where.target is not None:
            screen.open_target(where.target)

    def action_command_palette(self) -> None:
        """The palette, over an area alone: what a key may do on a card is the card's to say, also while it sends. It
        has no id, by which one that is leaving would be in the way of the next."""
        if isinstance(self.screen, AreaScreen) and not self.too_small(self.size):
            self.push_screen(Palette())

    def action_help_keys(self) -> None:
        """What the keys do here."""
        self.push_screen(Help(all_keys(self.screen)))

    def action_freeze(self) -> None:
        """Hold the screen still, or let it go on with what came meanwhile."""
        self.frozen = not self.frozen
        self.frozen_events = 0
        self._show(EVERYTHING)

    def action_next_theme(self) -> None:
        """The next of our themes."""
        if not self.options.color:
            self.toast("colours are off", severity="warning")
            return
        place = THEMES.index(self.theme) if self.theme in THEMES else -1
        self.theme = THEMES[(place + 1) % len(THEMES)]
        self.screen.refresh(layout=True)
        self.toast(f"theme {self.theme}")

    def action_next_time(self) -> None:
        """Ages, UTC, local time."""
        place = (TIME_STYLES.index(self.time_style) + 1) % len(TIME_STYLES)
        self.time_style = TIME_STYLES[place]
        self.toast(f"times are {self.time_style}")
        self._show(EVERYTHING)

    def action_leave(self) -> None:
        """Leave the screen; on an area, the dashboard. The daemon goes on in any case."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self.exit(0)


__all__ = ["Dashboard", "Keymap", "Mapping", "Options", "time"]
