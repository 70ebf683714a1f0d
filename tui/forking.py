"""A fork of a run as it was at one of its records: whether it can be made there, and what it would be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tui.fold import data_of
from tui.format import Line, Piece
from tui.history_fold import UNDO_MARK, History
from tui.run_actions import quoted
from tui.run_picture import Call, Picture
from wal.telling import BEGINNINGS
from wal.views import HistoryRecord

KEY = "B"
NAMED_MAX = 20
UNDOING = frozenset({"run_cancel_requested", "run_compensating", "run_completed", "run_failed", "run_cancelled"})
ANSWERS = frozenset(
    {
        "state_read", "state_refused", "state_written", "output_emitted", "child_started", "child_ended",
        "step_completed", "compensation_completed", "step_failed", "step_unknown", "step_resolved", "timer_fired",
        "approval_decided", "signal_received",
    }
)  # fmt: skip
"""A fork takes over what the run had recorded up to the last of these, or of the steps that run at most once; what was
asked behind it, it asks anew."""


def refusal(history: History, seq: int) -> str:
    """Why the run cannot be forked at this record, and where it can; empty if nothing known speaks against it."""
    own = _since_its_beginning(history, seq)
    place, children = own[0].seq if own else seq, dict[tuple[str, str], None]()
    for record in own:
        if record.kind in UNDOING:
            return f"by record {seq} it was over or being undone ({record.kind} is record {record.seq}); " + _back(
                place
            )
        child = (record.call or "", str(data_of(record.data).get("child_id", "")))
        if record.kind == "child_started":
            children[child] = None
        elif record.kind == "child_ended":  # of those of an earlier round the calls may be the same
            children.pop(child, None)
        if not children:
            place = record.seq
    for _, child_id in children:
        return f"at record {seq} its child {child_id} is not over, and it is the child of one run; " + _back(place)
    return ""


def _since_its_beginning(history: History, seq: int) -> Sequence[HistoryRecord]:
    """The records up to this one since the code began (it may have begun anew): what a fork could take over."""
    upto = history.records[: history.place(seq) + 1]
    start = max((place for place, record in enumerate(upto) if record.kind in BEGINNINGS), default=0)
    return upto[start:]


def _back(place: int) -> str:
    return f"travel back with , to record {place}, or before"


def consequences(run_id: str, history: History, seq: int, picture: Picture) -> list[tuple[str, Line]]:
    """What a fork at this record would be, a sentence a line with its label; `picture` is the run as it was there."""
    calls = picture.in_order()
    done = [call.name for call in calls if call.kind == "step" and call.word == "DONE"]
    told = [("TAKES OVER", f"{len(done)} step{'s' * (len(done) != 1)} as done: {_names(done)}.", "")]
    if not done:
        told = [("TAKES OVER", "no step: none was done by then.", "")]
    waits = [f"{call.kind} {call.name}" for call in calls if call.open and call.kind not in ("step", "undo")]
    if waits:
        told.append(("ANEW", f"What was open there it asks for anew, as its own: {_names(waits)}.", ""))
    told += [
        ("IN FLIGHT", *_not_over(call, _is_taken_over(history, seq, call))) for call in calls if _is_under_way(call)
    ]
    if undo := [one.name for one in picture.to_undo()]:
        text = f"If it fails or is cancelled it undoes what {run_id} did: {_names(undo, ', then ')}."
        told.append(("UNDOES", text, "warn"))
    if undone := _undone_since(history, picture):
        text = f"{run_id} has undone {_names(undone)} since: to the fork that is done, and it does it not again."
        told.append(("UNDOES", text, "warn"))
    if history.truncated:
        told.append(
            ("", "Only the first records of its history were read: it takes over more than is told here.", "warn")
        )
    told.append(("THIS RUN", "It stays as it is: the fork is a run of its own beside it.", ""))
    labels = [label for label, *_ in told]
    return [
        ("" if number and label == labels[number - 1] else label, [Piece(text, look)])
        for number, (label, text, look) in enumerate(told)
    ]


def _undone_since(history: History, picture: Picture) -> list[str]:
    """What was done by then and has been undone by now, by the run itself."""
    now = history.last.calls if history.last.generation == picture.generation else {}
    undone = {key for key, call in now.items() if call.kind == "undo" and call.word == "DONE"}
    return [call.name for call in picture.in_order() if call.word == "DONE" and f"{call.key}{UNDO_MARK}" in undone]


def _names(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return between.join(names[:NAMED_MAX]) + more


def _is_under_way(call: Call) -> bool:
    return call.kind in ("step", "undo") and call.word in ("RUN", "RETRY", "STUCK", "DOUBT")


def _is_taken_over(history: History, seq: int, call: Call) -> bool:
    """Whether a call that is not over is a part of the past: something was answered after it was made, or it is to be
    made at most once, and then is not the fork's to make."""
    own = _since_its_beginning(history, seq)
    before = history.past if any(record.kind == "run_forked" for record in own) else ()
    return call.opened_seq <= max((record.seq for record in (*before, *own) if _says_something(record)), default=0)


def _says_something(record: HistoryRecord) -> bool:
    if record.kind in ("step_scheduled", "compensation_scheduled"):
        return bool(data_of(record.data).get("at_most_once"))
    from_outside = record.kind in ("state_written", "timer_fired") and record.call is None
    return record.kind in ANSWERS and not from_outside


def _not_over(call: Call, taken_over: bool) -> tuple[str, str]:
    """What a fork does about a step that is not over, and how that looks."""
    once = call.at_most_once
    if not taken_over:
        return f"{call.name}: the fork makes it too, as a step of its own.", "warn"
    if call.word == "DOUBT" or (once and call.word == "RUN"):
        return f"{call.name} runs at most once: it is in doubt in the fork, and a person is asked.", "warn"
    if once:
        return f"{call.name} runs at most once: in the fork it stands as it does here.", "warn"
    return f"{call.name} is not over: the fork makes it anew.", "warn"


def command_words(run_id: str, seq: int, new_id: str, reason: str) -> Iterable[str]:
    """The words of the command line that does the same."""
    yield from ("runs", "fork", run_id, "--at", str(seq))
    if new_id:
        yield from ("--id", quoted(new_id) if " " in new_id else new_id)
    yield from ("--reason", quoted(reason) if reason else "'...'")
