"""What a person can do to a run: when it is possible, what will happen then, and the request that asks for it. Pure.

The same sentences stand on the card of one run and, counted, on the card of many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tui.format import Line, Piece
from tui.history_fold import History
from tui.run_picture import Picture
from tui.states import ENDED_STATUSES, word_of
from wal.views import RunView

CANCEL, RETRY, PAUSE, RESUME, SIGNAL, RESOLVE = "cancel", "retry", "pause", "resume", "signal", "resolve"
REASON_CHARACTERS_MIN = 8
UNDO_SHOWN_MAX, NAMED_RUNS_MAX = 200, 5


class Action(NamedTuple):
    """One thing to do to runs: its verb on the wire, the key that opens its card, whether it wants a reason, takes a
    reason at all, and can be asked of several runs at once."""

    verb: str
    key: str
    done: str
    wants_reason: bool = False
    takes_reason: bool = True
    several: bool = True


ACTIONS: Mapping[str, Action] = {
    action.verb: action
    for action in (
        Action(CANCEL, "c", "asked to cancel", wants_reason=True),
        Action(RETRY, "e", "let try again"),
        Action(PAUSE, "z", "paused"),
        Action(RESUME, "Z", "let go on"),
        Action(SIGNAL, "n", "sent to", takes_reason=False),
        Action(RESOLVE, "v", "resolved", wants_reason=True, several=False),
    )
}


def refusal(verb: str, run: RunView) -> str:
    """Why this cannot be asked of a run as it stands; empty if it can."""
    if run.status in ENDED_STATUSES:
        return f"it is {run.status}"
    if verb == CANCEL and run.status == "compensating":
        return "it undoes its steps already"
    if verb == RETRY:
        if run.status != "blocked":
            return "only a blocked run can be tried again"
        return "somebody must say first what happened: resolve it" if word_of(run) == "DOUBT" else ""
    if verb == PAUSE and run.status == "paused":
        return "it is paused already"
    if verb == RESUME and run.status != "paused":
        return "it is not paused"
    if verb == RESOLVE and run.status != "blocked":
        return "no outcome of it is in doubt"
    return ""


def _say(text: str, look: str = "") -> Line:
    return [Piece(text, look)]


EACH: Mapping[str, Line] = {
    CANCEL: _say(
        "Its code sees Cancelled at its waits; then what it has done is undone, newest first; it ends cancelled."
    ),
    RETRY: _say("It tries again from where it stands. What is done stays done."),
    PAUSE: _say("Its code does not go on. What arrives is recorded and keeps its order."),
    RESUME: _say("It goes on where it stands, with all that arrived meanwhile, in order."),
    SIGNAL: _say("It gets the named value where it waits for that name, or keeps it until it asks."),
}
"""What happens to each of many."""


def consequences(verb: str, run: RunView, history: History | None) -> list[Line]:
    """What will happen, a sentence a line; `history` None while it is read."""
    picture = history.last if history is not None else None
    match verb:
        case "cancel":
            return _cancelling(run, picture, truncated=history is not None and history.truncated)
        case "retry":
            return _retrying(run)
        case "pause":
            return [
                _say("Its code does not go on. What arrives is recorded and keeps its order; due timers wait."),
                *_flying(picture),
            ]
        case "resume":
            return [_say("It goes on where it stands, with all that arrived meanwhile, in order.")]
        case "signal":
            return _signalling(picture)
        case _:
            return _resolving(run, picture)


def _cancelling(run: RunView, picture: Picture | None, *, truncated: bool) -> list[Line]:
    if run.status == "queued":
        return [_say("It has not begun: nothing is to be undone. It ends cancelled.")]
    lines = [_say("Its code sees Cancelled at its waits; then its completed steps are undone; it ends cancelled.")]
    if picture is None:
        return [*lines, _say("reading which ...", "dim")]
    lines += _flying(picture)
    undo = picture.to_undo()
    if undo:
        lines.append(_say("Undone in this order, each before the next:"))
    else:
        lines.append(_say("No step has completed: nothing is to be undone."))
    for number, one in enumerate(undo[:UNDO_SHOWN_MAX], start=1):
        what = "added by the code" if one.added else f"call {one.key}"
        lines.append([Piece(f"{number:>4}  "), Piece(one.name, "bold"), Piece(f"  {what}", "dim")])
    if len(undo) > UNDO_SHOWN_MAX:
        lines.append(_say(f"      and {len(undo) - UNDO_SHOWN_MAX} more", "dim"))
    unsure = [
        call.name for call in picture.in_order() if call.kind == "step" and call.word in ("FAIL", "CANC", "DOUBT")
    ]
    if unsure:
        lines.append(_say(f"Undone too, if their undo asks for it (they may have acted): {', '.join(unsure[:20])}."))
    if truncated:
        lines.append(_say("Its history is longer than what was read: there is more to undo than is listed.", "warn"))
    return lines


def _flying(picture: Picture | None) -> list[Line]:
    """Attempts that are under way now."""
    if picture is None:
        return []
    return [
        _say(
            f"In flight: {call.name}, attempt {call.attempts[-1].number}. It settles first; its outcome is recorded.",
            "warn",
        )
        for call in picture.in_flight()
    ]


def _retrying(run: RunView) -> list[Line]:
    error = run.error
    lines = [_say("It tries again from where it stands. What is done stays done; keys of attempts stay the same.")]
    if error is not None:
        lines.append([Piece("It stands at: "), Piece(f"{error.type}: {error.message}", "warn")])
    return [*lines, _say("If the cause is still there, it is blocked again.", "dim")]


def waits_for(picture: Picture | None) -> list[str]:
    """The names of the signals that a run waits for."""
    if picture is None:
        return []
    return [call.name for call in picture.in_order() if call.open and call.kind == "signal"]


def _signalling(picture: Picture | None) -> list[Line]:
    if picture is None:
        return [_say("reading what it waits for ...", "dim")]
    names = waits_for(picture)
    first = f"It waits for: {', '.join(names)}." if names else "It waits for no signal now."
    return [
        _say(first, "" if names else "warn"),
        _say("A signal of another name is kept until the run asks for it. The value is JSON; a wrong type is refused."),
    ]


def in_doubt(picture: Picture | None) -> tuple[str, str] | None:
    """The key and name of the call of which nobody knows whether it happened."""
    if picture is None:
        return None
    calls = [call for call in picture.in_order() if call.word == "DOUBT"]
    return (calls[-1].key, calls[-1].name) if calls else None


def _resolving(run: RunView, picture: Picture | None) -> list[Line]:
    doubt = in_doubt(picture)
    if picture is None:
        return [_say("reading which call it is ...", "dim")]
    if doubt is None:
        return [_say("No call of it is in doubt.", "warn")]
    call = picture.calls[doubt[0]]
    args = bytes(msgspec.json.encode(call.data.get("args"))).decode()
    last = call.attempts[-1] if call.attempts else None
    made_as = (last.made_as if last else "") or f"{run.id}/{picture.generation}"
    lines = [
        [Piece("Unknown: "), Piece(call.name, "bold"), Piece(f"  call {call.key}  {last.note if last else ''}")],
        [Piece("Sent:    "), Piece(args)],
        [Piece("Key:     "), Piece(f"{made_as}/{call.key}/{call.name}")],
        _say("Look outside for what was done under this idempotency key, then say what you found.", "dim"),
        _say(
            "it happened: its result is what you give, and the run goes on; an undo will be called if it fails later."
        ),
        _say("it did not: the step counts as not done, and the run goes on from there."),
    ]
    return lines


class Form(NamedTuple):
    """What was filled in."""

    reason: str = ""
    name: str = ""
    value: str = ""
    happened: str | None = None
    confirm: str = ""


def missing(action: Action, form: Form, affected: int, *, several: bool = False) -> str:
    """What has still to be filled in; empty if nothing."""
    if not affected:
        return "there is no run that this can be asked of"
    if action.verb == SIGNAL:
        if not form.name:
            return "the signal's name is missing"
        return json_problem("value", form.value)
    if action.verb == RESOLVE:
        if form.happened is None:
            return "choose what happened (space)"
        if form.happened == "yes" and (problem := json_problem("result", form.value)):
            return problem
    if action.wants_reason and len(form.reason) < REASON_CHARACTERS_MIN:
        return f"a reason of {REASON_CHARACTERS_MIN} characters or more is required"
    if several and form.confirm != str(affected):
        return f"type {affected}, the number of runs, into Confirm"
    return ""


def json_problem(what: str, text: str) -> str:
    """Why a text is no JSON; empty if it is, or is empty (null)."""
    if not text:
        return ""
    try:
        msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError) as error:
        return f'the {what} is not JSON ({error}); text wants quotes: "..."'
    return ""


def body(action: Action, form: Form, call: str | None) -> dict[str, Any]:
    """The request's body."""
    if action.verb == SIGNAL:
        return {"name": form.name, "value": _raw(form.value)}
    given: dict[str, Any] = {"reason": form.reason} if form.reason else {}
    if action.verb == RESOLVE:
        happened = form.happened == "yes"
        given |= {"call": call or "", "happened": happened, "result": _raw(form.value if happened else "")}
    return given


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode() if text else b"null")


def command_words(action: Action, run_ids: Sequence[str], form: Form, call: str | None) -> list[str]:
    """The words of the command line that does the same; for several runs, one line each, with the ids behind it."""
    words = ["runs", action.verb, run_ids[0] if len(run_ids) == 1 else "ID"]
    if action.verb == SIGNAL:
        words += [form.name or "NAME", quoted(form.value) if form.value else "VALUE"]
    if action.verb == RESOLVE:
        said = {"yes": "--happened", "no": "--did-not-happen"}.get(form.happened or "", "--happened|--did-not-happen")
        words += [call or "CALL", said]
    if action.takes_reason:
        words += ["--reason", quoted(form.reason) if form.reason else "'...'"]
    if len(run_ids) != 1:
        more = ["..."] if len(run_ids) > NAMED_RUNS_MAX else []
        words += ["# each ID of:", *run_ids[:NAMED_RUNS_MAX], *more]
    return words


def quoted(text: str) -> str:
    """A word of a shell's line."""
    return "'" + text.replace("'", "'\\''") + "'"
