"""The client that polls are given, against a real server that misbehaves."""

from __future__ import annotations

import gzip
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.connectors import http, http_faults
from runtimed.connectors.http import Auth, SourceHttp
from runtimed.connectors.http_faults import SourceLacks
from tests.runtimed.connectors.mock_source import (
    DRIP,
    HALF_JSON,
    HTML,
    RESET,
    TRUNCATE,
    Asked,
    MockSource,
    NoNames,
    Reply,
    json_reply,
    serving,
)
from tests.runtimed.connectors.taking import NOW_S, PATIENCE_S, FixedClock

SECRET = "s3cr3t-of-nobody"


class Held:
    """A budget that is always free, and notes how long it was told to hold."""

    def __init__(self, waits: list[float] | None = None) -> None:
        self.waits, self.holds, self.takes = waits or [], [], 0  # type: list[float], list[float], int

    def take(self, now: float) -> float:
        self.takes += 1
        return self.waits.pop(0) if self.waits else 0.0

    def hold(self, now: float, seconds: float) -> None:
        self.holds.append(seconds)


async def failure(client: SourceHttp, url: str, **more: Any) -> SourceError:
    """What a request raises; it never tells what must not be told."""
    with pytest.raises(SourceError) as caught:
        await client.request("GET", url, params={"page": 1}, auth=Auth({"X-Key": SECRET}, {"api_key": SECRET}), **more)
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.trio
@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (Reply(b"", 500), SourceError, "/x answers 500 Internal Server Error"),
        (Reply(b"", 599), SourceError, "/x answers 599"),
        (json_reply({"error": {"message": f"no {SECRET}\n here"}}, 400), SourceRefused, r"Bad Request: no \*\*\* here"),
        (json_reply({"message": "\x1b[2J"}, 403), SourceRefused, r"403 Forbidden: \\x1b\[2J"),
        (Reply(b"plain words", 404, {"Content-Type": "text/plain"}), SourceRefused, "Not Found: plain words"),
        (Reply(b'{"message"', 422, {"Content-Type": "application/json"}), SourceRefused, "422 Unprocessable Entity$"),
        (RESET, SourceError, "/x: the connection fails"),
        (TRUNCATE, SourceGarbled, "/x: the answer was cut off in the middle"),
        (DRIP, SourceError, "/x does not answer whole within 0.2 s"),
        (Reply(b"no gzip", 200, {"Content-Encoding": "gzip"}), SourceGarbled, "cannot be unpacked"),
        (
            Reply(b"", 302, {"Location": "http://elsewhere.invalid/x?token=1"}),
            SourceRefused,
            "redirects to http://elsew",
        ),
        (Reply(b"", 302, {"Location": "//localhost/x"}), SourceRefused, "redirects to http://localhost/x"),
        (Reply(b"", 301), SourceGarbled, "redirected more than 5 times"),
    ],
)
async def test_each_failure_has_its_error(reply: Reply, kind: type[SourceError], said: str) -> None:
    """What a source does wrong becomes one error with one clear sentence, and no credential in it."""
    async with serving(MockSource(lambda asked: reply)) as source:
        client = SourceHttp("s", timeout_s=0.2 if reply is DRIP else PATIENCE_S)
        error = await failure(client, f"{source.url}/x")
        await client.aclose()
        assert type(error) is (SourceLacks if reply.status in (400, 404) else kind)
        assert error.retry_after_s is None
        with pytest.raises(kind, match=said):
            raise error


@pytest.mark.trio
@pytest.mark.parametrize(("reply", "said"), [(HALF_JSON, "application/json"), (HTML, "text/html"), (Reply(b""), "")])
async def test_what_is_no_json_is_garbled(reply: Reply, said: str) -> None:
    """Truncated JSON, a web page, nothing: none of it is taken for an answer."""
    async with serving(MockSource(lambda asked: reply)) as source:
        client = SourceHttp("s")
        with pytest.raises(SourceGarbled, match=f"does not answer with whole JSON .*{said}"):
            await client.get_json(f"{source.url}/x")
        await client.aclose()


@pytest.mark.trio
async def test_a_nest_too_deep_is_garbled() -> None:
    """JSON that is nested without end is refused like any other that cannot be meant."""
    async with serving(MockSource(lambda asked: Reply(b"[" * 100_000))) as source:
        client = SourceHttp("s")
        with pytest.raises(SourceGarbled, match="whole JSON"):
            await client.get_json(f"{source.url}/x")
        await client.aclose()


