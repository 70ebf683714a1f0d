"""The card for what people do to a connector: poll now, pause, resume, set its cursor; of the last a dry run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from runtimed.client_link import decode, part
from runtimed.client_wire import Broken
from runtimed.connector_words import standing
from runtimed.wire import AcceptedView
from tui.acting import ask_once
from tui.connector_text import DEEDS, POLL, RESET, consequences, cursor_text, refusal, word_of, would_lines
from tui.format import Line, Piece, stamp
from tui.run_actions import REASON_CHARACTERS_MIN, json_problem, quoted
from tui.screens.card_base import OPEN, CardBase, FormRow
from tui.widgets.fields import Field
from tui.work import begin
from wal.errors import RuntimedError
from wal.views import ConnectorView

PREVIEW_SECONDS = 0.3
"""Between the last key in the cursor's field and the question what it would do."""


class ConnectorCard(CardBase):
    """Asks the daemon to do one thing to one connector."""

    LEVEL = "operator"

    def __init__(self, verb: str, connector: ConnectorView) -> None:
        super().__init__()
        self.deed, self._first = DEEDS[verb], connector
        self.would: list[str] = []

    @property
    def view(self) -> ConnectorView:
        """The connector as it is now."""
        known, first = self.dash.model.connectors, self._first
        return next((view for view in known if (view.name, view.kind) == (first.name, first.kind)), first)

    def on_mount(self) -> None:
        """What setting the cursor would do is asked of the daemon, which changes nothing by that."""
        self._preview()

    # --- what it shows

    def head(self) -> tuple[Line, Line]:
        view = self.view
        left = [Piece(f"{self.deed.title} {view.name}  ", "bold"), Piece(view.kind)]
        return left, [word_of(view, self.dash.glyphs), Piece(f"  last poll {stamp(view.last_poll_at)}")]

    def facts(self) -> Sequence[Line]:
        view = self.view
        lines = [
            *self._labelled("CONNECTOR", f"{view.name}  {view.kind}  delivers {view.deliver or 'records'}"),
            *self._labelled("WHY", standing(view)),
            *self._labelled("CURSOR", cursor_text(view)),
            *self._labelled("LAST ERROR", view.last_error or "none"),
        ]
        told = self.would if self.deed.verb == RESET else consequences(self.deed.verb, view)
        for number, sentence in enumerate(told):
            lines += self._labelled("THEN" if number == 0 else "", sentence)
        return lines

    def _labelled(self, label: str, text: str) -> list[Line]:
        """A fact with its label; a long sentence goes on below."""
        return self.labelled(label, [Piece(text)], 11)

    def fields(self) -> Iterable[FormRow]:
        """Where to read on from, and why."""
        if self.deed.verb == RESET:
            yield FormRow(
                "Cursor", Field(id="cursor", hint='JSON: 3, "text", {"a": 1}; null is the beginning'), "required"
            )
        yield FormRow("Reason", Field(id="reason"), "required" if self.deed.verb == RESET else "recorded")

    def missing(self) -> str:
        if self.deed.verb != RESET:
            return ""
        if not self.text("cursor"):
            return "the cursor is missing: null reads everything again"
        if problem := json_problem("cursor", self.text("cursor")):
            return problem
        if len(self.text("reason")) < REASON_CHARACTERS_MIN:
            return f"a reason of {REASON_CHARACTERS_MIN} characters or more is required"
        return ""

    def why_not(self) -> str:
        forbidden = super().why_not()
        return forbidden if forbidden or self.phase != OPEN else refusal(self.deed.verb, self.view)

    def command(self) -> str:
        words = ["connectors", self.deed.verb, self.view.name]
        if self.deed.verb == RESET:
            words += ["--cursor", quoted(self.text("cursor")) if self.text("cursor") else "JSON"]
        if self.text("reason"):
            words += ["--reason", quoted(self.text("reason"))]
        return self.dash.command(*(word if word.isprintable() else quoted(word) for word in words))

    # --- the dry run

    def on_input_changed(self) -> None:
        """Another cursor would do something else."""
        super().on_input_changed()
        self._preview()

    def _preview(self) -> None:
        if self.deed.verb == RESET:
            begin(self, self._ask_preview, group="card-preview", exclusive=True)

    async def _ask_preview(self) -> None:
        await asyncio.sleep(PREVIEW_SECONDS)
        client, text = self.dash.client, self.text("cursor")
        if client is None or json_problem("cursor", text):
            self.would = []
        else:
            try:
                told = await client.preview_reset(self.view.name, msgspec.Raw(text.encode() or b"null"))
            except (RuntimedError, Broken) as error:
                self.would = [f"What it would do is not known: {error}"]
            else:
                first = [] if text else ["With null for the cursor:"]
                self.would = [*first, *would_lines(told.would)]
        self.draw()

    # --- what it sends

    async def send(self) -> str:
        """Ask for it, once."""
        verb, name = self.deed.verb, self.view.name
        body: dict[str, Any] = {"reason": self.text("reason")} if self.text("reason") else {}
        if verb == RESET:
            body["cursor"] = msgspec.Raw(self.text("cursor").encode())
        answer = await ask_once(self.dash.link.client, f"/v1/connectors/{part(name)}/{verb}", body, self.asked_key)
        if verb == POLL:
            return f"{self.deed.done} {name}: it is {decode(answer, ConnectorView).status}"
        return f"{self.deed.done} {name}: journaled as record {decode(answer, AcceptedView).seq}"

    async def _check(self, problem: str) -> None:
        """A poll is no record to look for, and a second one does no harm."""
        if self.deed.verb != POLL:
            await super()._check(problem)
            return
        self.phase = OPEN
        self.say(
            f" whether it was asked to poll is not known ({problem}); [Submit] asks again, which does no harm", "warn"
        )
