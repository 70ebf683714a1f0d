"""Logging to stderr: text for a person at a terminal, one JSON object a line for everything else.

What is logged are messages and ids, never payloads. A call site adds `extra={"run_id": ..., "step": ..., "trace_id":
...}`; nothing else of a record is shown, so that a value cannot slip into the log by way of `extra`.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from runtimed.escape import escape

FIELDS = ("run_id", "step", "trace_id")
NOISY = ("httpx", "httpx2", "httpcore", "httpcore2", "hypercorn", "urllib3")
"""Libraries that write a line for each request at `info`: their warnings are wanted, their chatter is not."""

MESSAGE_CHARACTERS_MAX = 8_192
TRACEBACK_CHARACTERS_MAX = 65_536


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
    root = logging.getLogger()
    for before in list(root.handlers):
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    return handler


def fields(record: logging.LogRecord) -> dict[str, str]:
    """The run, the step and the trace that a record is about, as far as it says."""
    told = {name: getattr(record, name, None) for name in FIELDS}
    return {name: str(value)[:200] for name, value in told.items() if value is not None}


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
            line["exc"] = _traceback(self, record)
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
            line += "\n" + escape(_traceback(self, record), keep="\n")
        return line


def _instant(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except (TypeError, ValueError) as error:  # a wrong call must not cost the line
        message = f"{record.msg} (its arguments do not fit: {error})"
    return message if len(message) <= MESSAGE_CHARACTERS_MAX else message[:MESSAGE_CHARACTERS_MAX] + "..."


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = formatter.formatException(record.exc_info) if record.exc_info else ""
    return text if len(text) <= TRACEBACK_CHARACTERS_MAX else text[:TRACEBACK_CHARACTERS_MAX] + "..."
