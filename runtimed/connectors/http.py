"""The client that a poll is given: HTTP within a rate budget, deadlines and size caps; every failure a `SourceError`.

httpx2 takes 100 ms to import and a set of authorities half a megabyte, so that both come with the first request, and
the authorities are shared by all connectors of the process.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin, urlsplit

import msgspec
import trio

from actors.clock import US_PER_S, Clock, SystemClock
from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.connectors import http_faults
from runtimed.escape import escape
from runtimed.version import VERSION

if TYPE_CHECKING:
    import ssl

    import httpx2

    from actors.connector_spec import ConnectorSpec

ANSWER_MAX_BYTES = 32 * 1024**2
"""What one answer may hold once it is unpacked; a page of any API known to us is far below."""
TIMEOUT_S = 30.0
"""Default for one request, from its first byte to the last of its answer: a slow drip ends here too."""
CONNECT_TIMEOUT_S = 10.0
BUDGET_WAIT_MAX_S = 24.0
"""A request waits so long for its rate budget; beyond that the poll ends, and comes back when there is some."""
REDIRECTS_MAX = 5
CONNECTIONS_MAX = 4
"""Connections of one connector."""
KEPT_ALIVE_S = 5.0
"""A connection that is not used for so long is not used again: the other side may be closing it."""
HOLD_S = 1.0
"""How long a credential rests after a 429 that does not say how long."""

PACKED = frozenset({"gzip", "x-gzip", "deflate"})

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Budget(Protocol):
    """What this module needs of a rate budget; instants are seconds of trio's clock."""

    def take(self, now: float) -> float:
        """Take a place for one request: 0.0 if it may go now, else the seconds after which to ask again."""

    def hold(self, now: float, seconds: float) -> None:
        """The source said so: nobody with this credential asks for so many seconds."""


class Auth(msgspec.Struct, frozen=True):
    """What makes a request ours: headers and parameters whose values are never told, nor is what they are made of."""

    headers: Mapping[str, str] = {}
    params: Mapping[str, str] = {}
    made_of: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """A successful answer, whole: `headers` by lower-case name, `date_s` the source's own time if it says it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    place: str
    date_s: float | None = None

    def json(self) -> Any:
        """The body as JSON. Raises SourceGarbled."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError) as error:
            kind = self.headers.get("content-type", "no content type").partition(";")[0]
            what = f"{len(self.body)} bytes, {escape(kind)[:80]}: {error}"
            raise SourceGarbled(f"{self.place} does not answer with whole JSON ({what})") from None


