"""A run as it stood at any of its records: a pure fold of its history, for the timeline and for travelling in time.

Nothing is guessed: what the records do not say (what comes next) is not shown. The status
is that of `wal.run_status`, the journal's own fold, so time travel and the list can never disagree. What a fork took
over of another run is folded in with the record that holds it: only that run's page travels through it record by
record.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tui.fold import data_of, fact_of
from tui.format import micros
from tui.run_picture import Attempt, Call, Origin, Picture, Undo
from wal import run_status
from wal.records import RunStarted
from wal.telling import BEGINNINGS, past_of
from wal.views import NULL, HistoryRecord

RECORDS_MAX = 5_000
"""The most records of one run that are held; the screen says when a run has more."""
UNDO_MARK = "!"
NOT_OVER = "it was not over where this run was forked"
RECORD_BYTES = 500
"""What a record takes beside its data, about."""


class History:
    """The records of one run in order, and the picture at each of them; of a fork also the past that it took over."""

    def __init__(self) -> None:
        self.records: list[HistoryRecord] = []
        self.past: Sequence[HistoryRecord] = ()
        self.size = 0
        self.truncated = False
        self._changes: list[int] = []
        self._last: Picture = Picture()

    def __len__(self) -> int:
        return len(self.records)

    def append(self, records: Iterable[HistoryRecord]) -> None:
        """More records; those known already are left out, and those beyond the limit."""
        for record in records:
            if self.records and record.seq <= self.records[-1].seq:
                continue
            if self.full:
                self.truncated = True
                return
            after = step(self._last, record)
            if record.kind == "run_forked":
                self._keep_past(past_of(record.data))
            if _shown(after) != _shown(self._last):
                self._changes.append(len(self.records))
            self.records.append(record)
            self.size += RECORD_BYTES + len(bytes(record.data))
            self._last = after

    def _keep_past(self, past: Sequence[HistoryRecord]) -> None:
        self.past, self.truncated = past[:RECORDS_MAX], len(past) > RECORDS_MAX
        self.size += sum(RECORD_BYTES + len(bytes(one.data)) for one in self.past)

    @property
    def full(self) -> bool:
        """Whether as many records are held as may be, those of its past among them."""
        return len(self.records) + len(self.past) >= RECORDS_MAX

    @property
    def last(self) -> Picture:
        """The run as of the last record that is held."""
        return self._last

    def at(self, seq: int) -> Picture:
        """The run as of the last record with a seq up to this one."""
        if self.records and seq >= self.records[-1].seq:
            return self._last
        picture = Picture()
        for record in self.records[: self.place(seq) + 1]:
            picture = step(picture, record)
        return picture

    def place(self, seq: int) -> int:
        """The number of the last record with a seq up to this one; -1 if there is none."""
        return bisect_right(self.records, seq, key=lambda record: record.seq) - 1

    def earlier(self, seq: int, *, change: bool = False) -> int | None:
        """The seq of the record before, or of the change of state before; None at the beginning."""
        here = self.place(seq)
        places = [place for place in self._changes if place < here] if change else list(range(max(0, here)))
        return self.records[places[-1]].seq if places else None

    def later(self, seq: int, *, change: bool = False) -> int | None:
        """The seq of the record after, or of the change of state after; None at the end."""
        here = self.place(seq)
        if change:
            place = next((place for place in self._changes if place > here), None)
        else:
            place = here + 1 if here + 1 < len(self.records) else None
        return None if place is None else self.records[place].seq


def _shown(picture: Picture) -> tuple[str, str | None]:
    return picture.status, picture.state.waiting_on


def fold(records: Iterable[HistoryRecord]) -> Picture:
    """The picture after these records."""
    picture = Picture()
    for record in records:
        picture = step(picture, record)
    return picture


def step(before: Picture, record: HistoryRecord) -> Picture:
    """The picture after one more record."""
    data = data_of(record.data)
    if record.kind in BEGINNINGS:  # also where a run continues as new: a history begins again under its id
        data = data.get("started") or data
        started = RunStarted("", "", NULL, start_at=micros(data.get("start_at")), queue=data.get("queue"))
        return Picture(
            record.seq,
            record.at,
            run_status.begin(started),
            attributes=data.get("attributes") or {},
            input=data.get("input"),
            generation=before.generation + 1 if before.seq else 0,
        )
    fact = fact_of(record)
    state = before.state if fact is None else run_status.advance(before.state, fact)
    after = replace(before, seq=record.seq, at=record.at, state=state)
    handler = _HANDLERS.get(record.kind)
    if handler is not None:
        after = handler(after, record, data)
    return _ended(after, micros(record.at) or 0) if state.ended and not before.state.ended else after


def _ended(picture: Picture, at: int) -> Picture:
    """The run is over: what still waited waits no more."""
    calls = {
        key: replace(call, closed=at, word="CANC") if call.open and call.kind not in ("step", "undo") else call
        for key, call in picture.calls.items()
    }
    return replace(picture, calls=calls)


def _put(picture: Picture, call: Call) -> Picture:
    return replace(picture, calls={**picture.calls, call.key: call})


def _call(picture: Picture, record: HistoryRecord) -> Call:
    """The call that a record is of, with the record noted; a record whose beginning is not held makes a call."""
    key, at = record.call or "", micros(record.at) or 0
    held = picture.calls.get(key)
    if held is None:
        kind = "undo" if key.endswith(UNDO_MARK) else "step"
        held = Call(key, record.name or "", kind, "RUN", at, record.seq, attempts=(Attempt(1, at),))
    return replace(held, seqs=(*held.seqs, record.seq))


def _scheduled(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    at, key = micros(record.at) or 0, record.call or ""
    kind = "undo" if record.kind == "compensation_scheduled" else "step"
    held = picture.calls.get(key)
    attempts = (*(held.attempts if held else ()), Attempt((len(held.attempts) if held else 0) + 1, at))
    opened, seq = (held.opened, held.opened_seq) if held else (at, record.seq)
    seqs = (*(held.seqs if held else ()), record.seq)
    return _put(picture, Call(key, record.name or "", kind, "RUN", opened, seq, None, attempts, seqs, data))


def _close_attempt(call: Call, record: HistoryRecord, outcome: str, note: str, retry_at: int | None = None) -> Call:
    """The attempt under way has ended; if none is, the record alone tells of it. What a fork records of one that was
    under way where it was forked is of that one."""
    at, number = micros(record.at) or 0, record.attempt or max(1, len(call.attempts))
    known = list(call.attempts)
    last = known[-1] if known else None
    if last is not None and (last.outcome == "running" or (last.outcome == "interrupted" and last.number == number)):
        known[-1] = last._replace(
            number=number, ended=last.ended or at, outcome=outcome, note=note, seq=record.seq, retry_at=retry_at
        )
    else:
        known.append(Attempt(number, at, at, outcome, note, record.seq, retry_at))
    return replace(call, attempts=tuple(known))


def _completed(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    call = _close_attempt(_call(picture, record), record, "ok", "")
    call = replace(call, word="DONE", closed=micros(record.at), data={**call.data, **data})
    return _done(_put(picture, call), call)


def _done(picture: Picture, call: Call) -> Picture:
    """A step joins what would be undone; an undo leaves it."""
    if call.kind == "undo":
        key = call.key.removesuffix(UNDO_MARK)
        kept = tuple(undo for undo in picture.undo if undo.key != key)
        return replace(picture, undo=kept, undone=(*picture.undone, call.name))
    kept = tuple(undo for undo in picture.undo if undo.key != call.key)
    declares = "args" not in call.data or call.data.get("undo")  # without its beginning it may
    return replace(picture, undo=(*kept, Undo(call.key, call.name)) if declares else kept)


def _failed(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    error = data.get("error") or {}
    retry_at = micros(data.get("retry_at"))
    cancelled, defect = bool(data.get("cancelled")), bool(data.get("defect"))
    note = f"{error.get('type', '')}: {error.get('message', '')}"
    call = _close_attempt(_call(picture, record), record, "cancelled" if cancelled else "failed", note, retry_at)
    word = "CANC" if cancelled else "RETRY" if retry_at is not None else "STUCK" if defect else "FAIL"
    closed = None if retry_at is not None or defect else micros(record.at)
    return _put(picture, replace(call, word=word, closed=closed, data={**call.data, "error": error}))


def _interrupted(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    call = _call(picture, record)
    note = NOT_OVER if _is_of_the_past(call) else "the process ended in the middle of it"
    call = _close_attempt(call, record, "interrupted", note)
    return _put(picture, _next_attempt(call, micros(record.at) or 0))


def _is_of_the_past(call: Call) -> bool:
    """Whether its last attempt was made by the run that this was forked from."""
    return bool(call.attempts and call.attempts[-1].made_as)


def _next_attempt(call: Call, at: int) -> Call:
    number = call.attempts[-1].number + 1 if call.attempts else 1
    return replace(call, word="RUN", closed=None, attempts=(*call.attempts, Attempt(number, at)))


def _unknown(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    call = _call(picture, record)
    note = NOT_OVER if _is_of_the_past(call) else str(data.get("reason") or "outcome unknown")
    call = _close_attempt(call, record, "unknown", note)
    return _put(picture, replace(call, word="DOUBT"))


def _resolved(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    happened = bool(data.get("happened"))
    said = f"{data.get('by') or 'somebody'}: it {'happened' if happened else 'did not happen'}"
    call = _call(picture, record)
    if call.attempts:
        call = replace(call, attempts=(*call.attempts[:-1], call.attempts[-1]._replace(note=said)))
    call = replace(call, word="DONE" if happened else "FAIL", closed=micros(record.at), data={**call.data, **data})
    after = _put(picture, call)
    return _done(after, call) if happened else after


def _timer_set(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    key = record.call or ""
    if key in picture.calls:
        return _put(picture, replace(_call(picture, record), data={**picture.calls[key].data, **data}))
    at = micros(record.at) or 0
    return _put(picture, Call(key, "sleep", "timer", "WAIT", at, record.seq, seqs=(record.seq,), data=data))


def _timer_fired(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    held = picture.calls.get(record.call or "")
    if held is None:
        return picture
    call, at = _call(picture, record), micros(record.at) or 0
    if held.kind in ("step", "undo"):
        return _put(picture, _next_attempt(call, at)) if held.word == "RETRY" else picture
    return _put(picture, replace(call, closed=at, word="DONE" if held.kind == "timer" else "FAIL"))


def _closed_by(word: str) -> Any:
    def close(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
        if (record.call or "") not in picture.calls:
            return picture
        call = _call(picture, record)
        ends = call.open and call.kind not in ("step", "undo")
        return _put(picture, replace(call, closed=micros(record.at), word=word) if ends else call)

    return close


def _asked(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    at, title = micros(record.at) or 0, str(data.get("title") or "approval")
    call = Call(record.call or "", title, "approval", "APPR", at, record.seq, seqs=(record.seq,), data=data)
    return _put(picture, call)


def _voted(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    held = picture.calls.get(record.call or "")
    if held is None:
        return picture
    votes = [*held.data.get("votes", ()), {**data, "at": record.at}]
    return _put(picture, replace(_call(picture, record), data={**held.data, "votes": votes}))


def _decided(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    held = picture.calls.get(record.call or "")
    if held is None:
        return picture
    word = "DONE" if data.get("approved") else "FAIL"
    call = replace(_call(picture, record), word=word, closed=micros(record.at), data={**held.data, "decision": data})
    return _put(picture, call)


def _waiting(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    """What it waits for: waits that no record opened (for signals, for children) begin here, and end once not named."""
    at = micros(record.at) or 0
    named = {str(one.get("key", "")): one for one in data.get("calls") or []}
    calls = dict(picture.calls)
    for key, one in named.items():
        held, kind, name = calls.get(key), str(one.get("kind", "")), str(one.get("name") or one.get("kind") or "")
        if held is None:
            word = {"approval": "APPR", "step": "RUN"}.get(kind, "WAIT")
            calls[key] = Call(key, name, kind, word, at, record.seq, seqs=(record.seq,))
        elif held.kind == "timer" and kind != "timer":  # the time limit of a wait was recorded before the wait itself
            calls[key] = replace(held, kind=kind, name=name)
    for key, call in calls.items() if not data.get("more") else ():  # else it names only those that are new
        if call.open and call.kind in ("signal", "child") and key not in named:
            calls[key] = replace(call, closed=at, word="DONE")
    return replace(picture, calls=calls)


def _signal(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    """The oldest open wait of that name takes it; else it is kept until somebody asks."""
    for call in picture.in_order():
        if call.open and call.kind == "signal" and call.name == record.name:
            taken = replace(call, closed=micros(record.at), word="DONE", seqs=(*call.seqs, record.seq))
            return _put(picture, replace(taken, data={**call.data, **data}))
    return replace(picture, signals=(*picture.signals, record.name or ""))


def _set_aside(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    left = list(picture.signals)
    if record.name in left:
        left.remove(record.name or "")
    return replace(picture, signals=tuple(left))


def _added(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    return replace(picture, undo=(*picture.undo, Undo(record.call or "", record.name or "", added=True)))


def _attributes(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    return replace(picture, attributes={**picture.attributes, **(data.get("attributes") or {})})


def _emitted(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    return replace(picture, emitted=picture.emitted + 1)


def _retried(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    """What a defect had stopped is tried again."""
    at, calls = micros(record.at) or 0, dict(picture.calls)
    for key, call in calls.items():
        if call.word == "STUCK":
            calls[key] = _next_attempt(call, at)
    return replace(picture, calls=calls)


def _forked(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    """What was done by then is done here too, and is undone if this fails; an attempt that was under way was another's.
    Signals are left out: which of them the code had taken by then, the past does not say."""
    told, made_as, at = picture, "", 0
    for one in past_of(record.data)[:RECORDS_MAX]:
        if one.kind in BEGINNINGS:
            told, made_as = _made_as(told, made_as), _name_of(data_of(one.data))
        else:
            told, at = step(told, one), max(at, micros(one.at) or 0)
    calls = {key: _left(call, at) for key, call in _made_as(told, made_as).calls.items()}
    origin = Origin(str(data.get("from_id", "")), int(data.get("from_seq") or 0))
    return replace(picture, calls=calls, undo=told.undo, undone=told.undone, origin=origin)


def _name_of(began: Mapping[str, Any]) -> str:
    """The run and its generation, as they stand before its idempotency keys, out of the record it begins with."""
    started = began.get("started")
    if started is None:
        return f"{began.get('id')}/0"
    return f"{started.get('id')}/{began.get('generation', 1)}"


def _made_as(picture: Picture, name: str) -> Picture:
    """The attempts so far are of this run, but for those of which it is known already."""
    calls = {
        key: replace(call, attempts=tuple(one if one.made_as else one._replace(made_as=name) for one in call.attempts))
        for key, call in picture.calls.items()
    }
    return replace(picture, calls=calls)


def _left(call: Call, at: int) -> Call:
    """A call as it was left at this instant: its attempt is not under way here, and will be made anew."""
    if not call.attempts or call.attempts[-1].outcome != "running":
        return call
    last = call.attempts[-1]
    left = last._replace(ended=max(last.began, at), outcome="interrupted", note=NOT_OVER)
    return replace(call, word="RETRY", attempts=(*call.attempts[:-1], left))


def _cancel(picture: Picture, record: HistoryRecord, data: Mapping[str, Any]) -> Picture:
    return replace(picture, cancel_asked=True)


_HANDLERS = {
    "step_scheduled": _scheduled,
    "compensation_scheduled": _scheduled,
    "step_completed": _completed,
    "compensation_completed": _completed,
    "step_failed": _failed,
    "compensation_failed": _failed,
    "step_interrupted": _interrupted,
    "step_unknown": _unknown,
    "step_resolved": _resolved,
    "timer_set": _timer_set,
    "timer_fired": _timer_fired,
    "timer_cancelled": _closed_by("DONE"),
    "approval_requested": _asked,
    "approval_voted": _voted,
    "approval_decided": _decided,
    "approval_withdrawn": _closed_by("CANC"),
    "run_waiting": _waiting,
    "signal_received": _signal,
    "signal_set_aside": _set_aside,
    "compensation_added": _added,
    "attributes_set": _attributes,
    "output_emitted": _emitted,
    "run_retried": _retried,
    "run_cancel_requested": _cancel,
    "run_forked": _forked,
}
