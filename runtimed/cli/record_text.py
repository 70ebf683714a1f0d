"""A record of a history in a few words: what it is about, and what it says, by its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from runtimed.cli.text import instant

Data = dict[str, Any]


def to_the_millisecond(at: str) -> str:
    """An instant to the millisecond: `2026-01-31T12:00:00.123Z`."""
    whole, _, rest = at.partition(".")
    return f"{whole}.{rest[:3]}Z" if rest else at


def in_words(record: dict[str, Any]) -> tuple[str | None, str | None]:
    """What a record is about (a step's or a signal's name, a title), and what it says. Not escaped."""
    data = record["data"] if isinstance(record["data"], dict) else {}
    name = record["name"] or data.get("title") or data.get("workflow")
    words = [*_attempt(record), *_WORDS.get(record["kind"], _rest)(data), *_person(data)]
    return name, ", ".join(words) or None


def _attempt(record: dict[str, Any]) -> Iterator[str]:
    if (record["attempt"] or 1) > 1:
        yield f"attempt {record['attempt']}"


def _person(data: Data) -> Iterator[str]:
    if data.get("by") is not None:
        yield f"by {data['by']}" + (f" ({data['via']})" if data.get("via") else "")
    if isinstance(data.get("reason"), str) and data["reason"]:
        yield f'"{data["reason"]}"'


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode("utf-8", "replace")


def _args(data: Data) -> Iterator[str]:
    args = data.get("args")
    if isinstance(args, list) and len(args) == 2:
        positional, named = args
        shown = [_json(value) for value in positional] + [f"{name}={_json(value)}" for name, value in named.items()]
        yield f"({', '.join(shown)})"
    if data.get("at_most_once"):
        yield "at most once"


def _started(data: Data) -> Iterator[str]:
    yield f"with {_json(data.get('input'))}"
    if data.get("start_at") is not None:
        yield f"to begin at {instant(data['start_at'])}"


def _forked(data: Data) -> Iterator[str]:
    past = data.get("past") or []
    yield f"from {data.get('from_id')} at record {data.get('from_seq')}"
    yield f"{len(past)} record{'s' * (len(past) != 1)}"


def _result(data: Data) -> Iterator[str]:
    yield f"gave {_json(data.get('result'))}"


def _failure(data: Data) -> Iterator[str]:
    error = data.get("error") or {}
    yield f"{error.get('type')}: {error.get('message')}"
    if data.get("retry_at") is not None:
        yield f"again at {instant(data['retry_at'])}"
    elif not data.get("cancelled"):
        yield "for good"
    if data.get("cancelled"):
        yield "cancelled by us"


def _error(data: Data) -> Iterator[str]:
    error = data.get("error")
    yield f"{error.get('type')}: {error.get('message')}" if error else "asked for"


def _waiting(data: Data) -> Iterator[str]:
    calls = data.get("calls") or []
    words = " and ".join(f"{call['kind']} {call.get('name', '')}".strip() for call in calls) or str(data.get("on"))
    more = data.get("more")  # a run that waits for very many names only those that are new
    yield f"for {words}" + (f" and {more} more" if more else "")
    if data.get("until") is not None:
        yield f"until {instant(data['until'])}"


def _timer(data: Data) -> Iterator[str]:
    yield f"due at {instant(data.get('due_at'))}"


def _value(data: Data) -> Iterator[str]:
    yield "deleted" if data.get("deleted") else _json(data.get("value"))
    if data.get("version"):
        yield f"version {data['version']}"


def _asked(data: Data) -> Iterator[str]:
    roles = " or ".join(data.get("roles") or []) or "anyone who may approve"
    yield f"of {roles}"
    if (data.get("quorum") or 1) > 1:
        yield f"{data['quorum']} votes needed"
    if data.get("expires_at") is not None:
        yield f"until {instant(data['expires_at'])}"


def _vote(data: Data) -> Iterator[str]:
    yield "yes" if data.get("approve") else "no"


def _decision(data: Data) -> Iterator[str]:
    yield "approved" if data.get("approved") else "refused"


def _blocked(data: Data) -> Iterator[str]:
    yield f"{data.get('code')}: {data.get('message')}"


def _resolved(data: Data) -> Iterator[str]:
    yield "it happened" if data.get("happened") else "it did not happen"


def _nothing(data: Data) -> Iterator[str]:
    yield from ()


def _rest(data: Data) -> Iterator[str]:
    """A kind without words of its own: what it holds, as JSON."""
    shown = {
        name: value
        for name, value in data.items()
        if value not in (None, "", [], {}) and name not in ("by", "reason", "via")
    }
    if shown:
        yield _json(shown)


_WORDS: dict[str, Callable[[Data], Iterator[str]]] = {
    "run_started": _started, "run_forked": _forked,
    "step_scheduled": _args, "compensation_scheduled": _args, "compensation_added": _args,
    "step_completed": _result, "compensation_completed": _result, "run_completed": _result,
    "step_failed": _failure, "compensation_failed": _failure, "run_failed": _error, "run_compensating": _error,
    "run_waiting": _waiting, "timer_set": _timer, "timer_fired": _nothing, "timer_cancelled": _nothing,
    "signal_received": _value, "output_emitted": _value, "state_written": _value, "state_read": _value,
    "approval_requested": _asked, "approval_voted": _vote, "approval_decided": _decision,
    "approval_withdrawn": _nothing, "run_blocked": _blocked, "step_resolved": _resolved,
    "run_paused": _nothing, "run_resumed": _nothing, "run_retried": _nothing, "run_cancelled": _nothing,
    "run_cancel_requested": _nothing, "step_interrupted": _nothing, "step_unknown": _nothing,
}  # fmt: skip
