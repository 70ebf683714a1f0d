"""The card through which every change goes: it shows what will happen, and takes nothing by accident.

The rules, kept here for all cards. It opens only by the operator's key. No key counts before it has stood for 400 ms
and a tick has passed without one, so that type-ahead answers nothing. It starts on no field and with nothing chosen;
digits and letters do nothing outside fields; Enter works on Submit alone. While it sends it takes nothing. A connection
that breaks leaves an outcome that is not known: the card says so and looks for the answer by its key for as long as it
is open, and never sends again by itself. What changes meanwhile repaints the facts, never the fields.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget

from runtimed.client import DaemonUnreachable
from runtimed.client_errors import BadAnswer, TimedOut
from runtimed.client_wire import Broken
from runtimed.wire import CallerView
from tui.asking import Found, Unfindable, find_answer
from tui.format import Line, Piece, fit_line, line_cells, spread
from tui.widgets.fields import Choice, Field, Submit
from tui.widgets.lines import Lines, dashboard
from tui.work import EndsWork, begin
from wal.errors import RuntimedError

if TYPE_CHECKING:
    from tui.app import Dashboard

CHECK_SECONDS = 0.25
"""How often a card whose outcome is unknown looks whether there is somebody to ask."""
UNKNOWN_OUTCOME = (DaemonUnreachable, TimedOut, BadAnswer, Broken)
"""What leaves open whether the daemon acted."""
LOOK_SECONDS = 1.0
"""How often it looks once the first look has found nothing, and it may be submitted again."""

FACT_ROWS_MAX = 6
LEVELS = ("public", "viewer", "operator", "approver", "admin")

OPEN, SENDING, CHECKING, DONE, OVER = "open", "sending", "checking", "done", "over"
"""A card's phases. DONE: it is journaled. OVER: refused for good, nothing can be submitted any more."""


class FormRow(NamedTuple):
    """A field with its label, and a few words behind it."""

    label: str
    field: Widget
    note: str = ""


