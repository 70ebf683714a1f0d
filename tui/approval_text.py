"""An approval in lines: what is asked, what a yes, a no and silence would do, the votes, the exact payload. Pure.

What is not known is not claimed: code decides what follows a yes, so only what is certain is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from runtimed.wire import CallerView
from tui.fold import data_of
from tui.format import (
    Line,
    Piece,
    age_between,
    cells,
    clock,
    escapes,
    fit,
    line_cells,
    micros,
    safe,
    short_id,
    size,
    stamp,
    until,
)
from tui.glyphs import Glyphs
from wal.telling import with_past
from wal.views import ApprovalView, HistoryRecord, Vote

LABEL_CELLS = 10
PAYLOAD_SHOWN_BYTES = 4_096
FIELDS_SHOWN_MAX = 60
TITLE_LINES_MAX, REASON_LINES_MAX = 4, 4
HASH_SHOWN, CODE_DIGITS = 8, 4
NEAR_MICROS = 12 * 3_600_000_000
RISKS: dict[str, tuple[str, str]] = {"low": ("LOW", ""), "medium": ("MED", "warn"), "high": ("HIGH", "need")}
OUTCOMES: dict[str, tuple[str, str]] = {
    "approved": ("APPROVE", "good"),
    "refused": ("DENY", "warn"),
    "expired": ("EXPIRED", "dim"),
    "withdrawn": ("WITHDRAWN", "dim"),
}
LEVELS_THAT_DECIDE = ("approver", "admin")


class Context(NamedTuple):
    """What the approval's run did so far, as far as it was asked for: who started it, and which completed steps a
    failure would undo, the last first. `known` is false before the answer."""

    known: bool = False
    starter: str | None = None
    undo: tuple[str, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()


def context_of(history: Sequence[HistoryRecord]) -> Context:
    """What the records of a run say about it."""
    starter: str | None = None
    done: dict[str, str] = {}
    steps: dict[str, tuple[str, str]] = {}
    for record in with_past(history):
        call, name = record.call or "", record.name or ""
        if record.kind == "run_started":
            said = data_of(record.data).get("by")
            starter = said if isinstance(said, str) else None
            done, steps = {}, {}  # one that continues as new begins again
        elif record.kind == "step_scheduled":
            steps[call] = (name, "RUN")
        elif record.kind == "step_completed":
            done[call] = name
            steps[call] = (name, "DONE")
        elif record.kind == "step_failed":
            steps[call] = (name, "RETRY" if data_of(record.data).get("retry_at") else "FAIL")
        elif record.kind == "compensation_added":
            done[call] = name
        elif record.kind == "compensation_completed":
            done.pop(call.removesuffix("!"), None)
        elif record.kind == "approval_requested":
            steps[call] = (str(data_of(record.data).get("title") or "approval"), "APPR")
        elif record.kind in ("approval_decided", "approval_withdrawn") and call in steps:
            steps[call] = (steps[call][0], "DONE")
    return Context(True, starter, tuple(reversed(done.values())), tuple(steps.values()))


# --- who may ----------------------------------------------------------------------------------------------------------


def why_not_decide(view: ApprovalView, caller: CallerView | None, context: Context) -> str:
    """Why this caller cannot decide this approval, in a sentence; empty if nothing known speaks against it. The daemon
    checks all of it again."""
    if view.status != "open":
        return closed_sentence(view)
    if caller is None:
        return ""
    me = _name(caller.by, caller.via)
    if caller.level not in LEVELS_THAT_DECIDE:
        return f"deciding wants the level approver; {me} is {caller.level}"
    if view.roles and caller.roles is not None and not set(view.roles) & set(caller.roles):
        has = ", ".join(caller.roles) or "no group"
        return f"this is for {' or '.join(view.roles)}; {me} is in {has}"
    if view.four_eyes and context.starter is not None and context.starter == caller.by:
        return f"{me} started this run: somebody else must decide"
    mine = vote_of(view, caller)
    if mine is not None:
        return f"you said {_word(mine)} at {stamp(mine.at)}; a quorum needs different people"
    return ""


def is_mine(view: ApprovalView, caller: CallerView | None, context: Context) -> bool:
    """Whether it waits for this caller, as far as is known."""
    return caller is not None and why_not_decide(view, caller, context) == ""


def vote_of(view: ApprovalView, caller: CallerView) -> Vote | None:
    """What this caller said already."""
    return next((vote for vote in view.votes if vote.by is not None and vote.by == caller.by), None)


def closed_sentence(view: ApprovalView) -> str:
    """How an approval that is not open was settled: who, when, why."""
    if view.status in ("approved", "refused") and view.votes:
        last = view.votes[-1]
        said = f': "{last.reason}"' if last.reason else ""
        return f"{view.status} by {_name(last.by, last.via)} at {stamp(last.at)}{said}"
    if view.status == "expired":
        return f"nobody decided in time: it counts as no since {stamp(view.decided_at)}"
    return f"{view.status} at {stamp(view.decided_at)}: nobody needs to decide any more"


def confirm_code(view: ApprovalView) -> str:
    """What is typed at high risk. It only stops reflexes: what binds is the whole hash, which the daemon checks."""
    return view.payload_hash[:CODE_DIGITS]


def _name(by: str | None, via: str | None) -> str:
    return f"{by or 'somebody'} ({via})" if via else by or "somebody"


def _word(vote: Vote) -> str:
    return "APPROVE" if vote.approve else "DENY"


# --- lines ------------------------------------------------------------------------------------------------------------


def head_of(view: ApprovalView, now: int, width: int) -> tuple[Line, Line]:
    """The first line of a card: what it is, and what runs out. What runs out is never cut off, the title may be."""
    word, look = RISKS.get(view.risk, (view.risk.upper(), "warn"))
    if view.status != "open":
        ends = OUTCOMES.get(view.status, (view.status.upper(), ""))[0]
    elif view.expires_at is None:
        ends = "no expiry"
    else:
        ends = f"expires {when(view.expires_at, now, seconds=False)} ({until(view.expires_at, now)})"
    right = [Piece(f"  {word}", look), Piece(f"   {ends}   {given(view)} of {view.quorum}")]
    left = [Piece(f"approval #{view.id}   ", "bold")]
    room = max(0, width - line_cells(left) - line_cells(right) - 1)
    return [*left, Piece(fit(view.title, min(room, cells(safe(view.title)))), "bold")], right


def title_fits(view: ApprovalView, now: int, width: int) -> bool:
    """Whether the first line holds the whole title."""
    left, _ = head_of(view, now, width)
    return left[-1].text == safe(view.title)


def given(view: ApprovalView) -> int:
    """How many different people said yes."""
    return len({vote.by for vote in view.votes if vote.approve})


def story_of(view: ApprovalView, context: Context, now: int, width: int, glyphs: Glyphs) -> list[Line]:
    """Everything that a decision is about, `width` cells wide."""
    named = title_fits(view, now, width)
    return [
        *facts_of(view, context, now, width, title=not named),
        *votes_of(view, now, width),
        rule(f"payload  sha256 {view.payload_hash[:16]}..  {size(len(bytes(view.detail)))}B", width, glyphs),
        *payload_of(view, width),
    ]


def facts_of(view: ApprovalView, context: Context, now: int, width: int, *, title: bool = True) -> list[Line]:
    """What is asked, by whom, for whom, and what each answer does."""
    asks = f"{view.workflow} call {view.call}, run {view.run_id}, since {_since(view, now)}"
    lines = _facts("WHAT", view.title, width, TITLE_LINES_MAX) if title else []
    lines += _facts("ASKS", asks, width, 3)
    lines += _facts("FOR", _whom(view), width, 3)
    lines.append(_fact("IF YES", _if_yes(view)))
    lines += _facts("IF NO", _if_no(context), width, 3)
    lines.append(_fact("IF SILENT", _if_silent(view, now)))
    return lines


def brief_of(view: ApprovalView, context: Context, now: int, width: int, glyphs: Glyphs) -> list[Line]:
    """The same in few lines, for the inbox."""
    lines = [
        rule(f"#{view.id}  {view.title}", width, glyphs, look="bold"),
        _fact("asks", f"{view.workflow} call {view.call}, run {short_id(view.run_id, 12)}, since {_since(view, now)}"),
        _fact("if yes", _if_yes(view)),
        _fact("if no", _if_no(context)),
        _fact("if silent", _if_silent(view, now)),
        _fact("votes", votes_line(view, now)),
    ]
    count = escapes(view.title) + escapes(_text(view.detail)[:PAYLOAD_SHOWN_BYTES])
    hidden = f"   ! {count} {'character' if count == 1 else 'characters'} shown escaped" if count else ""
    payload = f"sha256 {view.payload_hash[:HASH_SHOWN]}  {_shape(view.detail)}, {size(len(bytes(view.detail)))} B"
    return [*lines, _fact("payload", payload, hidden)]


def payload_of(view: ApprovalView, width: int) -> list[Line]:
    """The detail, field by field where it has fields; the first 4 KiB of a large one."""
    text = _text(view.detail)
    whole = len(bytes(view.detail))
    lines: list[Line] = []
    detail = _decoded(view.detail) if whole <= PAYLOAD_SHOWN_BYTES else None
    if isinstance(detail, dict) and 0 < len(detail) <= FIELDS_SHOWN_MAX:
        longest = min(20, max(cells(safe(str(name))) for name in detail))
        for name, value in detail.items():
            lines += _field_lines(str(name), _shown(value), longest, width)
        return lines
    for part in wrap(text[:PAYLOAD_SHOWN_BYTES], max(20, width - 2), 200):
        lines.append([Piece(" " + part)])
    if whole > PAYLOAD_SHOWN_BYTES:
        rest = f" first {size(PAYLOAD_SHOWN_BYTES)} of {size(whole)}B; all of it: runtimed approvals show {view.id}"
        lines.append([Piece(rest, "warn")])
    return lines


def _field_lines(name: str, value: str, longest: int, width: int) -> Iterator[Line]:
    count = escapes(name) + escapes(value)
    note = f"   ! {count} {'character' if count == 1 else 'characters'} shown escaped" if count else ""
    room = max(20, width - longest - 4 - cells(note))
    parts = wrap(value, room, 12)
    for number, part in enumerate(parts):
        label = safe(name)[:longest].ljust(longest) if number == 0 else " " * longest
        last = number == len(parts) - 1
        yield [Piece(f" {label}  ", "dim"), Piece(part), Piece(note if last else "", "warn")]


def votes_of(view: ApprovalView, now: int, width: int) -> list[Line]:
    """Who said what, when, from where and why; a reason of many words takes several lines."""
    lines: list[Line] = []
    for number, vote in enumerate(view.votes):
        start = [Piece(_label("" if number else "VOTES"), "dim"), Piece(f"{_name(vote.by, vote.via)}  ")]
        start += [Piece(_word(vote), "good" if vote.approve else "warn"), Piece(f"  {when(vote.at, now)}")]
        said = f'  "{vote.reason}"' if vote.reason else ""
        if line_cells(start) + cells(safe(said)) <= width:
            lines.append([*start, Piece(said)])
        else:
            lines.append(start)
            lines += [
                _fact("", part) for part in wrap(said.strip(), max(20, width - LABEL_CELLS - 1), REASON_LINES_MAX)
            ]
    return lines or [_fact("VOTES", "nobody has voted yet")]


def votes_line(view: ApprovalView, now: int) -> str:
    """The votes in one line."""
    if not view.votes:
        return f"none; {view.quorum} wanted"
    last = view.votes[-1]
    said = f' "{last.reason}"' if last.reason else ""
    return f"{given(view)} of {view.quorum}; {_name(last.by, last.via)} {_word(last)} {when(last.at, now)}{said}"


def decided_line(view: ApprovalView, now: int) -> Line:
    """An approval that is settled, in a line of the inbox's foot."""
    word, look = OUTCOMES.get(view.status, (view.status.upper(), ""))
    last = view.votes[-1] if view.votes and view.status in ("approved", "refused") else None
    who = _name(last.by, last.via) if last else "nobody"
    said = f'  "{last.reason}"' if last is not None and last.reason else ""
    return [Piece(f" {view.id:<7}"), Piece(f"{word:<9} ", look), Piece(f"{who}  {when(view.decided_at, now)}{said}")]


