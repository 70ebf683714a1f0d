"""Approvals as a workflow sees them: the call that asks people, and the decision that it gets.

A decision is bound to what was shown: `payload_hash` covers the title, the detail, the form and who may decide, so a
decision that carries another hash was made about something else.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import Raw

from actors.flow.calls import NULL, TimerCall, encode
from wal import records as r

Risk = Literal["low", "medium", "high"]
RISKS: tuple[Risk, ...] = ("low", "medium", "high")
QUORUM_MAX = 100
TITLE_CHARACTERS_MAX = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Decision(msgspec.Struct, frozen=True):
    """What people decided. `by` names who (several, joined by commas, for a quorum) and is None when nobody did in
    time; `data` is what they filled in, of the form's type."""

    approved: bool
    by: str | None = None
    reason: str | None = None
    at: datetime = EPOCH
    data: Any = None


class ApprovalCall(TimerCall):
    """`ctx.approval(title, ...)`; a timer too, where it has a deadline."""

    __slots__ = ("decoder", "detail", "form", "four_eyes", "payload_hash", "quorum", "risk", "roles", "title")
    kind = "approval"

    def __init__(
        self,
        title: str,
        *,
        detail: Raw,
        roles: list[str],
        quorum: int,
        timeout: float | None,
        form: Raw,
        decoder: msgspec.json.Decoder[Any] | None,
        risk: Risk,
        four_eyes: bool,
    ) -> None:
        super().__init__(timeout, None)
        self.title, self.detail, self.roles, self.quorum = title, detail, roles, quorum
        self.form, self.decoder, self.risk, self.four_eyes = form, decoder, risk, four_eyes
        shown = encode([title, detail, form, roles, quorum, risk, four_eyes])
        self.payload_hash = hashlib.sha256(shown).hexdigest()

    @property
    def name(self) -> str:
        return self.title

    def fact(self, now_us: int) -> r.Fact:
        if self.seconds is not None:
            self.due_at = now_us + round(self.seconds * 1e6)
        return r.ApprovalRequested(
            self.key,
            self.title,
            self.payload_hash,
            self.detail,
            self.roles,
            self.quorum,
            self.due_at,
            self.form,
            self.risk,
            self.four_eyes,
        )

    def withdrawn(self) -> r.Fact:
        return r.ApprovalWithdrawn(self.key)

    def matches(self, record: r.Fact) -> bool:
        if type(record) is not r.ApprovalRequested or record.key != self.key:
            return False
        if record.payload_hash != self.payload_hash and not self._means_the_same(record):
            return False
        self.due_at = record.expires_at
        return True

    def _means_the_same(self, record: r.ApprovalRequested) -> bool:
        """Whether only the order of something differs: a set has another one in each process. What was shown stands."""
        mine = (self.title, bytes(self.form), sorted(self.roles), self.quorum, self.risk, self.four_eyes)
        theirs = (record.title, bytes(record.form), sorted(record.roles), record.quorum, record.risk, record.four_eyes)
        return mine == theirs and _in_any_order(self.detail) == _in_any_order(record.detail)

    def expired(self, at_us: int) -> Decision:
        """Nobody decided in time: that is a refusal by nobody."""
        return Decision(False, at=EPOCH + timedelta(microseconds=at_us))

    def decide(self, record: r.ApprovalDecided, at_us: int) -> Decision:
        """The decision that this record makes. Raises msgspec.ValidationError if the data does not fit the form."""
        data = None
        if record.approved and self.decoder is not None:
            data = self.decoder.decode(record.data)
        elif bytes(record.data) != b"null":
            data = msgspec.json.decode(record.data)
        return Decision(record.approved, record.by, record.reason, EPOCH + timedelta(microseconds=at_us), data)


def _in_any_order(detail: Raw) -> Any:
    def sort(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: sort(each) for name, each in value.items()}
        return sorted(map(sort, value), key=encode) if isinstance(value, list) else value

    return sort(msgspec.json.decode(detail))


def form_schema(form: Any) -> Raw:
    """What a form asks for, as JSON Schema, for whoever renders it (null without one). Raises TypeError for a type that
    has no schema."""
    if form is None:
        return NULL
    return Raw(encode(msgspec.json.schema(form)))
