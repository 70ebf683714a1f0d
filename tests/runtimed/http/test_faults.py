"""Errors as problem documents: one mapping, every field there, nothing of our insides."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import runtimed.http.errors  # noqa: F401 - defines the last of the errors
from actors.errors import MailboxFull, RunNotFound, StepFailed, VersionConflict
from actors.messages import ProblemData
from runtimed.http.errors import MethodNotAllowed
from runtimed.http.faults import overflow_answer, problem_of, problem_of_data, protocol_problem, reply_of
from wal.errors import RuntimedError


def _kinds(base: type[RuntimedError]) -> list[type[RuntimedError]]:
    """Those that we define: not what other tests derive from them."""
    ours = [child for child in base.__subclasses__() if not child.__module__.startswith("tests.")]
    return [base, *(kind for child in ours for kind in _kinds(child))]


@pytest.mark.parametrize("kind", _kinds(RuntimedError), ids=lambda kind: kind.__name__)
def test_every_error_is_a_problem(kind: type[RuntimedError]) -> None:
    """Each error that we define makes a whole problem document with the status and code it defines."""
    error = kind.__new__(kind)
    Exception.__init__(error, "what happened")
    problem = problem_of(error)
    assert (problem.status, problem.code, problem.detail) == (kind.status, kind.code, "what happened")
    assert problem.type == f"urn:runtimed:problem:{kind.code}"
    assert problem.title
    assert 400 <= problem.status < 600
    document = msgspec.json.decode(msgspec.json.encode(problem))
    assert set(document) == {"type", "title", "status", "detail", "code", "hint"}


def test_hint_of_the_instance_wins() -> None:
    """An error that knows better what to do says so in the problem."""
    assert problem_of(VersionConflict("it is 3", hint="read again")).hint == "read again"
    assert problem_of(VersionConflict()).hint == VersionConflict.hint


def test_foreign_error_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception is a 500 without its text; the log has it with the traceback."""
    reply = reply_of(ZeroDivisionError("/home/secret"))
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert "/home/secret" in caplog.text


def test_overload_says_when_to_come_back() -> None:
    """429 and 503 carry Retry-After; 405 carries Allow; 401 a challenge."""
    assert (b"retry-after", b"1") in reply_of(MailboxFull()).headers
    assert (b"allow", b"GET, HEAD") in reply_of(MethodNotAllowed("no", "GET, HEAD")).headers
    assert reply_of(RunNotFound()).headers == ()


def test_problem_out_of_data_has_the_same_title() -> None:
    """A refusal that came as data looks like the error it stands for."""
    data = ProblemData(status=404, code="run_not_found", detail="no run 'x'")
    assert problem_of_data(data).title == problem_of(RunNotFound("no run 'x'")).title


def test_unknown_code_out_of_data_has_a_title() -> None:
    """A code that no class defines still makes a whole problem."""
    assert problem_of_data(ProblemData(status=409, code="new", detail="x")).title == "Conflict"


def test_multi_line_title_is_one_line() -> None:
    """The title is the class's sentence, however many lines its docstring has."""
    assert "\n" not in problem_of(StepFailed("x")).title


def test_protocol_answers_are_whole() -> None:
    """What the layers below the application answer is well-formed too."""
    assert msgspec.json.decode(protocol_problem(431, ""))["code"] == "head_too_large"
    head, _, body = overflow_answer().partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert msgspec.json.decode(body)["status"] == 503


BAD_BODIES: list[tuple[bytes, str, str]] = [
    (b"", "invalid_input", "missing required field `workflow` - at `$`"),
    (b"{", "invalid_json", "truncated"),
    (b'{"workflow":"w"}x', "invalid_json", "trailing"),
    (b'{"workflow":"w","input":NaN}', "invalid_json", "byte"),
    (b'{"workflow":"w","input":"\xff"}', "invalid_json", "UTF-8"),
    (b'\xef\xbb\xbf{"workflow":"w"}', "invalid_json", "not JSON"),
    (b'{"workflow":"w","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json", "nested"),
    (b"1", "invalid_input", "Expected `object`, got `int` - at `$`"),
    (b"{}", "invalid_input", "missing required field `workflow` - at `$`"),
    (b'{"workflow":1}', "invalid_input", "Expected `str`, got `int` - at `$.workflow`"),
    (b'{"workflow":""}', "invalid_input", "`$.workflow`"),
    (b'{"workflow":"w","inputs":1}', "invalid_input", "unknown field `inputs` - at `$`"),
    (b'{"workflow":"w","id":"a b"}', "invalid_input", "Expected nothing but A-Z a-z 0-9 . _ : - - at `$.id`"),
    (b'{"workflow":"w","id":"a\\n"}', "invalid_input", "`$.id`"),
    (b'{"workflow":"w","id":"' + b"x" * 201 + b'"}', "invalid_input", "`$.id`"),
    (b'{"workflow":"w","priority":1.5}', "invalid_input", "`$.priority`"),
    (b'{"workflow":"w","classification":"x"}', "invalid_input", "one of 'client', 'platform' - at `$.classification`"),
    (b'{"workflow":"w","start_at":"tomorrow"}', "invalid_input", "`$.start_at`"),
    (b'{"workflow":"w","start_at":"2025-01-01T00:00:00"}', "invalid_input", "`$.start_at`"),
]


@pytest.mark.trio
@pytest.mark.parametrize(("body", "code", "detail"), BAD_BODIES, ids=lambda value: str(value)[:40])
async def test_bad_body_names_the_path(serve: Any, rt: Any, body: bytes, code: str, detail: str) -> None:
    """Bad JSON, wrong types and unknown fields get 400 naming the path and what was expected; nothing is asked."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", raw=body)
        problem = answer.json()
        assert (answer.status, problem["status"], problem["code"]) == (400, 400, code)
        assert detail in problem["detail"]
        assert answer.headers["content-type"] == "application/problem+json"
        assert rt.asked == []


@pytest.mark.trio
async def test_bad_status_names_the_statuses(serve: Any) -> None:
    """A word of the query that is none of those it may be is answered with those."""
    async with serve() as http:
        problem = (await http.ask("GET", "/v1/approvals?status=nope")).json()
    assert problem["detail"].startswith("Invalid enum value 'nope', expected one of 'approved', 'expired', 'open', ")
    assert problem["detail"].endswith(" - at `?status`")