def rule(text: str, width: int, glyphs: Glyphs, *, look: str = "") -> Line:
    """A line across with a few words in it, exactly `width` cells wide."""
    text = fit(text, min(cells(safe(text)), max(0, width - 6)), ellipsis=glyphs.ellipsis)
    return [
        Piece(glyphs.h + " ", "frame"),
        Piece(text, look or "dim"),
        Piece(" " + glyphs.h * (width - 3 - cells(text)), "frame"),
    ]


def _label(text: str) -> str:
    return " " + text.ljust(LABEL_CELLS)


def _fact(label: str, text: str, warning: str = "") -> Line:
    return [Piece(_label(label), "dim"), Piece(text), Piece(warning, "warn")]


def _facts(label: str, text: str, width: int, lines_max: int) -> list[Line]:
    """A fact that may take several lines."""
    parts = wrap(text, max(20, width - LABEL_CELLS - 1), lines_max)
    return [_fact("" if number else label, part) for number, part in enumerate(parts)]


def _since(view: ApprovalView, now: int) -> str:
    return f"{when(view.requested_at, now)} ({age_between(view.requested_at, now)})"


def when(instant: str | None, now: int, *, seconds: bool = True) -> str:
    """An instant: its time of day where that is enough, else with its day."""
    at = micros(instant)
    near = at is not None and abs(at - now) < NEAR_MICROS
    return clock(instant, seconds=seconds) if near else stamp(instant)


