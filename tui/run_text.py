"""One run in a few lines: its steps as a chain, why it waits, what a kill would cost it, what it waits on. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tui.format import Line, Piece, TimeStyle, age, clock, duration, fit, micros, stamp
from tui.glyphs import Glyphs
from tui.model import RunNote
from tui.run_picture import Call, Picture
from tui.states import STATES, cost_of_kill, why, word_of
from wal.views import ApprovalView, ErrorView, RunDetail, RunView, rfc3339

CHAIN_CALLS_MAX = 40


def chain(picture: Picture, glyphs: Glyphs) -> Line:
    """The calls in order, each with its glyph: `✓ lock ✓ lookup(3) ? approve`."""
    pieces: list[Piece] = []
    calls = picture.in_order()
    if len(calls) > CHAIN_CALLS_MAX:
        pieces.append(Piece(f"{len(calls) - CHAIN_CALLS_MAX} before  ", "dim"))
    for call in calls[-CHAIN_CALLS_MAX:]:
        state = STATES[call.word]
        tries = f"({len(call.attempts)})" if len(call.attempts) > 1 else ""
        look = "" if state.ended and state.look == "dim" else state.look
        pieces += [Piece(f"{glyphs.of(state)} ", look), Piece(f"{_undoing(call)}{call.name}{tries}  ")]
    return pieces


def _undoing(call: Call) -> str:
    return "undo " if call.kind == "undo" else ""


def why_line(run: RunView, picture: Picture | None, note: RunNote, approvals: Sequence[ApprovalView], now: int) -> str:
    """Why the run stands where it does, with the names of what it waits for."""
    names = _names(run, picture) or note.waits or note.step
    doubts = [call for call in picture.in_order() if call.word == "DOUBT"] if picture is not None else []
    if word_of(run) == "DOUBT" and doubts:
        last = doubts[-1]
        told = f": {last.attempts[-1].note}" if last.attempts else ""
        return f"nobody knows whether {last.name} (call {last.key}) happened{told}; since {stamp(run.updated_at)}"
    if run.waiting_on == "approval" and approvals:
        names = ", ".join(f"#{view.id} {view.title} ({votes(view)})" for view in approvals[:3])
    return why(run, now, names)


def _names(run: RunView, picture: Picture | None) -> str:
    if picture is None:
        return ""
    if run.status in ("running", "compensating"):
        return ", ".join(f"{call.name} try {call.attempts[-1].number}" for call in picture.in_flight()[:3])
    return ", ".join(call.name for call in picture.in_order() if call.open)[:200]


def votes(view: ApprovalView) -> str:
    """How far a decision is: `ops 1/2`."""
    given = sum(1 for vote in view.votes if vote.approve)
    return f"{','.join(view.roles) or 'anybody'} {given}/{view.quorum}"


def kill_line(run: RunView, picture: Picture | None, note: RunNote) -> str:
    """What `kill -9` would cost this run, in words."""
    flying = picture.in_flight() if picture is not None else []
    once = [call.name for call in flying if call.at_most_once] or ([note.step] if note.once else [])
    cost = cost_of_kill(run, bool(flying or note.in_flight), bool(once))
    durable = f"record {run.seq}, on disk"
    if cost == "SAFE":
        step = next((call.name for call in picture.in_order() if call.open), "") if picture is not None else note.step
        return f"SAFE, resumes{f' at {step}' if step else ''} ({durable})"
    if cost == "REDO":
        names = ", ".join(call.name for call in flying[:3]) or note.step or "the attempt under way"
        return f"REDO: {names} is made again under the same idempotency key ({durable})"
    if once:
        return f"DOUBT: whether {once[0]} happened, a person would be asked: it runs at most once ({durable})"
    if cost == "DOUBT":
        return f"DOUBT: nobody knows whether a step happened; a person is asked ({durable})"
    return f"nothing: it has ended ({durable})"


def why_lines(
    run: RunView, picture: Picture | None, note: RunNote, approvals: Sequence[ApprovalView], now: int
) -> list[Line]:
    """Why it stands where it does, and what a kill would cost: the two lines of a preview."""
    kill = kill_line(run, picture, note)
    look = "need" if kill.startswith("DOUBT") else "warn" if kill.startswith("REDO") else ""
    return [
        [Piece("why: ", "dim"), Piece(why_line(run, picture, note, approvals, now))],
        [Piece("if killed now: ", "dim"), Piece(kill, look)],
    ]


def step_lines(picture: Picture, glyphs: Glyphs, now: int) -> list[Line]:
    """The calls as a small table, and what would be undone."""
    lines: list[Line] = []
    for call in picture.in_order():
        state = STATES[call.word]
        tries = str(call.attempts[-1].number) if call.attempts else "-"
        took = duration(((call.closed or now) - call.opened) / 1e6)
        lines.append(
            [
                Piece(fit(call.key, 6)),
                Piece(fit(_undoing(call) + call.name, 26) + " "),
                Piece(fit(f"{glyphs.of(state)} {state.word}", 8), state.look),
                Piece(fit(tries, 3, ">") + fit(took, 8, ">")),
            ]
        )
    undo = picture.to_undo()
    if undo and not picture.state.ended:
        names = " -> ".join(one.name for one in undo[:CHAIN_CALLS_MAX])
        lines += [[], [Piece("undo armed, in this order: ", "dim"), Piece(names)]]
    return lines


def as_of(run: RunDetail, picture: Picture) -> RunDetail:
    """The run's view as it was at a picture of its past."""
    state = picture.state
    error = None if state.error is None else ErrorView(state.error.type, state.error.message, state.error.step)
    ended = picture.at if state.ended else None
    return msgspec.structs.replace(
        run, status=picture.status, waiting_on=state.waiting_on, waiting_until=rfc3339(state.waiting_until),
        error=error, updated_at=picture.at, ended_at=ended, seq=picture.seq,
    )  # fmt: skip


