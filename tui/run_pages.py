"""What the pages of a run's detail say, as lines: attempts, payloads, records, the state at a record, the line of time.

Pure. Texts from outside go into pieces as they are: they are escaped where they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tui.event_text import forked
from tui.fold import data_of
from tui.format import (
    Line,
    Piece,
    TimeStyle,
    age_between,
    clock,
    duration,
    escapes,
    micros,
    short_id,
    size,
    stamp,
    thousands,
)
from tui.glyphs import Glyphs
from tui.history_fold import History
from tui.run_picture import Attempt, Call, Picture, difference
from tui.states import cost_of_kill, state_of
from wal.views import HistoryRecord, RunDetail, rfc3339

SHOWN_BYTES, SHOWN_ALL_BYTES = 4_096, 262_144
"""How much of a payload is shown at first, and with enter; more is for `runtimed runs show -o json`."""
LINES_MAX = 5_000
FORMATTED_BYTES = 4 * 1024**2
TODAY_MICROS = 20 * 3_600_000_000
PAGES = ("attempts", "input", "output", "error", "journal", "state")
_OUTCOMES = {
    "running": ("under way", "ok"),
    "ok": ("ok", ""),
    "failed": ("failed", "warn"),
    "cancelled": ("cancelled", "dim"),
    "interrupted": ("interrupted", "warn"),
    "unknown": ("unknown", "need"),
}


def instant(at: int, style: TimeStyle = "utc", now: int = 0) -> str:
    """An instant to the tenth of a second."""
    text = clock(rfc3339(at), style, now=now)
    return text if style == "rel" else f"{text.removesuffix('Z')}.{at // 100_000 % 10}"


def head(run: RunDetail, history: History, picture: Picture, glyphs: Glyphs, now: int, width: int) -> list[Line]:
    """The two lines at the top: what it is, and what it was given."""
    state = state_of(run)
    flying = picture.in_flight()
    cost = cost_of_kill(run, bool(flying), any(call.at_most_once for call in flying))
    first: list[Piece] = [
        Piece(f"run {run.id} {run.workflow} ", "bold"),
        Piece(f"v{run.version}   " if run.version else "  "),
        Piece(f"{glyphs.of(state)} {state.word}", state.look),
        Piece(f"   since {_since(run.created_at, now)}  {age_between(run.created_at, now)}  {cost} seq {run.seq}"),
    ]
    origin = picture.origin  # a fork has no parent
    whose = (
        f"parent {run.parent_id or '-'}" if origin is None else f"fork of {short_id(origin.run_id, 24)} at {origin.seq}"
    )
    told = f"  {whose}  session {run.session_id or '-'}  trace {(run.trace_id or '-')[:8]}"
    given = one_line(bytes(run.input))
    room = max(10, width - len(told) - 4)
    second: list[Piece] = [Piece("in  ", "dim"), Piece(given[:room].ljust(room)), Piece(told, "dim")]
    if history.truncated:
        second = [
            Piece(f"only its first {thousands(len(history) + len(history.past))} records were read  ", "warn"),
            *second,
        ]
    return [first, second]


def _since(at: str | None, now: int) -> str:
    """The time of day, with the day if it was long ago."""
    return clock(at) if now - (micros(at) or now) < TODAY_MICROS else stamp(at)


def one_line(payload: bytes) -> str:
    """A payload on one line, cut."""
    return payload[:SHOWN_BYTES].decode("utf-8", "replace")


def payload(raw: bytes, width: int, *, whole: bool) -> list[Line]:
    """A payload as indented JSON, folded at the width; its first part, or more of it."""
    limit = SHOWN_ALL_BYTES if whole else SHOWN_BYTES
    try:
        text = (msgspec.json.format(raw, indent=1) if len(raw) <= FORMATTED_BYTES else raw).decode("utf-8", "replace")
    except (msgspec.DecodeError, RecursionError):
        text = raw.decode("utf-8", "replace")
    shown = text[:limit]
    lines: list[Line] = []
    for one in shown.split("\n")[:LINES_MAX]:
        lines += [[Piece(part)] for part in folded(one, max(8, width))]
    hidden = escapes(shown.replace("\n", ""))
    if hidden:
        word = "character" if hidden == 1 else "characters"
        lines.insert(0, [Piece(f"! {hidden} control {word} shown escaped", "warn")])
    if len(text) > limit:
        more = "runtimed runs show -o json has it all" if whole else "enter shows more"
        lines.append([Piece(f"... {size(len(raw))} bytes in all, {more}", "dim")])
    return lines


def folded(text: str, width: int) -> list[str]:
    """A line in parts of at most so many characters."""
    return [text[at : at + width] for at in range(0, len(text), width)] or [""]


def attempts(call: Call, style: TimeStyle, now: int) -> list[Line]:
    """The attempts of a step; for what only waits, since when and until when."""
    if not call.attempts:
        took = duration(((call.closed or now) - call.opened) / 1e6)
        until = call.data.get("due_at") or call.data.get("expires_at")
        lines: list[Line] = [[Piece(f"{call.kind} {call.name}  since {instant(call.opened, style, now)}  {took}")]]
        if until:
            lines.append([Piece(f"until {stamp(str(until))}")])
        return [*lines, *_votes(call)]
    lines = [_attempt(one, style, now) for one in call.attempts]
    if len(call.attempts) > 1 and len({one.made_as for one in call.attempts}) == 1:
        lines.append([Piece(f"    one idempotency key on all {len(call.attempts)} attempts", "dim")])
    return lines


def _attempt(one: Attempt, style: TimeStyle, now: int) -> Line:
    word, look = _OUTCOMES[one.outcome]
    took = duration(((one.ended or now) - one.began) / 1e6)
    backoff = ""
    if one.retry_at is not None and one.ended is not None:
        backoff = f"   backoff {duration((one.retry_at - one.ended) / 1e6)}"
    journaled = f"   record {one.seq}" if one.seq else ""
    if one.made_as:
        journaled += f"   in run {one.made_as.rpartition('/')[0]}"
    text = f"#{one.number:<3} {instant(one.began, style, now)}  +{took:<6} {word}  {one.note}"
    return [Piece(text + backoff + journaled, look)]


def _votes(call: Call) -> list[Line]:
    lines: list[Line] = []
    for vote in call.data.get("votes", ()):
        word = "APPROVE" if vote.get("approve") else "DENY"
        lines.append([Piece(f'{vote.get("by")} {word} {stamp(vote.get("at"))} "{vote.get("reason") or ""}"')])
    return lines


def part_of(call: Call, name: str) -> bytes:
    """A payload of a call out of what its records say: `args`, `result`, `detail`, `value`, `decision`."""
    return msgspec.json.encode(call.data[name]) if name in call.data else b""


def error(run: RunDetail, call: Call | None, width: int) -> list[Line]:
    """The error of the call, else of the run, with its traceback."""
    found: Mapping[str, Any] | None = call.data.get("error") if call is not None else None
    if not found:
        if run.error is None:
            return [[Piece("no error", "dim")]]
        found = {"type": run.error.type, "message": run.error.message}
    lines: list[Line] = [[Piece(f"{found.get('type')}: {found.get('message', '')}", "bad")]]
    for one in str(found.get("traceback") or "").split("\n"):
        lines += [[Piece(part)] for part in folded(one, max(8, width))] if one else []
    return lines[:LINES_MAX]


def says(record: HistoryRecord) -> str:
    """What a record says, on one line."""
    if record.kind == "run_forked":
        return forked(data_of(record.data))
    return " ".join(f"{key}={value}" for key, value in data_of(record.data).items() if value not in (None, [], {}, ""))


def record_line(record: HistoryRecord, style: TimeStyle, now: int) -> Line:
    """A record on one line."""
    return [
        Piece(f"{record.seq:>8}  {clock(record.at, style, now=now)}  "),
        Piece(f"{record.kind:<22} "),
        Piece(f"{record.call or '-':<6} {record.name or ''}  {says(record)}"),
    ]


def state(picture: Picture, before: Picture | None, detail: RunDetail | None) -> list[Line]:
    """The run as of a record: what the record changed, then all that is known."""
    lines: list[Line] = []
    if before is not None:
        for name, what in difference(before, picture):
            lines.append([Piece("+ ", "ok"), Piece(f"{name:<16} "), Piece(what, "ok")])
        lines.append([])
    waits = f" on {picture.state.waiting_on}" if picture.state.waiting_on else ""
    lines += [
        _pair("status", picture.status + waits),
        _pair("at", f"{stamp(picture.at)}  record {picture.seq}"),
        _pair("in flight", ", ".join(f"{c.name} try {c.attempts[-1].number}" for c in picture.in_flight()) or "none"),
        _pair("waits for", ", ".join(f"{c.kind} {c.name}" for c in picture.in_order() if c.open) or "nothing"),
        _pair("undo armed", " -> ".join(undo.name for undo in picture.to_undo()) or "nothing"),
    ]
    if picture.undone:
        lines.append(_pair("undone", " -> ".join(picture.undone)))
    lines += [
        _pair("signals kept", ", ".join(picture.signals) or "none"),
        _pair("output", f"{picture.emitted} values"),
    ]
    lines += [_pair(f"att.{key}", str(value)) for key, value in picture.attributes.items()]
    if detail is not None and picture.status == "completed":
        lines.append(_pair("result", one_line(bytes(detail.result))))
    return lines


def _pair(name: str, value: str) -> Line:
    return [Piece(f"{name:<14} ", "dim"), Piece(value)]


def undo_line(picture: Picture) -> Line:
    """What is undone, or would be, in this order."""
    armed = " -> ".join(undo.name for undo in picture.to_undo())
    if picture.undone:
        total = len(picture.undone) + len(picture.undo)
        done = f"undone {len(picture.undone)} of {total}: {' -> '.join(picture.undone)}"
        return [Piece(f"   {done}"), Piece(f"   next: {armed}" if armed else "", "warn")]
    if picture.state.ended:
        return [Piece("   undo: nothing is armed any more", "dim")]
    if not armed:
        return [Piece("   undo: nothing has completed yet", "dim")]
    return [Piece("   undo armed (runs in this order): ", "dim"), Piece(armed)]


def time_line(history: History, seq: int | None, glyphs: Glyphs, width: int, fresh: tuple[str, str]) -> Line:
    """Where we are in the run's time: `time |< < [ 10401 ....o 10432 ] > >|  LIVE`; `fresh` is the link's word."""
    if not history.records:
        return [Piece("time  no records", "dim")]
    first, last = history.records[0].seq, history.records[-1].seq
    at = last if seq is None else seq
    left, right = ("|◂ ◂", "▸ ▸|") if glyphs.utf8 else ("|< <", "> >|")
    place, total = max(0, history.place(at)), max(1, len(history) - 1)
    behind = len(history) - 1 - place
    word, look = fresh if seq is None else (f"AS OF {at}, {behind} records behind LIVE, read-only", "need")
    if seq is not None and width < 120:
        word = f"AS OF {at} (-{behind})"
    room = max(4, width - len(f"time  {left} [ {first}  {at}  {last} ] {right}  {word}") - 2)
    before = round((room - 1) * place / total)
    track = [Piece(glyphs.dot * before), Piece("o", "tab"), Piece(f" {at} ", "bold")]
    track += [Piece(glyphs.dot * (room - 1 - before)), Piece("" if at == last else f" {last}")]
    return [Piece(f"time  {left} [ {first} ", "dim"), *track, Piece(f" ] {right}  ", "dim"), Piece(word, look)]


def entry(record: HistoryRecord, width: int) -> list[Line]:
    """One record whole."""
    lines: list[Line] = [
        [Piece(f"{record.kind}", "bold"), Piece(f"  {stamp(record.at)}  {len(bytes(record.data))} B")],
        [Piece(f"call {record.call or '-'}  {record.name or ''}  attempt {record.attempt or '-'}")],
    ]
    return [*lines, *payload(bytes(record.data), width, whole=False)]


def records_of(history: History, call: Call | None) -> Sequence[HistoryRecord]:
    """The records of one call, also of the past that a fork took over; without one, of the whole run."""
    if call is None:
        return history.records
    wanted = set(call.seqs)
    return [record for record in (*history.past, *history.records) if record.seq in wanted]
