"""Any paged JSON API, by configuration: where its records are, how one page leads to the next, what the cursor is.

The cursor is the largest value of `cursor_field` that a whole poll has seen. It is sent inclusively and moves when the
last page of the poll is taken, because a page says nothing of the order that the next one brings; with
`order = "ascending"` it moves with each page. Pages before it that were taken are taken: a poll that breaks off begins
again, and what it reads again is known by its key.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urljoin

import msgspec
from msgspec import Meta

from actors.connector_spec import ConnectorSpec, Page, Poll, deliver_to
from actors.errors import SourceGarbled
from runtimed.connectors.cursors import at_path, closed_s, compare, fall, largest
from runtimed.connectors.http import Answer, Auth, origin
from runtimed.connectors.http_faults import shown
from runtimed.connectors.options import Seconds, Text, Url, key_of, read_options, revealed, wrong
from runtimed.settings import Connector

PAGES_MAX = 10_000
"""Pages of one poll: an API that leads in a circle ends here at the latest."""

_NOTHING = object()
_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^",;\s]+))*)')
_NEXT = re.compile(r';\s*rel\s*=\s*"?(?:[^"]*\s)?next(?:\s[^"]*)?"?', re.IGNORECASE)


class Bearer(msgspec.Struct, frozen=True, tag="bearer", forbid_unknown_fields=True):
    """`Authorization: Bearer TOKEN`."""

    token: Text


class Basic(msgspec.Struct, frozen=True, tag="basic", forbid_unknown_fields=True):
    """User and password, as RFC 7617 has it."""

    username: str
    password: str = ""


class Header(msgspec.Struct, frozen=True, tag="header", forbid_unknown_fields=True):
    """A header of the API's own."""

    name: Text
    value: Text


class Query(msgspec.Struct, frozen=True, tag="query", forbid_unknown_fields=True):
    """A parameter of the address."""

    name: Text
    value: Text


Credential = Bearer | Basic | Header | Query | Text
"""A bare text is the token of a `Bearer`."""
Param = str | int | float | bool


