"""Logging to stderr: text for a person at a terminal, one JSON object a line for everything else.

What is logged are messages and ids, never payloads; of exceptions where they came from and their types, and what they
say only of our own errors and the system's. A call site adds `extra={"run_id": ..., "step": ..., "trace_id":
...}`; nothing else of a record is shown, so that a value cannot slip into the log by way of `extra`.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from actors.errors import Failure, RunOutcome, SourceError
from runtimed.escape import escape
from wal.errors import RuntimedError

FIELDS = ("run_id", "step", "trace_id")
NOISY = ("httpx", "httpx2", "httpcore", "httpcore2", "hypercorn", "urllib3")
"""Libraries that write a line for each request at `info`: their warnings are wanted, their chatter is not."""

REPEATED = ("trio.serve_listeners",)
"""Loggers that say the same again and again while it lasts: ten times a second that no file descriptor is left."""
REPEATED_S = 60.0

MESSAGE_CHARACTERS_MAX = 8_192
TRACEBACK_CHARACTERS_MAX = 65_536
OF_USERS = (Failure, RunOutcome, SourceError)
"""Errors of ours that pass on what users' code or a source said."""
CAUSES_MAX = 10  # how deep causes and groups are followed, and how many of a group are shown


def set_up(
    level: str = "info", format: Literal["auto", "text", "json"] = "auto", stream: TextIO | None = None
) -> logging.Handler:
    """Send all logging to `stream` (stderr), in place of whatever was set up before; warnings go there too.

    Call it again to change level or format. Returns the handler.
    """
    stream = sys.stderr if stream is None else stream
    as_text = format == "text" or (format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    handler.addFilter(Seldom())
    root = logging.getLogger()
    for before in list(root.handlers):
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    return handler


def answer(logger: logging.Logger, message: str, *values: object) -> None:
    """Write a line of level info whatever the level is that is logged: what somebody waits for, or has asked for."""
    logger.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, message, values, None))


def fields(record: logging.LogRecord) -> dict[str, str]:
    """The run, the step and the trace that a record is about, as far as it says."""
    told = {name: getattr(record, name, None) for name in FIELDS}
    return {name: str(value)[:200] for name, value in told.items() if value is not None}


class Seldom(logging.Filter):
    """One line a minute of each of the loggers that repeat themselves, with how many were left out since the last."""

    def __init__(self) -> None:
        super().__init__()
        self._until: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one is to be seen."""
        name = record.name
        if name not in REPEATED:
            return True
        now = time.monotonic()
        if now < self._until.get(name, now):
            self._left_out[name] += 1
            return False
        self._until[name] = now + REPEATED_S
        if left_out := self._left_out.pop(name, 0):
            record.msg, record.args = f"{record.getMessage()}; {left_out} more of these were left out", ()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object: ts (RFC 3339, UTC), level, logger, message, run_id, step, trace_id, exc."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": _instant(record).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **fields(record),
        }
        if record.exc_info:
            line["exc"] = _traceback(record)
        try:
            return msgspec.json.encode(line).decode()
        except UnicodeEncodeError:  # a lone surrogate, for example of a file's name that is not UTF-8
            return msgspec.json.encode({key: escape(value, keep="\n") for key, value in line.items()}).decode()


class TextFormatter(logging.Formatter):
    """`12:03:41.512Z INFO  logger: message  run_id=...`, a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        instant = f"{_instant(record):%H:%M:%S}.{int(record.msecs):03d}Z"
        about = "".join(f"  {name}={escape(value)}" for name, value in fields(record).items())
        line = f"{instant} {record.levelname:<7} {escape(record.name)}: {escape(_message(record))}{about}"
        if record.exc_info:
            line += "\n" + escape(_traceback(record), keep="\n")
        return line


def _instant(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except (TypeError, ValueError) as error:  # a wrong call must not cost the line
        message = f"{record.msg} (its arguments do not fit: {error})"
    return message if len(message) <= MESSAGE_CHARACTERS_MAX else message[:MESSAGE_CHARACTERS_MAX] + "..."


def _traceback(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    text = "" if error is None else told_without_data(error)
    return text if len(text) <= TRACEBACK_CHARACTERS_MAX else text[:TRACEBACK_CHARACTERS_MAX] + "..."


def told_without_data(error: BaseException, depth: int = 0) -> str:
    """An exception with its traceback, its causes and its group, but with the messages of our own errors and the
    system's alone: any other may hold what a workflow or a source was given."""
    parts = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < CAUSES_MAX:
        parts.append(f"{told_without_data(cause, depth + 1)}\n\nwhich led to:\n\n")
    if error.__traceback__ is not None:
        parts.append("Traceback (most recent call last):\n")
        parts += traceback.format_tb(error.__traceback__)
    ours = isinstance(error, (RuntimedError, OSError)) and not isinstance(error, OF_USERS)
    message = f": {error}" if ours else ""
    parts.append(f"{type(error).__module__.removeprefix('builtins')}.{type(error).__qualname__}".lstrip(".") + message)
    if isinstance(error, BaseExceptionGroup) and depth < CAUSES_MAX:
        for number, inner in enumerate(error.exceptions[:CAUSES_MAX], 1):
            told = told_without_data(inner, depth + 1).replace("\n", "\n    ")
            parts.append(f"\n  {number} of {len(error.exceptions)}:\n    {told}")
    return "".join(parts)
