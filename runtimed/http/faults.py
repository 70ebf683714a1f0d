"""The one mapping from an error to an RFC 9457 problem document and its headers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import msgspec

from actors.errors import InvalidInput, MailboxFull, NotFound
from actors.flow.choices import with_choices
from actors.messages import ProblemData
from runtimed.http.errors import InvalidJson, MethodNotAllowed
from runtimed.http.limits import retry_after_s
from runtimed.http.replies import Header, Reply, encode
from runtimed.wire import HASH_PATTERN, ID_PATTERN, Problem
from wal.errors import RuntimedError

log = logging.getLogger("runtimed.http")

PROBLEM_TYPE: Final = b"application/problem+json"
RETRY_AFTER_S: Final = 1.0
TYPE_PREFIX: Final = "urn:runtimed:problem:"


def problem_of(error: BaseException) -> Problem:
    """An error as a problem. What is not ours becomes `internal` and tells nothing of our insides."""
    known = _as_ours(error)
    if known is None:
        return _problem(RuntimedError, "The daemon met a defect; its log has the traceback.", "Report it.", 500)
    return _problem(type(known), str(known), known.hint, known.status)


def problem_of_data(data: ProblemData) -> Problem:
    """A refusal that came as data: one item of a batch."""
    return Problem(
        type=TYPE_PREFIX + data.code,
        title=_TITLES.get(data.code) or HTTPStatus(data.status).phrase,
        status=data.status,
        detail=data.detail,
        code=data.code,
        hint=data.hint,
    )


def reply_of(error: BaseException, trace_id: str = "") -> Reply:
    """An error as a whole answer. What is not ours is logged with its traceback and the trace it belongs to."""
    problem = problem_of(error)
    if problem.status == 500:
        log.error("a request ended by a defect", exc_info=error, extra={"trace_id": trace_id})
    named = (("allow", error.allow),) if isinstance(error, MethodNotAllowed) else ()
    return problem_reply(problem, named, getattr(error, "retry_after_s", None) or RETRY_AFTER_S)


def problem_reply(problem: Problem, named: tuple[tuple[str, str], ...] = (), retry_s: float = RETRY_AFTER_S) -> Reply:
    """A problem as a whole answer; overload says when to come back."""
    headers: list[Header] = [(name.encode(), value.encode()) for name, value in named]
    if problem.status in (429, 503):
        headers.append((b"retry-after", retry_after_s(retry_s)))
    elif problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return Reply(problem.status, encode(problem), PROBLEM_TYPE, tuple(headers))


def protocol_problem(status: int, detail: str) -> bytes:
    """The problem document of an answer that the protocol layer gives itself: no request could be read."""
    phrase = HTTPStatus(status).phrase
    code = "head_too_large" if status == 431 else "head_too_slow" if status == 408 else "bad_request"
    detail = detail or "The request is not well-formed HTTP/1.1, or its head is too large."
    return encode(Problem(type=TYPE_PREFIX + code, title=phrase, status=status, detail=detail, code=code, hint=""))


def overflow_answer() -> bytes:
    """A whole response for a connection that is one too many."""
    error = MailboxFull("http.max_connections are open already")
    body = encode(problem_of(error))
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        f"content-type: {PROBLEM_TYPE.decode()}\r\n"
        f"content-length: {len(body)}\r\n"
        f"retry-after: {retry_after_s(RETRY_AFTER_S).decode()}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body


def invalid(error: Exception, root: str = "$", kind: Any = Any) -> InvalidInput:
    """What a decoder for `kind` found, as an `InvalidInput` that names the path; `root` is put where that begins."""
    if isinstance(error, msgspec.ValidationError):
        message = with_choices(str(error), kind)
        for pattern, words in _IN_WORDS.items():
            message = message.replace(pattern, words)
        if " - at `" not in message:
            message += " - at `$`"
        if root == "?":  # a field of the query is written as the query has it
            message = message.replace(" - at `$.", " - at `?")
        return InvalidInput(message.replace(" - at `$", f" - at `{root}"))
    if isinstance(error, RecursionError):
        return InvalidJson("the body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return InvalidJson(f"the body is not UTF-8: {error.reason} at byte {error.start}")
    return InvalidJson(f"the body is not JSON: {error}")


def _as_ours(error: BaseException) -> RuntimedError | None:
    if isinstance(error, RuntimedError):
        return error
    if isinstance(error, msgspec.MsgspecError):
        return invalid(error)
    return None


def _problem(kind: type[RuntimedError], detail: str, hint: str, status: int) -> Problem:
    return Problem(
        type=TYPE_PREFIX + kind.code, title=_title(kind), status=status, detail=detail, code=kind.code, hint=hint
    )


def _title(kind: type[RuntimedError]) -> str:
    if kind is RuntimedError:
        return "Internal error."
    return (kind.__doc__ or kind.code).strip().split("\n")[0]


def _kinds(base: type[RuntimedError]) -> Iterator[type[RuntimedError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


_IN_WORDS: Final = {
    f"`str` matching regex {ID_PATTERN!r}": "nothing but A-Z a-z 0-9 . _ : -",
    f"`str` matching regex {HASH_PATTERN!r}": "64 digits of 0-9 a-f",
}
"""What people read instead of a pattern."""

_TITLES: Final = {kind.code: _title(kind) for kind in _kinds(RuntimedError)} | {NotFound.code: _title(NotFound)}
