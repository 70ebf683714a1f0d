"""One request: its peer, headers, query and body, decoded within limits; and the origin that its commands carry."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
import trio

from actors.errors import InvalidId
from actors.messages import Origin, RequestKey
from runtimed.http.access import STRANGER, Access, Peer
from runtimed.http.errors import BadRequest
from runtimed.http.faults import invalid
from runtimed.http.guesses import Guesses
from runtimed.http.identity import Place
from runtimed.http.limits import Bodies, Receive, Streams, check_json
from runtimed.wire import Query

T = TypeVar("T")
Q = TypeVar("Q", bound=Query)

QUERY_FIELDS_MAX: Final = 50
REASON: Final = b"runtimed-reason"
REASON_CHARACTERS_MAX: Final = 2_000
SINGLE: Final = frozenset(
    (b"content-type", b"idempotency-key", b"if-match", b"if-none-match", b"last-event-id", b"authorization", REASON)
)
"""Headers that change what is done: sent twice, nobody knows which is meant."""

_ID = re.compile(r"[A-Za-z0-9._:-]{1,200}")
_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NEVER: Final = trio.Event()


def _nobody_may() -> bool:
    return False


class Request:
    """A request on its way through a handler. Made once a request; reads nothing until asked.

    `access` is that of its beginning; `still_may()` says whether its caller has the level of its route now, for answers
    that go on."""

    __slots__ = (
        "_bodies",
        "_receive",
        "_twice",
        "access",
        "answers",
        "guesses",
        "headers",
        "limits",
        "method",
        "params",
        "path",
        "peer",
        "scope",
        "still_may",
        "streams",
        "traceparent",
        "via",
    )

    def __init__(
        self,
        scope: Any,
        receive: Receive,
        bodies: Bodies,
        answers: Mapping[tuple[str, str, int], int],
        access: Access,
        guesses: Guesses,
        streams: Streams,
    ) -> None:
        self.scope = scope
        self.access = access
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.params: dict[str, str] = scope.get("path_params") or {}
        self.peer: Peer = scope["state"].get("peer", STRANGER) if "state" in scope else STRANGER
        self.via: str | None = None
        self.headers: dict[bytes, bytes] = {}
        self._twice: set[bytes] = set()
        self._receive = receive
        self._bodies = bodies
        self.limits = bodies.limits
        self.answers = answers
        self.guesses = guesses
        self.streams = streams
        self.still_may: Callable[[], bool] = _nobody_may
        for name, value in scope["headers"]:
            if name in self.headers:
                self._twice.add(name)
            self.headers[name] = value
        sent = self.headers.get(b"traceparent", b"")
        usable = b"traceparent" not in self._twice and _is_traceparent(sent)
        self.traceparent = sent if usable else new_traceparent()

    @property
    def trace_id(self) -> str:
        """The trace that the request belongs to: 32 hexadecimal digits."""
        return self.traceparent[3:35].decode()

    async def locate(self) -> None:
        """Find out from where the caller acts: what changes something is recorded with it."""
        state = self.scope.get("state") or {}
        self.via = await (state.get("place") or Place(self.peer)).via()

    def check_headers(self) -> None:
        """Raise `BadRequest` if a header that changes what is done is there twice."""
        if not self._twice.isdisjoint(SINGLE):
            raise BadRequest(f"the header {min(self._twice & SINGLE).decode()} is there twice")

    # --- what was asked ---------------------------------------------------------------------------------------------

    def header(self, name: bytes) -> str | None:
        """A header's value, or None. Names are in lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def id(self, name: str = "id") -> str:
        """An id out of the path. Raises `InvalidId`."""
        value = self.params[name]
        if _ID.fullmatch(value) is None:
            raise InvalidId(f"{value[:200]!r} in the path is no id: 1 to 200 characters of A-Z a-z 0-9 . _ : -")
        return value

    def query(self, kind: type[Q]) -> Q:
        """The query string as a type. Raises `InvalidInput` naming the field."""
        query, rest = self.query_and_rest(kind)
        if rest:
            raise invalid(msgspec.ValidationError(f"Object contains unknown field `{next(iter(rest))}`"), "?")
        return query

    def query_and_rest(self, kind: type[Q]) -> tuple[Q, dict[str, str]]:
        """The query string as a type, and its fields with a dot in their name, which the type cannot have."""
        text: bytes = self.scope["query_string"]
        if not text:
            return kind(), {}
        many = _lists(kind)
        found: dict[str, Any] = {}
        rest: dict[str, str] = {}
        for name, value in _pairs(text):
            if name in many:
                found.setdefault(name, []).extend(part for part in value.split(",") if part)
            elif name in found or name in rest:
                raise BadRequest(f"?{name} is there twice")
            elif "." in name:
                rest[name] = value
            else:
                found[name] = value
        try:
            return msgspec.convert(found, kind, strict=False), rest
        except msgspec.ValidationError as error:
            raise invalid(error, "?", kind) from None

    async def raw_body(self) -> bytes:
        """The body as it came, whatever its type, within the limits. Raises what `Bodies.read` raises."""
        length = self.headers.get(b"content-length")
        if length is None and b"transfer-encoding" not in self.headers:
            return b""
        return await self._bodies.read(self._receive, None if length is None else int(length))

    async def body(self) -> bytes:
        """The body, within the limits; then the caller is located too. Raises what `Bodies.read` and `check_json`
        raise."""
        body = await self.raw_body()
        if body:
            check_json(self.headers.get(b"content-type"))
        await self.locate()
        return body

    def decode(self, decoder: msgspec.json.Decoder[T], body: bytes) -> T:
        """A body as a type; an empty one counts as `{}`. Raises `InvalidInput` naming the path."""
        return decode(decoder, body or b"{}")

    def origin(self, body: bytes = b"") -> Origin:
        """Who asked, from where and why, under which trace, for which `Idempotency-Key`. Raises `BadRequest`."""
        assert self.via is not None, "read the body first: the caller is located with it"
        key = self.headers.get(b"idempotency-key") if self.method == "POST" else None
        return Origin(
            by=self.peer.by,
            trace_id=self.trace_id,
            traceparent=self.traceparent.decode(),
            request=None if key is None else self._request_key(key, body),
            via=self.via,
            reason=self._reason(),
        )

    def _reason(self) -> str | None:
        """The header `Runtimed-Reason`: UTF-8 in percent-encoding, because a header holds ASCII. For requests whose
        body has no place for a reason, such as a DELETE."""
        said = self.headers.get(REASON)
        if not said:
            return None
        try:
            reason = unquote_to_bytes(said).decode()
        except UnicodeDecodeError:
            raise BadRequest("Runtimed-Reason is not UTF-8 in percent-encoding") from None
        if len(reason) > REASON_CHARACTERS_MAX:
            raise BadRequest(f"Runtimed-Reason has more than {REASON_CHARACTERS_MAX} characters")
        return reason.strip() or None

    def _request_key(self, key: bytes, body: bytes) -> RequestKey:
        if _KEY.fullmatch(key) is None:
            raise BadRequest("an Idempotency-Key is 1 to 255 visible ASCII characters")
        digest = blake2b(b"%s\0%s\0" % (self.method.encode(), self.path.encode()), digest_size=16)
        digest.update(body)
        return RequestKey(principal=self.peer.by or "", key=key.decode(), digest=digest.hexdigest())

    # --- the client and the server, meanwhile -------------------------------------------------------------------------

    @property
    def draining(self) -> trio.Event:
        """Set when the server wants to stop: long answers end then."""
        event: trio.Event = self.scope["state"].get("draining", _NEVER) if "state" in self.scope else _NEVER
        return event

    async def gone(self) -> None:
        """Return when the client has left. What it still sends is dropped."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def unless_stopped(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """The outcome of `work`, or None when the client left or the server drains first; then it is cancelled."""
        outcome: list[T] = []
        errors: list[Exception] = []

        async def do() -> None:
            try:
                outcome.append(await work())
            except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery's group
                errors.append(error)
            nursery.cancel_scope.cancel()

        async def stop_when(event: Callable[[], Awaitable[None]]) -> None:
            await event()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(do)
            nursery.start_soon(stop_when, self.gone)
            nursery.start_soon(stop_when, self.draining.wait)
        if errors:
            raise errors[0]
        return outcome[0] if outcome else None


@lru_cache
def _lists(kind: type[Query]) -> frozenset[str]:
    """The fields of a query that may be given several times."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind) if "list[" in str(field.type))


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """JSON as a type. Raises `InvalidInput` naming the path, or `InvalidJson`."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise invalid(error, kind=decoder.type) from None


def check_utf8(body: bytes) -> None:
    """Raise `InvalidJson` unless the body is UTF-8: inside a `Raw` the decoder does not look."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise invalid(error) from None


def new_traceparent() -> bytes:
    """A new trace, sampled, as W3C Trace Context level 1 writes it."""
    text = os.urandom(24).hex()
    return f"00-{text[:32]}-{text[32:]}-01".encode()


def _is_traceparent(value: bytes) -> bool:
    match = _TRACEPARENT.fullmatch(value)
    return match is not None and len(value) <= 512 and (match[5] is None or match[1] != b"00")


def _pairs(text: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise BadRequest(f"the query is not UTF-8 in percent-encoding, or has over {QUERY_FIELDS_MAX} fields") from None