class SourceHttp:
    """HTTP for one connector. `aclose` gives its connections back; the next request opens new ones.

    Every method raises `SourceError` (with `retry_after_s` where the source says it), `SourceRefused` for 4xx and for
    redirects to another host, `SourceGarbled` for answers that cannot be what was meant. Cancellation is safe anywhere.
    """

    def __init__(
        self,
        name: str,
        *,
        budget: Budget | None = None,
        clock: Clock | None = None,
        timeout_s: float = TIMEOUT_S,
        wait_max_s: float = BUDGET_WAIT_MAX_S,
        every_s: float = 0.0,
    ) -> None:
        self.name, self._budget, self._clock = name, budget, clock or SystemClock()
        self._timeout_s, self._wait_max_s, self._every_s = timeout_s, wait_max_s, every_s
        self._client: httpx2.AsyncClient | None = None

    def now_s(self) -> float:
        """The wall clock's time, seconds since the epoch."""
        return self._clock.now_us() / US_PER_S

    async def get_json(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        timeout: float | None = None,
    ) -> Any:
        """What a GET of `url` answers, as JSON."""
        answer = await self.request("GET", url, params=params, headers=headers, auth=auth, timeout=timeout)
        return answer.json()

    async def get(self, url: str, **options: Any) -> Answer:
        """`request` with GET."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> Answer:
        """`request` with POST."""
        return await self.request("POST", url, **options)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        auth: Auth | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """The successful answer to one request, within `timeout` seconds after its budget allows it. `json` is the
        body; `auth` goes to no other host."""
        sent = _Sent(method, url, dict(params or {}), dict(headers or {}), json, auth or Auth())
        limit_s = self._timeout_s if timeout is None else timeout
        for _ in range(1 + REDIRECTS_MAX):
            await self._await_budget(sent)
            try:
                with trio.fail_after(limit_s):
                    answer = await self._exchange(sent, limit_s)
            except trio.TooSlowError:
                raise SourceError(f"{sent.place} does not answer whole within {limit_s:g} s") from None
            if answer.status not in _REDIRECTS:
                return self._checked(sent, answer)
            sent = sent.redirected(answer)
        raise SourceGarbled(f"{sent.place}: redirected more than {REDIRECTS_MAX} times")

    async def rest(self) -> None:
        """A poll is over: close what would be stale when the next one comes, so that many at rest hold no sockets."""
        if self._every_s > KEPT_ALIVE_S:
            await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    # --- one request ------------------------------------------------------------------------------------------------

    async def _await_budget(self, sent: _Sent) -> None:
        if self._budget is None:
            return
        until_s = trio.current_time() + self._wait_max_s
        while wait_s := self._budget.take(trio.current_time()):
            if trio.current_time() + wait_s > until_s:
                raise SourceError(f"{sent.place}: the rate budget is used up for {wait_s:.0f} s", retry_after_s=wait_s)
            await trio.sleep(wait_s)

    async def _exchange(self, sent: _Sent, limit_s: float) -> Answer:
        import httpx2

        unsendable = SourceRefused(  # httpx's own text would tell what is in the headers
            f"{sent.place}: the request cannot be sent as it is",
            hint="Check the connector's options, and its secrets for line breaks.",
        )
        if sent.place == http_faults.NO_ADDRESS:
            raise unsendable
        received = False
        try:
            # httpx would put `params` in the place of those that the address has itself.
            url = httpx2.URL(sent.url).copy_merge_params({**sent.params, **sent.auth.params})
            async with self._opened().stream(
                sent.method,
                url,
                headers={**sent.headers, **sent.auth.headers},
                json=sent.json,
                timeout=httpx2.Timeout(limit_s, connect=min(CONNECT_TIMEOUT_S, limit_s)),
            ) as response:
                received = True
                body = await _body(response, sent.place)
                headers = {name.lower(): value for name, value in response.headers.items()}
                date_s = http_faults.http_date_s(headers.get("date"))
                return Answer(response.status_code, headers, body, sent.place, date_s)
        except httpx2.TimeoutException as error:
            what = "accept a connection" if isinstance(error, httpx2.ConnectTimeout) else "answer"
            raise SourceError(f"{sent.place} does not {what} in time") from None
        except (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol, httpx2.InvalidURL, UnicodeError):
            raise unsendable from None
        except (httpx2.TransportError, OSError) as error:
            raise http_faults.of_transport(sent.place, error, received) from None

    def _checked(self, sent: _Sent, answer: Answer) -> Answer:
        """The answer if it is a success; a 429 holds everybody who shares the credential. Raises SourceError."""
        if 200 <= answer.status < 300:
            return answer
        error = http_faults.of_status(
            sent.place, answer.status, answer.headers, answer.body, sent.secrets(), self.now_s()
        )
        if self._budget is not None and (answer.status == 429 or error.retry_after_s is not None):
            self._budget.hold(trio.current_time(), HOLD_S if error.retry_after_s is None else error.retry_after_s)
        raise error

    def _opened(self) -> httpx2.AsyncClient:
        if self._client is None:
            import httpx2

            self._client = httpx2.AsyncClient(
                verify=_authorities(),
                follow_redirects=False,
                limits=httpx2.Limits(
                    max_connections=CONNECTIONS_MAX, max_keepalive_connections=1, keepalive_expiry=KEPT_ALIVE_S
                ),
                headers={
                    "User-Agent": f"runtimed/{VERSION}",
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip, deflate",
                },
            )
        return self._client


class _Sent(msgspec.Struct, frozen=True):
    """A request, to be sent anew where a redirect leads."""

    method: str
    url: str
    params: dict[str, Any]
    headers: dict[str, str]
    json: Any
    auth: Auth

    @property
    def place(self) -> str:
        return http_faults.shown(self.url)

    def secrets(self) -> set[str]:
        """What of it must not be told: all of `auth`, and what looks like a credential elsewhere."""
        values = [*self.auth.headers.values(), *self.auth.params.values(), *self.auth.made_of]
        private = {f"auth {number}": value for number, value in enumerate(values)}
        return http_faults.secrets_in(self.url, self.params, self.headers, private)

    def redirected(self, answer: Answer) -> _Sent:
        """The same request where `answer` says; its address brings its own parameters. Raises SourceRefused for
        another host, which must not get our credentials, and for what is no reading."""
        target = urljoin(self.url, answer.headers.get("location", ""))
        if self.method not in ("GET", "HEAD") or origin(target) != origin(self.url):
            raise SourceRefused(
                f"{self.place} redirects to {http_faults.shown(target)}",
                hint="If that is where it lives now, say so in the connector's options.",
            )
        return msgspec.structs.replace(self, url=target, params={})


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what an address must share to get the same credentials."""
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    return parts.scheme, parts.hostname or "", port


