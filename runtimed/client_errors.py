"""What a client may meet: a daemon out of reach, a time limit, problem documents as the exceptions they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import msgspec

import actors.errors
import wal.errors
from actors.errors import Failure, RunOutcome
from wal.errors import RuntimedError


class DaemonUnreachable(RuntimedError):
    """The daemon does not answer."""

    status = 503
    code = "daemon_unreachable"
    exit_code = 3
    hint = "Start it with `runtimed serve`, or name another with --socket or --url."


class TimedOut(RuntimedError, TimeoutError):
    """It took longer than the time limit. A change that was asked for may have happened all the same."""

    status = 504
    code = "timed_out"
    exit_code = 7


class BadAnswer(RuntimedError):
    """What answered does not speak as a runtimed daemon does."""

    status = 502
    code = "bad_answer"
    hint = "Check --url or --socket: something else may listen there."


_EXIT_CODES = {400: 2, 401: 6, 403: 6, 404: 4, 408: 7, 409: 5, 412: 5, 413: 2, 422: 5, 429: 75, 503: 75, 504: 7}


def from_problem(status: int, headers: Mapping[str, str], body: bytes, *, run_id: str = "") -> RuntimedError:
    """The exception that a problem document (RFC 9457) stands for: the class with the same `code`.

    A code that is not known here becomes a `RuntimedError` with that code and status. The fields of the document are
    in `problem`, the seconds of a Retry-After in `retry_after` (None without one).
    """
    problem = _document(body)
    code = str(problem.get("code") or "")
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")
    kind = _known().get(code) or _unknown(code or "http", status)
    error = _outcome(kind, detail, problem, run_id) if issubclass(kind, RunOutcome) else kind(detail)
    hint, seconds = problem.get("hint"), _seconds(headers.get("retry-after"))
    if isinstance(hint, str) and hint:
        error.hint = hint
    vars(error).update(problem=problem, retry_after=seconds)
    return error


def _outcome(kind: type[RunOutcome], detail: str, problem: dict[str, Any], run_id: str) -> RunOutcome:
    error = problem.get("error")
    told = error if isinstance(error, dict) else {}
    return kind(
        str(told.get("message") or detail),
        run_id=str(problem.get("run_id") or run_id),
        type=str(told.get("type") or ""),
        step=told.get("step"),
    )


def _document(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:  # the header may also be a date, which we never send
        return None


@cache
def _known() -> dict[str, type[RuntimedError]]:
    """By code; of two with one code the later, which is the more general one. Failures belong inside workflows."""
    from runtimed.http import errors as edge  # only a refusal needs them

    classes = [kind for module in (edge, wal.errors, actors.errors) for kind in _classes(module)]
    classes += [DaemonUnreachable, TimedOut, BadAnswer]
    return {kind.code: kind for kind in classes}


def _classes(module: ModuleType) -> Iterator[type[RuntimedError]]:
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, RuntimedError) and not issubclass(kind, Failure):
            plain = kind.__init__ is RuntimedError.__init__  # made from a message alone
            if plain or (issubclass(kind, RunOutcome) and kind is not RunOutcome):
                yield kind


@cache
def _unknown(code: str, status: int) -> type[RuntimedError]:
    exit_code = _EXIT_CODES.get(status, 1)
    kind: type[RuntimedError] = type("RemoteProblem", (RuntimedError,), {"__doc__": "A refusal of a newer daemon."})
    kind.code, kind.status, kind.exit_code = code, status, exit_code
    return kind