class HttpJson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options; durations in seconds. `next_path` is where the next link or token stands in the answer, `next_param`
    and `size_param` are the parameters for the next page and its size. With POST the parameters are the JSON body.
    `settle` is how long an instant of `cursor_field` stays open."""

    url: Url
    method: Literal["GET", "POST"] = "GET"
    headers: dict[str, str] = {}
    params: dict[str, Param] = {}
    auth: Credential | None = None
    records_path: str = ""
    cursor_field: Text | None = None
    cursor_param: Text | None = None
    order: Literal["any", "ascending"] = "any"
    next: Literal["link", "offset", "page", "token"] | None = None
    next_path: Text | None = None
    next_param: Text | None = None
    page_first: Annotated[int, Meta(ge=0)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    size_param: Text = "limit"
    rate: Annotated[int, Meta(ge=1)] | None = None
    rate_period: Seconds | None = None
    timeout: Seconds | None = None
    settle: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 0.0


def make(name: str, settings: Connector) -> ConnectorSpec:
    """The connector `name`. Raises ConfigError."""
    options = read_options(name, settings.options, HttpJson)
    _check(name, options)
    sizes = _Sizes()

    def source(poll: Poll[Any]) -> AsyncGenerator[Page, None]:
        return _Reading(options, poll, sizes).pages()

    return ConnectorSpec(
        name=name,
        kind="http_json",
        source=source,
        deliver=deliver_to(settings.deliver, settings.run_id_from),
        every=settings.every,
        key=key_of(name, settings.key),
        timeout=settings.timeout if options.timeout is None else max(settings.timeout, 2 * options.timeout),
        credential=settings.credential or _credential_name(options.auth),
        rate=options.rate or settings.rate,
        rate_period=options.rate_period or settings.rate_period,
    )


def _check(name: str, options: HttpJson) -> None:
    """What one option alone cannot say. Raises ConfigError."""
    if options.cursor_param and not options.cursor_field:
        raise wrong(name, "cursor_field", "it is needed with cursor_param: which field of a record is the cursor")
    if options.order == "ascending" and not options.cursor_field:
        raise wrong(name, "cursor_field", 'it is needed with order = "ascending"')
    if options.next == "token" and not options.next_path:
        raise wrong(name, "next_path", 'it is needed with next = "token": where in the answer the next token stands')
    if options.next == "link" and options.method == "POST":
        raise wrong(name, "next", "a link is read with GET")


def _credential_name(auth: Credential | None) -> str | None:
    """Connectors with the same secret share its rate budget by themselves."""
    match auth:
        case str(value) | Bearer(value) | Basic(_, value) | Header(_, value) | Query(_, value):
            return value if value.startswith("secret:") else None
        case None:
            return None


def credential(auth: Credential | None, secret: Callable[[str], str] | None) -> Auth:
    """What goes with each request. Raises SecretMissing."""
    match auth:
        case Bearer(token) | str(token):
            return Auth(headers={"Authorization": f"Bearer {revealed(token, secret)}"})
        case Basic(username, password):
            plain = revealed(password, secret)
            both = f"{revealed(username, secret)}:{plain}".encode()
            return Auth(headers={"Authorization": f"Basic {b64encode(both).decode()}"}, made_of=(plain,))
        case Header(name, value):
            return Auth(headers={name: revealed(value, secret)})
        case Query(name, value):
            return Auth(params={name: revealed(value, secret)})
        case _:
            return Auth()


class _Sizes:
    """How many records the source gives at most, as far as it has shown: it may be fewer than `page_size` asks for."""

    def __init__(self) -> None:
        self._largest = 0

    def is_last(self, count: int, asked: int | None) -> bool:
        """Whether a page of so many records is the last: an empty one, or one that is smaller than was asked for and
        than another was."""
        self._largest = max(self._largest, count)
        return count == 0 or (asked is not None and count < min(asked, self._largest))


class _Reading:
    """One poll."""

    def __init__(self, options: HttpJson, poll: Poll[Any], sizes: _Sizes) -> None:
        self._options, self._poll, self._sizes = options, poll, sizes
        self._next_param = next_param(options)
        self._auth = credential(options.auth, poll.secret)
        self._headers = {name: revealed(value, poll.secret) for name, value in options.headers.items()}
        self._url, self._params = options.url, self._first_params()
        self._seen: set[bytes] = set()
        self._asked: set[Any] = set()
        self._read = 0
        self._cursor = poll.cursor
        self._newest: Any = None
        self._last: Any = None

    def _first_params(self) -> dict[str, Any]:
        options, params = self._options, dict(self._options.params)
        if options.page_size is not None:
            params[options.size_param] = options.page_size
        if options.cursor_param and self._poll.cursor is not None:
            params[options.cursor_param] = self._poll.cursor
        if options.next == "offset":
            params[self._next_param] = 0
        elif options.next == "page":
            params[self._next_param] = options.page_first
        return params

    async def pages(self) -> AsyncGenerator[Page, None]:
        """The pages of the poll, one a request."""
        for _ in range(PAGES_MAX):
            answer = await self._ask()
            body = answer.json()
            records = self._records(answer, body)
            self._check_new(answer, records)
            more = self._go_on(answer, body, len(records))
            if not more:
                self._check_forward(answer)
            moved = self._options.order == "ascending" or not more
            cursor = self._cursor if moved and self._cursor != self._poll.cursor else None
            yield Page(records=records, cursor=cursor, more=more)
            if not more:
                return
        raise SourceGarbled(f"{shown(self._options.url)} leads on for more than {PAGES_MAX} pages")

    async def _ask(self) -> Answer:
        by_body = self._options.method == "POST"
        answer: Answer = await self._poll.http.request(
            self._options.method,
            self._url,
            params=None if by_body else self._params,
            json=self._params if by_body else None,
            headers=self._headers,
            auth=self._auth,
            timeout=self._options.timeout,
        )
        return answer

    def _records(self, answer: Answer, body: Any) -> list[Any]:
        """The page's records, with the cursor moved over them. Raises SourceGarbled."""
        options = self._options
        records = at_path(body, options.records_path, missing=_NOTHING)
        if records is None:
            records = []  # how some languages write an empty list
        if not isinstance(records, list):
            where = f"at records_path {options.records_path!r}" if options.records_path else "at its root"
            kind = "nothing" if records is _NOTHING else type(records).__name__
            raise SourceGarbled(f"{answer.place}: there is {kind} {where}, not a list of records")
        self._read += len(records)
        if options.cursor_field is None or not records:
            return records
        values = [at_path(record, options.cursor_field) for record in records]
        if all(value is None for value in values):
            raise SourceGarbled(f"{answer.place}: no record has the cursor field {options.cursor_field!r}")
        if options.order == "ascending":
            if fallen := fall([self._last, *values]):
                raise SourceGarbled(f"{answer.place}: the cursor goes back, from {fallen[0]!r} to {fallen[1]!r}")
            self._last = next(value for value in reversed(values) if value is not None)
        self._newest = largest(values, least=self._newest)
        closed = closed_s(self._poll.http.now_s(), answer.date_s, options.settle)
        self._cursor = largest(values, closed, self._cursor)
        return records

    def _check_forward(self, answer: Answer) -> None:
        """A source that was asked from a value on, and has only older ones, has gone back. Raises SourceGarbled."""
        asked = self._poll.cursor
        if self._options.cursor_param is None or asked is None or self._newest is None:
            return
        if compare(self._newest, asked) < 0:
            raise SourceGarbled(
                f"{answer.place}: the cursor goes back: asked from {asked!r}, the newest is {self._newest!r}"
            )

    def _check_new(self, answer: Answer, records: list[Any]) -> None:
        """Raises SourceGarbled for a page that was there before in this poll."""
        if not records:
            return
        digest = hashlib.blake2b(msgspec.json.encode(records), digest_size=16).digest()
        if digest in self._seen:
            raise SourceGarbled(f"{answer.place}: a page repeats: this one was there before in this poll")
        self._seen.add(digest)

    # --- the next page ----------------------------------------------------------------------------------------------

    def _go_on(self, answer: Answer, body: Any, count: int) -> bool:
        """Turn to the next page; False if this was the last. Raises SourceGarbled for one that was asked before."""
        target = self._next(answer, body, count)
        if target is None or target == "":
            return False
        if not isinstance(target, str | int) or isinstance(target, bool):
            raise SourceGarbled(f"{answer.place}: what leads to the next page is {type(target).__name__}")
        if self._options.next == "link":
            self._url = self._link(answer, str(target))
            self._params, target = {}, self._url
        else:
            self._params[self._next_param] = target
        if target in self._asked:
            raise SourceGarbled(f"{answer.place}: a page repeats: the next one was asked for before in this poll")
        self._asked.add(target)
        return True

    def _next(self, answer: Answer, body: Any, count: int) -> Any:
        options = self._options
        last = self._sizes.is_last(count, options.page_size)
        match options.next:
            case "link":
                return at_path(body, options.next_path) if options.next_path else _next_link(answer.headers)
            case "token":
                return at_path(body, options.next_path or "")
            case "offset":
                return None if last else self._read
            case "page":
                return None if last else self._params[self._next_param] + 1
            case _:
                return None

    def _link(self, answer: Answer, target: str) -> str:
        url = urljoin(self._url, target)
        if origin(url) != origin(self._options.url):
            raise SourceGarbled(f"{answer.place}: the next page is on another host, {shown(url)}")
        return url


def next_param(options: HttpJson) -> str:
    """The parameter for the next page. A token's is named as where it stands, without a leading `next`."""
    if options.next_param:
        return options.next_param
    if options.next != "token" or options.next_path is None:
        return options.next or ""
    bare = re.sub("^next(_(?=.)|(?=[A-Z]))", "", options.next_path.rpartition(".")[2])
    return bare[:1].lower() + bare[1:]


def _next_link(headers: Mapping[str, str]) -> str | None:
    """The target of `rel="next"` in a Link header (RFC 8288)."""
    found = (match for match in _LINK.finditer(headers.get("link", "")) if _NEXT.search(match[2]))
    return next((match[1] for match in found), None)
