"""The client below its verbs: one request out, one answer in, problems raised, JSON encoded and decoded."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET, Raw

from actors.errors import InvalidInput
from runtimed.client_errors import BadAnswer, from_problem
from runtimed.client_wire import Answer, Stream, Target, Wire

T = TypeVar("T")

Query = Sequence[tuple[str, Any]]


class Link:
    """The connections to a daemon with the headers of one caller. Raises what `Wire.request` raises."""

    def __init__(self, target: Target, *, token: str | None, timeout: float, traceparent: str | None) -> None:
        self.wire = Wire(target, timeout=timeout)
        self._headers = {"accept": "application/json", "user-agent": "runtimed-client"}
        if token is not None:
            self._headers["authorization"] = "Bearer " + header("token", token)
        if traceparent is not None:
            self._headers["traceparent"] = header("traceparent", traceparent)

    def traced(self, traceparent: str) -> Link:
        """The same connections under another trace."""
        return self._with(traceparent=header("traceparent", traceparent))

    def because(self, reason: str) -> Link:
        """The same connections, with a reason for the audit: in percent-encoding, because a header holds ASCII."""
        return self._with(**{"runtimed-reason": _quoted(reason, safe=" !#$&'()*+,/:;=?@[]")})

    def _with(self, **headers: str) -> Link:
        other = Link.__new__(Link)
        other.wire, other._headers = self.wire, self._headers | headers
        return other

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        params: Query = (),
        body: Any = UNSET,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        repeatable: bool | None = None,
    ) -> Answer:
        """One request; any status is an answer. `body` is encoded as JSON (`msgspec.Raw` as it is). `repeatable` False
        never sends it twice, also where that would be safe: for callers who must say that the outcome is not known."""
        target = f"{path}?{_query(params)}" if params else path
        sent = {**self._headers, **(headers or {})}
        data = b""
        if body is not UNSET:
            data = encode(body)
            sent["content-type"] = "application/json"
        # a conditional change is not repeated: the second would meet the version that the first made
        if repeatable is None:
            repeatable = method == "GET" or "idempotency-key" in sent or (method != "POST" and "if-match" not in sent)
        return await self.wire.request(method, target, headers=sent, body=data, repeatable=repeatable, timeout=timeout)

    async def get(self, path: str, params: Query = ()) -> bytes:
        """The body of a GET that succeeds; raises what a problem stands for."""
        return succeeded(await self.fetch("GET", path, params=params)).body

    async def post(self, path: str, body: Any, key: str | None = None) -> bytes:
        """The body of a POST that succeeds, under this idempotency key or a fresh one."""
        headers = {"idempotency-key": header("idempotency_key", key or uuid.uuid4().hex)}
        return succeeded(await self.fetch("POST", path, body=body, headers=headers)).body

    async def change(self, method: str, path: str, body: Any, expect_version: int | None) -> bytes:
        """The body of a PUT or DELETE that succeeds; with a version it is conditional."""
        headers = {} if expect_version is None else {"if-match": f'"{expect_version}"'}
        return succeeded(await self.fetch(method, path, body=body, headers=headers)).body

    async def open_events(self, after: int) -> Stream:
        """The raw event stream beyond a seq."""
        headers = {**self._headers, "accept": "text/event-stream", "last-event-id": str(after)}
        return await self.wire.open(f"/v1/events?after={after}", headers=headers)


def succeeded(answer: Answer) -> Answer:
    """The answer, or the exception that it stands for."""
    if answer.status < 300:
        return answer
    raise from_problem(answer.status, answer.headers, answer.body)


def decode(body: bytes, kind: type[T]) -> T:
    """JSON as a value of this type. Raises `BadAnswer`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadAnswer(f"an answer of another shape than expected: {error}") from error
    except msgspec.DecodeError as error:
        raise BadAnswer(f"an answer that is not JSON: {error}") from error


def encode(body: Any) -> bytes:
    """A value as JSON. Raises `InvalidInput`, also for a number that is not finite: msgspec would write null for it,
    which for us means "not given", so that a session of infinite ttl would be one without."""
    if isinstance(body, Raw):
        return bytes(body)
    try:
        data = msgspec.json.encode(body)
        wrong = _not_finite(msgspec.to_builtins(body, enc_hook=_nothing), "") if b"null" in data else None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"this cannot be sent as JSON: {error}") from error
    if wrong is not None:
        raise InvalidInput(f"{wrong} is not a finite number, and JSON has no other")
    return data


def _nothing(raw: Raw) -> None:
    """What is JSON already holds no such number."""


def _not_finite(value: Any, place: str) -> str | None:
    """Where in this there is a number that is not finite: `input.items[2]`."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place or "the value"
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inner = ((f"{place}.{name}" if place else str(name), each) for name, each in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{place}[{at}]", each) for at, each in enumerate(value))
    return next((wrong for name, each in inner if (wrong := _not_finite(each, name)) is not None), None)


def given(**values: Any) -> list[tuple[str, Any]]:
    """Those that are not None."""
    return [(name, value) for name, value in values.items() if value is not None]


def part(text: str, safe: str = "") -> str:
    """One part of a path. Raises `InvalidInput` for one that is empty or dots: it would name another route."""
    if not text or set(text) <= {"."}:
        raise InvalidInput(f"{text!r} cannot be an id", hint="An id is 1 to 200 characters of A-Z a-z 0-9 . _ : -")
    return _quoted(text, safe=safe + ":")


def _query(params: Query) -> str:
    try:
        return urlencode(params)
    except UnicodeEncodeError:
        raise InvalidInput("a filter is not text in UTF-8") from None


def _quoted(text: str, safe: str) -> str:
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:  # half a surrogate pair: of a file's name, or typed as bytes that are no text
        raise InvalidInput(f"{text!r} is not text in UTF-8") from None


def header(name: str, value: str) -> str:
    """A value that may go into a header. Raises `InvalidInput`."""
    if not value or not value.isascii() or not value.isprintable():
        raise InvalidInput(f"{name} must be printable ASCII on one line")
    return value
