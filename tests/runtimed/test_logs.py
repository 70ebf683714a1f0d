"""Logging: JSON lines for machines, text for people, escapes for what could act, and never a payload."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from runtimed import logs

logger = logging.getLogger("runtimed.test")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """The root logger is as before after each test."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[Any]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_hold_the_agreed_fields() -> None:
    """Off a terminal each line is one JSON object with ts, level, logger, message and the ids; nothing else."""
    stream = io.StringIO()
    logs.set_up("info", "auto", stream)

    extra = {"run_id": "r1", "step": "charge", "trace_id": "t", "payload": {"card": "4242"}}
    logger.info("attempt %d failed", 2, extra=extra)

    (line,) = lines(stream)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "runtimed.test",
        "message": "attempt 2 failed",
        "run_id": "r1",
        "step": "charge",
        "trace_id": "t",
    }


def test_an_exception_is_on_its_line() -> None:
    """A traceback is a field of the same JSON object."""
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it broke")

    (line,) = lines(stream)
    assert line["level"] == "error"
    assert line["exc"].splitlines()[-1] == "ValueError: no"


def test_text_is_for_terminals_and_escapes_what_could_act() -> None:
    """On a terminal a line is text; control characters and line ends of a message are shown, not done."""
    stream = Terminal()
    logs.set_up("info", "auto", stream)

    logger.warning("hi \x1b[2J\n there", extra={"run_id": "r\x1b1"})

    (line,) = stream.getvalue().splitlines()
    assert line.split("Z ", 1)[1] == "WARNING runtimed.test: hi \\x1b[2J\\x0a there  run_id=r\\x1b1"


def test_a_traceback_keeps_its_lines_in_text() -> None:
    """A traceback stands below its message, its own control characters escaped."""
    stream = Terminal()
    logs.set_up("info", "text", stream)
    try:
        raise ValueError("a\x07b")
    except ValueError:
        logger.exception("it broke")

    assert stream.getvalue().splitlines()[-1] == "ValueError: a\\x07b"


def test_levels_hold_and_can_be_changed() -> None:
    """Setting up again replaces level and format and leaves one handler."""
    first, second = io.StringIO(), io.StringIO()
    logs.set_up("error", "json", first)
    logger.info("quiet")
    logs.set_up("debug", "text", second)
    logger.debug("loud")

    assert first.getvalue() == ""
    assert "loud" in second.getvalue()
    assert len(logging.getLogger().handlers) == 1


def test_a_wrong_call_does_not_cost_the_line() -> None:
    """Arguments that do not fit, huge messages and lone surrogates still give one line."""
    stream = io.StringIO()
    logs.set_up("info", "json", stream)

    logger.info("%d things", "many")
    logger.info("x" * 100_000)
    logger.info("name \udcff")

    first, second, third = lines(stream)
    assert "arguments do not fit" in first["message"]
    assert len(second["message"]) == logs.MESSAGE_CHARACTERS_MAX + 3
    assert third["message"] == "name \\u{dcff}"
