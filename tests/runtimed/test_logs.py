"""Logging: JSON lines for machines, text for people, escapes for what could act, and never a payload."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from runtimed import logs
from wal.errors import RuntimedError

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


def test_an_answer_is_written_whatever_the_level() -> None:
    """What somebody waits for has the form of every other line of level info, and no level hides it."""
    stream = io.StringIO()
    logs.set_up("error", "auto", stream)

    logger.info("hidden")
    logs.answer(logger, "%s is ready", "it")

    (line,) = lines(stream)
    assert (line["level"], line["logger"], line["message"]) == ("info", "runtimed.test", "it is ready")


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
    assert line["exc"].splitlines()[-1] == "ValueError"  # not what it says: that may be data
    assert "test_logs.py" in line["exc"]


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
        raise RuntimedError("a\x07b")
    except RuntimedError:
        logger.exception("it broke")

    assert stream.getvalue().splitlines()[-1] == "wal.errors.RuntimedError: a\\x07b"


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


def raised() -> BaseException:
    """A group in a cause in an error of ours, each with a secret in its message."""
    try:
        try:
            try:
                raise ExceptionGroup("canary", [KeyError("canary"), OSError(28, "No space left on device", "/data/x")])
            except ExceptionGroup as group:
                raise ValueError("canary") from group
        except ValueError as error:
            raise RuntimedError("ours says what it says") from error
    except RuntimedError as error:
        return error


def test_what_exceptions_say_is_not_logged_unless_it_is_ours_or_the_systems() -> None:
    """A traceback is whole in places and types, through causes and groups; what users' exceptions say is left out."""
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    error = raised()
    logger.error("it broke", exc_info=error)

    (line,) = lines(stream)
    assert "canary" not in line["exc"].replace('("canary"', "")  # the line of code that raised it is code, not data
    for told in ("KeyError", "ValueError", "ExceptionGroup", "No space left on device: '/data/x'", "ours says what"):
        assert told in line["exc"]
    assert line["exc"].count("which led to") == 2


def test_a_tangle_of_causes_has_an_end() -> None:
    """A cause that leads back to itself, and a chain without end, give one bounded line."""
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    told = logs.told_without_data(first)
    assert told.count("which led to") == logs.CAUSES_MAX


def test_what_a_library_repeats_is_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times a second that a listener cannot accept: one line, and a minute later one with how many there were. A
    clock that is set back hides nothing."""
    stream, now = io.StringIO(), 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    logs.set_up(stream=stream)
    noisy = logging.getLogger("trio.serve_listeners")
    for _ in range(600):
        noisy.error("accept returned %s", "EMFILE")
    logger.error("accept returned %s", "this")
    now += 61
    for _ in range(2):
        noisy.error("accept returned 100%%: %s", "EMFILE")
    assert [line["message"] for line in lines(stream)] == [
        "accept returned EMFILE",
        "accept returned this",
        "accept returned 100%: EMFILE; 599 more of these were left out",
    ]