def _whom(view: ApprovalView) -> str:
    who = " or ".join(view.roles) if view.roles else "all who may approve"
    many = f"{view.quorum} different people of " if view.quorum > 1 else ""
    return many + who + (", but not who started the run" if view.four_eyes else "")


def _if_yes(view: ApprovalView) -> str:
    left = view.quorum - given(view)
    if left > 1:
        return f"it is recorded; {left - 1} more needed before the run goes on"
    return f"the run goes on from call {view.call} with this yes"


def _if_no(context: Context) -> str:
    if not context.known:
        return "it is told no (one is enough)"
    if not context.undo:
        return "it is told no (one is enough); it has completed no step that could be undone"
    return f"it is told no; failing, it undoes {', then '.join(context.undo)}"


def _if_silent(view: ApprovalView, now: int) -> str:
    if view.expires_at is None:
        return "it waits, with no time limit"
    return f"at {when(view.expires_at, now)} it counts as no, by nobody"


# --- values -----------------------------------------------------------------------------------------------------------


def wrap(text: str, width: int, lines_max: int) -> list[str]:
    """Escaped text in lines of at most `width` cells; the last one is cut by whoever draws it."""
    text = safe(text)
    lines: list[str] = []
    while text and len(lines) < lines_max - 1 and cells(text) > width:
        at = _cut(text, width)
        lines.append(text[:at].rstrip())
        text = text[at:].lstrip()
    return [*lines, text] if text or not lines else lines


def _cut(text: str, width: int) -> int:
    """Where to break: at the last blank that leaves a line at least half full, else where it is full."""
    used = 0
    full = len(text)
    for number, char in enumerate(text):
        used += cells(char)
        if used > width:
            full = number
            break
    blank = text.rfind(" ", 0, full + 1)
    return blank if blank > width // 2 else max(1, full)


def _text(detail: msgspec.Raw) -> str:
    return bytes(detail).decode("utf-8", "replace")


def _decoded(detail: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(detail)
    except (msgspec.DecodeError, RecursionError):
        return None


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _shape(detail: msgspec.Raw) -> str:
    value = _decoded(detail)
    if isinstance(value, dict):
        return f"{len(value)} fields" if len(value) != 1 else "1 field"
    return "nothing" if value is None else type(value).__name__
