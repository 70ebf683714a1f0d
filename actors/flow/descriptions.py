"""Records, calls and exceptions as data and as words; and whether two facts are the same for a replay."""

from __future__ import annotations

import traceback
from typing import Any

import msgspec

from actors.errors import StepFailed
from actors.flow.calls import AttemptCall, Call, EmitCall, StatePut, encode
from actors.flow.choices import with_choices
from wal import records as r

WORDS_MAX = 20
"""A person reads no more calls than this in one line."""

TOLD_CHARS_MAX = 4_000
TRACEBACK_CHARS_MAX = 8_000


def told(said: object, chars_max: int = TOLD_CHARS_MAX) -> str:
    """What users' code says, usually by an exception, as text that a record can carry. Their `__str__` may fail, and
    their text may be no UTF-8 (a file's name often is): neither must end the daemon that writes it down."""
    try:
        text = str(said)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is only to be told of
        text = f"({type(said).__name__} cannot say what it is: {type(error).__name__})"
    return text[:chars_max].encode("utf-8", "backslashreplace").decode()


def unfit(error: Exception, kind: Any = Any) -> str:
    """Why a value does not decode as this type. msgspec says so by itself, but for what an enumeration would take; a
    type's own check may raise anything."""
    if isinstance(error, msgspec.MsgspecError):
        return with_choices(told(error), kind)
    return f"{type(error).__name__}: {told(error)}"


def error_data(error: BaseException, *, with_traceback: bool = False) -> r.ErrorData:
    """An exception as data."""
    # Not by getattr: an exception of a user's may have a property of that name, which may raise.
    kind, step, message = type(error).__name__, vars(error).get("step"), told(error)
    if isinstance(error, StepFailed) and error.cause_type:
        message = f"{error.cause_type}: {message}"[:TOLD_CHARS_MAX]
    shown = None
    if with_traceback:
        text = "".join(traceback.format_exception(error))
        shown = told(text[-TRACEBACK_CHARS_MAX:], TRACEBACK_CHARS_MAX)
    return r.ErrorData(kind, message, step if step and isinstance(step, str) else None, shown)


def same_fact(ask: r.Fact, record: r.Fact) -> bool:
    """Whether a recorded fact is the one that the code asks for now. What is told for people may differ."""
    if type(ask) is not type(record):
        return False
    if isinstance(ask, (r.RunCompensating, r.RunFailed)) and isinstance(record, (r.RunCompensating, r.RunFailed)):
        return (ask.error and ask.error.type) == (record.error and record.error.type)
    if isinstance(ask, r.RunCancelled):
        return True  # the reason is the asker's, not the code's
    if isinstance(ask, (r.AttributesSet, r.SignalSetAside)):
        return ask.key == getattr(record, "key", None)
    return encode(ask) == encode(record)


def in_words(calls: list[r.OpenCallData], more: int = 0) -> str:
    """Calls that a run waits for, as a list for a person, shortened."""
    shown = [f"{call.kind} {call.name} (call {call.key})" for call in calls[:WORDS_MAX]]
    more += len(calls) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") or "nothing"


def describe(thing: Call | r.Fact | None) -> str:
    """A record or a call for a person, with what it carries, shortened."""
    if isinstance(thing, r.Fact):
        name, key = getattr(thing, "name", ""), getattr(thing, "key", "")
        shown = " ".join(filter(None, [thing.kind, repr(name) if name else "", f"(call {key})" if key else ""]))
        carries: tuple[type, ...] = (r.StepScheduled, r.CompensationAdded, r.OutputEmitted, r.StateWritten)
    else:
        shown = repr(thing)
        carries = (AttemptCall, EmitCall, StatePut)
    if not isinstance(thing, carries):
        return shown
    carried = getattr(thing, "args", None) or getattr(thing, "value", None) or b""
    return f"{shown} {bytes(carried)[:200].decode(errors='replace')}".strip()
