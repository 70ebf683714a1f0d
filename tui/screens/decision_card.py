"""The card on which a person approves or refuses: all that is asked, what each answer does, and who said what.

What is sent is bound to the payload's hash that stands on the card. Who decides is who the kernel says we are; the card
only shows it. What others do meanwhile repaints the facts; when somebody else has settled it, it says who and when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from textual.containers import Horizontal
from textual.widgets import Input

from runtimed.client import DaemonUnreachable
from runtimed.wire import CallerView
from tui.acting import decide
from tui.approval_text import (
    Context,
    closed_sentence,
    confirm_code,
    given,
    head_of,
    story_of,
    vote_of,
    why_not_decide,
)
from tui.form_fields import CHOICE, BadForm, FormField, data_of, fields_of
from tui.format import Line, safe
from tui.screens.card_base import OPEN, OVER, CardBase, FormRow
from tui.widgets.fields import Choice, Field
from tui.work import begin
from wal.errors import RuntimedError
from wal.views import ApprovalView

REASON_CHARACTERS_MIN = 8
"""By our policy, where a reason is required: shorter ones say nothing to whoever reads the history."""
REASON_CHARACTERS_MAX = 4_000
APPROVE, DENY = "approve", "deny"


class DecisionCard(CardBase):
    """A card for one approval. `caller` is None where the daemon does not tell who we are to it."""

    def __init__(self, view: ApprovalView, context: Context, caller: CallerView | None) -> None:
        super().__init__()
        self.view, self.context, self.caller = view, context, caller
        self.form: list[FormField] = []
        self.bad_form = ""
        self._taken: dict[str, Any] | None = None
        try:
            self.form = fields_of(view.form)
        except BadForm as error:
            self.bad_form = str(error)

    # --- what it shows

    def head(self) -> tuple[Line, Line]:
        return head_of(self.view, self.dash.now(), self.size.width)

    def facts(self) -> Sequence[Line]:
        return story_of(self.view, self.context, self.dash.now(), max(40, self.size.width - 2), self.dash.glyphs)

    def fields(self) -> Iterable[FormRow]:
        """Decision, the form's fields, reason, and at high risk the code."""
        yield FormRow("Decision", Choice([(APPROVE, "approve"), (DENY, "deny")], id="decision"))
        for number, field in enumerate(self.form):
            name, note = safe(field.name)[:9] or "Answer", "required" if field.required else "optional"
            if field.kind == CHOICE:
                yield FormRow(name, Choice(field.options, id=f"form{number}"), note)
            else:
                hint = field.hint if len(field.name) <= len(name) else f"{field.name}: {field.hint}"
                yield FormRow(name, Field(id=f"form{number}", hint=safe(hint)), note)
        high = self.view.risk == "high"
        yield FormRow("Reason", Field(id="reason", limit=REASON_CHARACTERS_MAX), "required" if high else "to deny")
        if high:
            code = Field(id="code", hint=self._code_hint(), limit=len(confirm_code(self.view)))
            yield FormRow("Confirm", code, "the first digits of the hash")

    def _code_hint(self) -> str:
        return f"type {confirm_code(self.view).upper()}"

    def command(self) -> str:
        verb = "deny" if self._chosen() == DENY else "approve"
        short = self.view.payload_hash[:12]
        return self.dash.command("approvals", verb, self.view.id, "--payload-hash", short, "--reason", "'...'")

    def why_not(self) -> str:
        return self._settled_or_forbidden() or self.dash.why_not()

    def _settled_or_forbidden(self) -> str:
        return why_not_decide(self.view, self.caller, self.context)

    def draw(self) -> None:
        """With nothing to do here, the fields are out of the way."""
        super().draw()
        idle = self.phase in (OPEN, OVER) and bool(self._settled_or_forbidden())
        for row in self.query(".form-row").results(Horizontal):
            row.display = not idle

    # --- what it sends

    def missing(self) -> str:
        """The first thing that is lacking."""
        chosen = self._chosen()
        if chosen is None:
            return "choose approve or deny: with space, on Decision"
        if chosen == APPROVE:
            if self.bad_form:
                return self.bad_form
            try:
                data_of(self.form, self._filled_in())
            except BadForm as error:
                return str(error)
        high = self.view.risk == "high"
        if (high or chosen == DENY) and len(self.text("reason")) < REASON_CHARACTERS_MIN:
            where = "at high risk" if high else "to deny"
            return f"a reason of at least {REASON_CHARACTERS_MIN} characters is required {where}"
        if high and self.text("code").lower() != confirm_code(self.view).lower():
            return f"type {confirm_code(self.view).upper()}, the first digits of the payload's hash, on Confirm"
        return ""

    def take(self) -> None:
        """The choice, bound to the hash that was shown."""
        chosen = self._chosen()
        self._taken = (
            None
            if chosen is None
            else {
                "approve": chosen == APPROVE,
                "payload_hash": self.view.payload_hash,
                "reason": self.text("reason") or None,
                "data": data_of(self.form, self._filled_in()) if chosen == APPROVE else None,
            }
        )

    async def send(self) -> str:
        """Decide as it was submitted. Raises `RuntimedError` if nothing was chosen."""
        client, body = self.dash.client, self._taken
        if body is None:
            raise RuntimedError("nothing is chosen, so nothing was sent")
        if client is None:
            raise DaemonUnreachable("the connection went before anything was sent")
        self.view = await decide(client, self.view.id, body, self.asked_key)
        return self._recorded(approve=body["approve"])

    def _recorded(self, *, approve: bool) -> str:
        word = "APPROVE" if approve else "DENY"
        mine = vote_of(self.view, self.caller) if self.caller is not None else None
        who = f" by {mine.by}" if mine is not None else ""
        if self.view.status == "open":
            return (
                f"{word}{who} is recorded; {given(self.view)} of {self.view.quorum} given, the run waits for the rest"
            )
        return f"{word}{who} is recorded; the run goes on with it"

    async def refused(self, error: RuntimedError) -> None:
        """Look again: somebody may have been first."""
        await self.look_again()

    def succeed(self, done: str) -> None:
        """On disk; what is shown is asked for anew if the answer itself was lost."""
        super().succeed(done)
        begin(self, self.look_again, group="look", exclusive=True)

    async def look_again(self) -> None:
        """The approval as it is now; an old one stays where there is no answer."""
        source = self.dash.source
        if source is None:
            return
        try:
            self.seen(await source.approval(self.view.id))
        except RuntimedError as error:
            self.dash.toast(str(error), severity="warning")

    def seen(self, view: ApprovalView) -> None:
        """The approval was told anew. What was typed stays; but a choice and a code were about what was asked then."""
        if view == self.view or view.id != self.view.id:
            return
        changed = view.payload_hash != self.view.payload_hash
        settled = self.view.status == "open" != view.status
        self.view = view
        if changed:
            self._forget_choice()
            self.say(" what is asked has changed: read it again", "need")
        elif settled and self.phase == OPEN:
            self.say(f" {closed_sentence(view)}", "need")
        self.draw()

    def _forget_choice(self) -> None:
        choice = self.query_one("#decision", Choice)
        choice.chosen = None
        choice.refresh()
        for code in self.query("#code").results(Field):
            code.placeholder = self._code_hint()
            with self.prevent(Input.Changed):
                code.value = ""

    # --- what is filled in

    def _chosen(self) -> str | None:
        return self.query_one("#decision", Choice).chosen if self.is_mounted else None

    def _filled_in(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, field in enumerate(self.form):
            if field.kind == CHOICE:
                found[field.name] = self.query_one(f"#form{number}", Choice).chosen or ""
            else:
                found[field.name] = self.text(f"form{number}")
        return found