class CardBase(EndsWork, ModalScreen[str | None]):
    """A card; dismissed with what was done in a few words, or with None. Subclasses say what it shows and sends."""

    DEAD_SECONDS: ClassVar[float] = 0.4
    IDLE_SECONDS: ClassVar[float] = 0.05
    AUTO_FOCUS: ClassVar[str | None] = ""
    LEVEL: ClassVar[str] = ""
    """The level that submitting needs; empty where the daemon alone says."""
    SCOPED_CSS: ClassVar[bool] = False  # the selectors name this class, which a subclass does not contain
    CSS = """
    CardBase { layout: vertical; background: $background; }
    CardBase .one { height: 1; width: 100%; }
    CardBase .facts { height: 1fr; width: 100%; scrollbar-size-vertical: 1; background: $background; }
    CardBase #card-facts { height: auto; width: 100%; }
    CardBase .form { height: auto; max-height: 40%; width: 100%; scrollbar-size-vertical: 1; }
    CardBase .form-row { height: 1; width: 100%; }
    CardBase .form-row .label { width: 11; height: 1; }
    CardBase .form-row .note { height: 1; width: auto; }
    CardBase .status { height: 2; width: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave without doing it", id="card.leave"),
        Binding("tab", "field(1)", "next field", id="card.next", priority=True),
        Binding("shift+tab", "field(-1)", "field before", show=False, id="card.previous", priority=True),
        Binding("pageup", "scroll_facts(-1)", "scroll up", show=False, id="card.up"),
        Binding("pagedown", "scroll_facts(1)", "scroll down", show=False, id="card.down"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.key = uuid.uuid4().hex
        self.asked_key = self.key
        self.phase = OPEN
        self.armed = False
        self.caller: CallerView | None = None
        self.outcome: str | None = None
        self._said: Line = ()
        self._keys_seen = 0
        self._sent_after = 0
        self._unsettled = False

    # --- what a card provides

    def head(self) -> tuple[Line, Line]:
        """The first line: left and right."""
        return (), ()

    def facts(self) -> Sequence[Line]:
        """What it is about and what will happen."""
        return ()

    def fields(self) -> Iterable[FormRow]:
        """The fields, in their order; Submit comes behind them."""
        return ()

    def missing(self) -> str:
        """What has still to be filled in before it may be submitted; empty if nothing."""
        return ""

    def why_not(self) -> str:
        """Why nothing can be submitted from here at all; empty if it can."""
        forbidden = self.dash.why_not()
        if forbidden or self.caller is None or not self.LEVEL:
            return forbidden
        if LEVELS.index(self.caller.level) < LEVELS.index(self.LEVEL):
            return f"it needs the level {self.LEVEL}, and {self.caller.by} is {self.caller.level}"
        return ""

    def command(self) -> str:
        """The command line that does the same."""
        return ""

    def signature(self) -> str:
        """As whom it is submitted, as the daemon knows us."""
        return f"as {self.caller.via or '-'}  {self.caller.by or '-'}" if self.caller is not None else ""

    def take(self) -> None:
        """[Submit] was pressed: keep what is sent as it stands on the card now. What comes before it is sent changes
        only what is shown."""

    async def send(self) -> str:
        """Ask the daemon, once, under `self.asked_key`, and say what is done. Raises `RuntimedError`s."""
        return ""

    def found(self, seq: int, answer: Mapping[str, Any]) -> None:
        """The outcome was not known; now it is: the request is in the journal, as this record, with this answer."""
        self.succeed(f"it did happen: journaled as record {seq}")

    async def refused(self, error: RuntimedError) -> None:
        """The daemon said no: the card stays, with what it said. A card may reload what it shows."""

    # --- what a card gets

    @property
    def dash(self) -> Dashboard:
        """The app."""
        return dashboard(self)

    def text(self, field_id: str) -> str:
        """What stands in a field."""
        return self.query_one(f"#{field_id}", Field).value.strip()

    def say(self, text: str, look: str = "") -> None:
        """The line above the command: what happened, or what is missing."""
        self._said = (Piece(text, look),)
        self.draw()

    def labelled(self, label: str, line: Line, room: int = 10) -> list[Line]:
        """A fact with its label; a long sentence goes on below."""
        rows = wrapped(line, max(20, self.size.width - room - 3), FACT_ROWS_MAX)
        return [[Piece(f" {label if row == 0 else '':<{room}}", "dim"), *part] for row, part in enumerate(rows)]

    # --- the frame

    def compose(self) -> ComposeResult:
        """The frame round the fields."""
        yield Lines(id="card-head", classes="one")
        yield Lines(id="card-rule", classes="one")
        with VerticalScroll(classes="facts", can_focus=False):
            yield Lines(id="card-facts")
        yield Lines(id="card-rule2", classes="one")
        with VerticalScroll(classes="form", can_focus=False):  # a form may be longer than the screen
            for row in self.fields():
                with Horizontal(classes="form-row"):
                    label = Lines(classes="label")
                    label.lines = [[Piece(f" {row.label}", "dim")]]
                    yield label
                    yield row.field
                    note = Lines(classes="note")
                    note.lines = [[Piece(f" {row.note}", "dim")]] if row.note else []
                    note.styles.width = line_cells(note.lines[0]) if row.note else 0
                    yield note
        with Horizontal(classes="form-row"):
            yield Lines(classes="label")
            yield Submit()
            yield Lines(id="card-signature", classes="one")
        yield Lines(id="card-status", classes="status")
        yield Lines(id="card-command", classes="one")
        yield Lines(id="card-keys", classes="one")

    def on_mount(self) -> None:
        """Painted soon; from then on the dead time runs."""
        for field in self.query("Field, Choice, Submit"):
            field.disabled = True
        self.call_after_refresh(self._painted)
        self.set_interval(1.0, self.draw)
        begin(self, self._learn_who, group="card-who")

    async def _learn_who(self) -> None:
        """Who we are to the daemon; where it does not say, it will when it is asked to act."""
        client = self.dash.link.client
        if client is None or self.dash.source is None or self.dash.source.offline:
            return
        try:
            self.caller = await client.whoami()
        except (RuntimedError, Broken):
            return
        self.draw()

    def _painted(self) -> None:
        self.draw()
        self.set_timer(self.DEAD_SECONDS, self._arm)

    def _arm(self) -> None:
        """The dead time is over: once a tick passes without a key, keys count."""
        before = self._keys_seen

        def idle() -> None:
            if self._keys_seen != before:
                self._arm()
                return
            self.armed = True
            self.draw()

        self.set_timer(self.IDLE_SECONDS, idle)

    def on_key(self, event: events.Key) -> None:
        """Before it is armed, a key is only counted."""
        if not self.armed:
            self._keys_seen += 1
            event.stop()
            event.prevent_default()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key does anything before the card is armed."""
        if not self.armed and action in ("leave", "field", "scroll_facts"):
            self._keys_seen += 1
            return False
        return super().check_action(action, parameters)

    def draw(self) -> None:
        """Draw what has changed; the fields are left as they are."""
        if not self.query("#card-head"):
            return  # it is being made, or taken away
        width, glyphs = self.size.width, self.dash.glyphs
        left, right = self.head()
        rule = [Piece(glyphs.h * width, "frame")]
        self.query_one("#card-head", Lines).show([spread(left, right, width)])
        self.query_one("#card-rule", Lines).show([rule])
        facts, pane = list(self.facts()), self.query_one("#card-facts", Lines)
        if pane.styles.height is None or pane.styles.height.value != max(1, len(facts)):
            pane.styles.height = max(1, len(facts))
        pane.show(facts)
        hidden = len(facts) - self.query_one(".facts", VerticalScroll).size.height
        more = [Piece(f"{glyphs.h} {hidden} more lines, pgdn pgup ", "warn")] if hidden > 0 else []
        self.query_one("#card-rule2", Lines).show([fit_line([*more, *rule], width, ellipsis=glyphs.h)])
        self._draw_foot(width)

    def _draw_foot(self, width: int) -> None:
        forbidden = self.why_not()
        can_edit = self.armed and self.phase == OPEN and not forbidden
        for field in self.query("Field, Choice, Submit"):
            if field.disabled == can_edit:
                field.disabled = not can_edit
        self.query_one(Submit).show_live(can_edit)
        self.query_one("#card-signature", Lines).show([[Piece(self.signature(), "dim")]])
        said = self._said
        if self.phase == OPEN and forbidden:
            said = (Piece(f" nothing can be submitted: {forbidden}", "warn"),)
        elif not said and self.phase == OPEN:
            said = (Piece(" nothing is sent before [Submit]", "dim"),)
        self.query_one("#card-status", Lines).show(wrapped(said, width, 2))
        command = self.command()
        self.query_one("#card-command", Lines).show([fit_line([Piece(f" {command}", "dim")], width)])
        self.query_one("#card-keys", Lines).show([fit_line(self._keys(), width)])

    def _keys(self) -> list[Piece]:
        leave = "leave without doing it" if self.phase == OPEN else "leave"
        told = [("tab", "next field"), ("enter", "on [Submit] only"), ("esc", leave)]
        if self.query(Choice):  # nothing is preselected, so it has to be said how one selects; and it has to fit
            told = [("tab", "next"), ("space", "choose"), ("enter", "on [Submit] only"), ("esc", "leave")]
        pieces: list[Piece] = []
        for key, what in told:
            pieces += [Piece("   " if pieces else ""), Piece(key, "bold"), Piece(f" {what}")]
        return pieces

    def on_resize(self) -> None:
        """Another size: draw all once the layout is done."""
        self.call_after_refresh(self.draw)

    # --- keys

    def action_leave(self) -> None:
        """Leave. What was sent stays sent."""
        if self.phase == SENDING:  # leaving now would leave the outcome unknown, with nobody to ask for it
            return
        if self.phase == CHECKING or self._unsettled:
            self.dash.toast("the outcome is not known: look at the history of what it was about", severity="warning")
        self.dismiss(self.outcome)

    def action_field(self, by: int) -> None:
        """Go to the next field, round and round."""
        stops = [widget for widget in self.query("Field, Choice, Submit") if not widget.disabled]
        if not stops:
            return
        at = next((n for n, widget in enumerate(stops) if widget.has_focus), None)
        first = 0 if by > 0 else len(stops) - 1
        self.set_focus(stops[first if at is None else (at + by) % len(stops)])

    def action_scroll_facts(self, by: int) -> None:
        """Scroll the facts."""
        pane = self.query_one(".facts", VerticalScroll)
        pane.scroll_relative(y=by * max(1, pane.size.height - 1), animate=False)

    # --- submitting

    def on_submit_pressed(self) -> None:
        """Submit, if everything is there; once."""
        if not self.armed or self.phase != OPEN or self.why_not():
            return
        missing = self.missing()
        if missing:
            self.say(f" {missing}", "warn")
            return
        self.take()
        self.phase = SENDING
        if not self._unsettled:  # else it is looked for from where the first look ended, which may be behind us
            self._sent_after = self.dash.model.seq
        self.say(" sending ...", "dim")
        begin(self, self._submit, group="card", exclusive=True)  # in the place of one that still looks

    def on_choice_changed(self) -> None:
        """What was said to be missing may be there now."""
        self.say("")

    def on_input_changed(self) -> None:
        """The command line says what is typed."""
        if self.phase == OPEN:
            self._said = ()
            self.draw()

    async def _submit(self) -> None:
        try:
            done = await self.send()
        except UNKNOWN_OUTCOME as error:
            await self._check(str(error) or type(error).__name__)
        except RuntimedError as error:
            await self._refused(error)
            if self._unsettled:  # what was sent before may come yet
                await self._look()
        else:
            self.succeed(done)

    def succeed(self, done: str) -> None:
        """It is on disk."""
        self.phase, self.outcome, self._unsettled = DONE, done, False
        self.say(f" {done}", "good")

    async def _refused(self, error: RuntimedError) -> None:
        hint = f"  {error.hint}" if error.hint else ""
        self.phase = OVER if error.status == 403 else OPEN
        self.say(f" refused: {error}{hint}", "bad")
        await self.refused(error)

    async def _check(self, problem: str) -> None:
        """The outcome is not known: look for the answer by the key, never send again."""
        self.phase, self._unsettled = CHECKING, True
        self.say(f" outcome unknown, checking: {problem}", "need")
        await self._look()

    async def _look(self) -> None:
        """Look until the outcome is known or the card is left: a request outlives the connection it came by."""
        while True:
            source = self.dash.source
            if source is not None and (source.offline or self.dash.link_state.live):
                gone = not source.held  # asked first: what a daemon writes before it goes is found by the look after
                try:
                    found = await find_answer(source, self.asked_key, self._sent_after)
                except Unfindable as error:
                    self.phase = OVER
                    self.say(f" outcome unknown: {error}", "need")
                    return
                except (*UNKNOWN_OUTCOME, RuntimedError) as error:  # it is away again, or busy: ask when it is not
                    if self.phase == CHECKING:
                        self.say(f" outcome unknown, checking: {error}", "need")
                else:
                    if self._settled(found, gone=gone):
                        return
            await asyncio.sleep(CHECK_SECONDS if self.phase == CHECKING else LOOK_SECONDS)

    def _settled(self, found: Found, *, gone: bool) -> bool:
        """Whether the outcome is known; `gone` if there is no daemon that could still write it."""
        self._sent_after = max(self._sent_after, found.head)
        if found.seq is not None:
            self._unsettled = False
            self.found(found.seq, found.body)
        elif gone:
            self.phase, self._unsettled = OPEN, False
            self.say(
                f" it did not happen: the daemon went down before, at record {found.head}. Nothing was changed.", "warn"
            )
        elif self.phase == CHECKING and self.dash.link_state.live:
            self.phase = OPEN
            self.say(
                f" not in the journal yet, up to record {found.head}; it is still looked for."
                " [Submit] sends it again under the same key, so it can happen only once.",
                "warn",
            )
        return not self._unsettled


def wrapped(line: Line, width: int, rows: int) -> list[Line]:
    """A line broken at words into at most so many rows; the last one is cut."""
    if len(line) != 1 or line_cells(line) <= width:
        return [line]
    look, words, lines = line[0].look, line[0].text.split(" "), [""]
    for word in words:
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if line_cells([Piece(longer)]) > width and lines[-1].strip() and len(lines) < rows:
            lines.append(f" {word}")
        else:
            lines[-1] = longer
    return [[Piece(text, look)] for text in lines]