def open_http(spec: ConnectorSpec, budget: Budget | None = None, clock: Clock | None = None) -> SourceHttp:
    """The client for a connector. The wait for its budget and the request together take less than the connector has
    between two pages, so that the error says what was slow."""
    return SourceHttp(
        spec.name,
        budget=budget,
        clock=clock,
        timeout_s=min(TIMEOUT_S, 0.5 * spec.timeout),
        wait_max_s=min(BUDGET_WAIT_MAX_S, 0.4 * spec.timeout),
        every_s=spec.every,
    )


async def _body(response: httpx2.Response, place: str) -> bytes:
    """The body, unpacked, up to the cap. Raises SourceGarbled beyond it and for what cannot be unpacked.

    httpx reads through a chain of generators, and would leave the inner ones to the garbage collector if we stopped in
    the middle. A cancellation runs through all of them: so that is how we stop.
    """
    unpacker = _Unpacker(response.headers.get("content-encoding", "identity"), place)
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            if not unpacker.feed(chunk):
                scope.cancel()
    return unpacker.result()


class _Unpacker:
    """A body as it comes in, gzip or not; what it unpacks to never holds much more than the cap."""

    def __init__(self, encoding: str, place: str) -> None:
        self._place, self._parts, self._size = place, list[bytes](), 0
        self._wrong = ""
        self._zlib = None
        if encoding.strip().lower() in PACKED:
            self._zlib = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # finds out which of both it is
        elif encoding.strip().lower() != "identity":
            self._wrong = f"the answer is packed in a way that nobody asked for, {escape(encoding)[:80]!r}"

    def feed(self, chunk: bytes) -> bool:
        """Take a chunk; False once it is of no use to go on."""
        if not self._wrong:
            try:
                part = chunk
                if self._zlib is not None:
                    part = self._zlib.decompress(chunk, ANSWER_MAX_BYTES + 1 - self._size)
            except zlib.error:
                self._wrong = "the answer cannot be unpacked"
                return False
            self._size += len(part)
            self._parts.append(part)
            if self._size > ANSWER_MAX_BYTES:
                self._wrong = f"the answer is larger than {ANSWER_MAX_BYTES // 1024**2} MiB"
        return not self._wrong

    def result(self) -> bytes:
        """The whole body. Raises SourceGarbled."""
        if not self._wrong and self._zlib is not None and self._size and not self._zlib.eof:
            self._wrong = "the answer was cut off in the middle"
        if self._wrong:
            raise SourceGarbled(f"{self._place}: {self._wrong}")
        return b"".join(self._parts)


@functools.cache
def _authorities() -> ssl.SSLContext:
    """The authorities to trust: SSL_CERT_FILE or SSL_CERT_DIR, else the system's."""
    import httpx2

    return httpx2.create_ssl_context()