@pytest.mark.slow
@pytest.mark.trio
async def test_an_answer_over_the_cap_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap counts what an answer unpacks to, and ends it where it is passed."""
    monkeypatch.setattr(http, "ANSWER_MAX_BYTES", 1024**2)
    plain = b" " * 1024**2 * 8 + b"1"
    packed = {"Content-Encoding": "gzip"}
    for reply in (Reply(plain), Reply(gzip.compress(plain), headers=packed)):
        async with serving(MockSource(lambda asked, reply=reply: reply)) as source:  # type: ignore[misc]
            client = SourceHttp("s")
            with pytest.raises(SourceGarbled, match="larger than 1 MiB"):
                await client.get_json(f"{source.url}/x")
            assert await _small(client, source) == 1
            await client.aclose()


async def _small(client: SourceHttp, source: MockSource) -> int:
    """The client can be used after an answer that it did not read to its end."""
    for headers in ({}, {"Content-Encoding": "gzip"}):
        source.fail(Reply(gzip.compress(b"1") if headers else b"1", headers=headers))
        assert await client.get_json(f"{source.url}/x") == 1
    return 1


@pytest.mark.trio
async def test_names_addresses_and_ports_that_are_not_there() -> None:
    """A name that does not resolve, a port that nobody listens on and an address that is none are told apart."""
    trio.socket.set_custom_hostname_resolver(NoNames())
    client = SourceHttp("s")
    assert "the name does not resolve" in str(await failure(client, "http://nothing.invalid/x"))
    assert "(Connection refused)" in str(await failure(client, "http://127.0.0.1:1/x"))
    for address in ("ftp://127.0.0.1/x", "http://127.0.0.1:99999/x", "http://[::1/x"):
        assert "cannot be sent" in str(await failure(client, address))
    async with serving(MockSource(lambda asked: Reply())) as source:
        assert "cannot be sent" in str(await failure(client, source.url, headers={"X-A": f"{SECRET}\nB: c"}))
        await client.aclose()


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate that nobody signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


@pytest.mark.trio
async def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    """TLS that cannot be trusted fails with its reason, and nothing is sent."""
    async with serving(MockSource(lambda asked: Reply()), tls=self_signed(tmp_path)) as source:
        client = SourceHttp("s")
        assert "TLS fails: self-signed certificate" in str(await failure(client, f"{source.url}/x"))
        await client.aclose()
        assert source.asked == []
    async with serving(MockSource(lambda asked: Reply())) as source:
        client = SourceHttp("s")
        assert "TLS fails" in str(await failure(client, source.url.replace("http:", "https:")))
        await client.aclose()


@pytest.mark.trio
async def test_a_429_holds_everybody_with_the_credential() -> None:
    """Retry-After, in seconds or as a date by the source's own clock, is told to the poll and to the budget."""
    date = format_datetime(datetime.fromtimestamp(NOW_S + 90, UTC), usegmt=True)
    now = format_datetime(datetime.fromtimestamp(NOW_S + 60, UTC), usegmt=True)
    replies = [
        Reply(b"", 429, {"Retry-After": "7"}),
        Reply(b"", 503, {"Retry-After": date}),
        Reply(b"", 429, {"Retry-After": date, "Date": now}),
        Reply(b"", 429, {"Retry-After": "9999999"}),
        Reply(b"", 429, {"Retry-After": "-3"}),
        Reply(b"", 503),
    ]
    budget = Held()
    async with serving(MockSource(lambda asked: Reply())) as source:
        source.fail(*replies)
        client = SourceHttp("s", budget=budget, clock=FixedClock())
        told = [(await failure(client, f"{source.url}/x")).retry_after_s for _ in replies]
        await client.aclose()
    assert told == [7.0, 90.0, 30.0, 86_400.0, None, None]
    assert budget.holds == [7.0, 90.0, 30.0, 86_400.0, http.HOLD_S]


@pytest.mark.trio
async def test_a_budget_is_awaited_and_not_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    """A request waits for its place; where that takes longer than a poll may wait, the poll ends and says when."""
    nowhere = "http://127.0.0.1:99999/"  # a real socket has no part here: this clock would not wait for it
    client = SourceHttp("s", budget=(budget := Held([3.0, 2.0])), wait_max_s=10.0)
    with pytest.raises(SourceError, match="cannot be sent"):
        await client.get_json(nowhere)
    assert (trio.current_time(), budget.takes) == (5.0, 3)
    client = SourceHttp("s", budget=Held([8.0, 8.0]), wait_max_s=10.0)
    with pytest.raises(SourceError, match="the rate budget is used up") as caught:
        await client.get_json(nowhere)
    assert (trio.current_time(), caught.value.retry_after_s) == (13.0, 8.0)


@pytest.mark.trio
async def test_a_request_is_what_was_asked_for() -> None:
    """Method, parameters, headers and body arrive; one host's redirect is followed with its own parameters; the
    connection is used again."""

    def answer(asked: Asked) -> Reply:
        if asked.path == "/old":
            return Reply(b"", 307, {"Location": "/new?page=2"})
        return json_reply({"path": asked.path, "query": asked.query, "body": asked.body.decode()}, X_Total="9")

    async with serving(MockSource(answer)) as source:
        source.now_s = NOW_S
        client = SourceHttp("s")
        got = await client.request("POST", f"{source.url}/a", params={"q": "ä&b"}, json={"n": 1}, headers={"X-A": "1"})
        assert (got.json(), got.headers["x-total"]) == ({"path": "/a", "query": {"q": "ä&b"}, "body": '{"n":1}'}, "9")
        assert (got.date_s, got.place) == (NOW_S, f"{source.url}/a")
        moved = await client.get_json(f"{source.url}/old", params={"page": 1}, auth=Auth({"Authorization": "Bearer t"}))
        assert moved == {"path": "/new", "query": {"page": "2"}, "body": ""}
        with pytest.raises(SourceRefused, match="redirects"):
            await client.request("POST", f"{source.url}/old", json={})
        await client.aclose()
        assert (await client.get(f"{source.url}/again")).status == 200
        assert (await client.post(f"{source.url}/again", json=[1])).json()["body"] == "[1]"
        await client.aclose()
    assert {asked.headers["authorization"] for asked in source.asked if asked.path == "/new"} == {"Bearer t"}
    assert source.asked[0].headers["user-agent"].startswith("runtimed/")
    assert source.asked[0].headers["x-a"] == "1"


def test_what_an_error_shows_of_an_address() -> None:
    """User, password, query and fragment of an address are never shown."""
    assert http_faults.shown("https://u:p@api.example.com:8443/v1/x?key=k#f") == "https://api.example.com:8443/v1/x"
    assert http_faults.shown("http://[::1") == "an address that is none"


@pytest.mark.slow
def test_a_process_without_http_loads_no_client() -> None:
    """httpx2 is loaded by the first request, not by a connector that is declared."""
    code = (
        "import sys; from runtimed.connectors import http, http_json, stripe, hubspot;"
        "http.SourceHttp('s'); print('httpx2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