def note_of(picture: Picture) -> RunNote:
    """What the list says of a run that stood still since before we listened, out of its history."""
    flying = picture.in_flight()
    calls = picture.in_order()
    waiting = [call for call in calls if call.open]
    at = (flying or waiting or calls)[-1:]
    if not at:
        return RunNote()
    attempt = at[0].attempts[-1].number if at[0].attempts else 1
    waits = ", ".join(call.name for call in waiting[:3])
    once = frozenset(call.key for call in flying if call.at_most_once)
    return RunNote(at[0].name, at[0].key, attempt, waits, frozenset(call.key for call in flying), once)


def waits_on(run: RunView, note: RunNote, approvals: Sequence[ApprovalView], now: int, style: TimeStyle = "utc") -> str:
    """What stands in the column WAITS ON."""
    word = word_of(run)
    if word == "DOUBT":
        return "human: did it happen?"
    if word == "STUCK" and run.error is not None:
        return run.error.type
    if word in ("PAUS", "COMP"):
        return {"PAUS": "resume", "COMP": f"undo {note.step}".strip()}[word]
    if word == "APPR" and approvals:
        return f"#{approvals[0].id} {votes(approvals[0])}"
    if run.status not in ("waiting", "queued"):
        return "-"
    what = {"retry": "backoff"}.get(run.waiting_on or "", run.waiting_on or "")
    if run.waiting_on in ("signal", "child") and note.waits:
        what += f" {note.waits}"
    due = micros(run.waiting_until)
    if due is None:
        return what or "-"
    left = (due - now) / 1e6
    when = age(left) if 0 < left < 3600 else _day(due, now) + clock(run.waiting_until, _absolute(style), seconds=False)
    return f"{what} {when}"


def _absolute(style: TimeStyle) -> TimeStyle:
    return "utc" if style == "rel" else style


def _day(due: int, now: int) -> str:
    days = (due - now) / 86_400e6
    return f"{int(days)}d " if days >= 1 else ""
