"""Access over TCP: who shows which token may do what, and what everybody else is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.errors import TokenExists, TokenNotFound
from actors.messages import RequestKey
from runtimed import App, Context, open_runtime
from runtimed.http import guesses
from runtimed.http.access import Access, Level
from runtimed.http.app import ROUTES
from runtimed.runtime_calls import UNWRITTEN_S, UnwrittenAnswers
from runtimed.settings import Journal, Levels, Settings
from tests.runtimed.http.conftest import served
from wal.journal import Journal as OpenJournal

SETTINGS = Settings(journal=Journal(ballast_bytes=0))
app = App("guarded")


@app.workflow
async def patient(ctx: Context) -> None:
    """Wait for a signal."""
    await ctx.signal("go")


def bearer(text: str) -> list[tuple[str, str]]:
    """The header of a token."""
    return [("Authorization", f"Bearer {text}")]


# --- the edge alone ---------------------------------------------------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize("level", [Level.VIEWER, Level.OPERATOR, Level.APPROVER, Level.ADMIN])
async def test_each_role_may_what_its_level_may_and_no_more(serve: Any, rt: Any, level: Level) -> None:
    """Every route lets a token's role in from its level on, and refuses with 403 below it, naming what is needed."""
    _, text = rt.new_token("ci", level.name.lower())
    async with serve() as http:
        for route in ROUTES:
            if route.path == "/v1/events":
                continue  # it does not end
            path = route.path.replace("{path:path}", "x").replace("{key:path}", "x").replace("{stream:path}", "x")
            for name in ("id", "name", "scope"):
                path = path.replace("{" + name + "}", "x")
            refused = route.level > level
            if not refused and route.method != "GET":
                continue  # it would ask the runtime, which here only remembers
            answer = await http.ask(route.method, path, tcp=True, headers=bearer(text))
            assert (answer.status == 403) == refused, (route.path, answer)
            assert answer.status != 401
            if refused:
                assert f"token:ci needs the level {route.level.name.lower()}" in answer.json()["detail"]
        assert rt.asked == []


@pytest.mark.trio
@pytest.mark.parametrize("tcp", [True, False])
async def test_who_shows_a_token_is_seen_as_that(serve: Any, rt: Any, tcp: bool) -> None:
    """A token counts as the identity, on the unix socket too, where it lowers what the daemon's own user may."""
    _, text = rt.new_token("ci", "operator")
    async with serve(options={"access": Access({}, {"ops": ["token:ci"], "hr": ["uid:0"]})}) as http:
        await http.ask("POST", "/v1/runs", {"workflow": "w"}, tcp=tcp, headers=bearer(text))
        origin = rt.asked[0].origin
        assert origin.by == "token:ci"
        assert origin.via == "127.0.0.1" if tcp else origin.via
        told = (await http.ask("GET", "/v1/whoami", tcp=tcp, headers=bearer(text))).json()
        assert (told["by"], told["level"], told["roles"]) == ("token:ci", "operator", ["ops"])
        assert (await http.ask("GET", "/v1/tokens", tcp=tcp, headers=bearer(text))).status == 403


@pytest.mark.trio
async def test_settings_may_raise_a_token(serve: Any, rt: Any) -> None:
    """`[access] levels` may give a token more than the role it was made with, never less."""
    _, text = rt.new_token("ci", "operator")
    async with serve(options={"access": Access(Levels(admin=("token:ci",), viewer=("token:ci",)))}) as http:
        assert (await http.ask("GET", "/v1/whoami", tcp=True, headers=bearer(text))).json()["level"] == "admin"
        http.edge.access = Access(Levels(viewer=("token:ci",)))
        assert (await http.ask("GET", "/v1/whoami", tcp=True, headers=bearer(text))).json()["level"] == "operator"


@pytest.mark.trio
@pytest.mark.parametrize("tcp", [True, False])
async def test_a_worthless_token_gets_401_and_the_reason(serve: Any, rt: Any, tcp: bool) -> None:
    """Revoked, expired, unknown and malformed: each a 401 that asks for a token and says what is wrong with this one.
    Nobody falls back to what they are without it."""
    right = rt.new_token("ci", "admin")[1]
    cases = {
        rt.new_token("old", "admin", revoked_at=1)[1]: "revoked",
        rt.new_token("past", "admin", expires_at=rt.now_us)[1]: "expired",
        right[:-1] + ("0" if right[-1] != "0" else "1"): "no such token",
        "rtd_1_2": "no token",
        "": "no token",
        "x" * 5_000: "no token",
    }
    async with serve() as http:
        for text, why in cases.items():
            answer = await http.ask("POST", "/v1/runs", {"workflow": "w"}, tcp=tcp, headers=bearer(text))
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert (answer.json()["code"], why in answer.json()["detail"]) == ("token_refused", True)
        for scheme in ("Basic dXNlcjpwYXNz", "Bearer", "Token " + right, right):
            answer = await http.ask("GET", "/v1/runs", tcp=tcp, headers=[("Authorization", scheme)])
            assert answer.status == 401, scheme
        answer = await http.ask("GET", "/v1/runs", tcp=True)
        assert (answer.status, answer.json()["code"]) == (401, "unauthorised")
        assert (await http.ask("GET", "/v1/runs", tcp=tcp, headers=bearer(right) * 2)).status == 400
        assert (
            await http.ask("GET", "/v1/runs", tcp=tcp, headers=[("Authorization", f"bearer  {right}")])
        ).status == 200
        assert rt.asked == []


@pytest.mark.trio
async def test_probes_do_not_look_at_tokens(serve: Any, rt: Any) -> None:
    """A probe or a scrape with a wrong token is answered as one without."""
    async with serve() as http:
        for path in ("/health", "/health/ready", "/metrics"):
            assert (await http.ask("GET", path, tcp=True, headers=bearer("rtd_x"))).status == 200
        assert len(http.edge.guesses) == 0


@pytest.mark.trio
@pytest.mark.slow
async def test_ten_thousand_guesses_cost_little_and_find_nothing(
    serve: Any, rt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few wrong tokens of an address get 401, the other thousands 429 with `Retry-After`; probes answer beside
    them, health tells people, and the right token of the same address is taken all the while."""
    monkeypatch.setattr(guesses, "REFILL_S", 3_600.0)  # people are told while the budget is spent: so it stays
    row, right = rt.new_token("ci", "viewer")
    statuses: dict[int, int] = {}

    async def guess(http: Any, count: int) -> None:
        client = await http.client(tcp=True)
        request = b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer rtd_%s_%064x\r\n\r\n"
        for number in range(count):
            await client.send(request % (row.id.encode(), number))
            answer = await client.answer()
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert answer.status == 401 or answer.headers["retry-after"] == str(int(guesses.REFILL_S))

    async with serve() as http:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(guess, http, 1_000)
            for _ in range(5):
                assert (await http.ask("GET", "/health", tcp=True)).status == 200
                assert (await http.ask("GET", "/v1/runs", tcp=True, headers=bearer(right))).status == 200
        assert set(statuses) == {401, 429}
        assert statuses[401] == guesses.FAILURES_MAX
        health = (await http.ask("GET", "/health/detail")).json()
        assert (health["status"], health["reasons"]) == (
            "warn", ["127.0.0.1 shows wrong tokens again and again, and is refused"]
        )  # fmt: skip


# --- the real runtime -------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(short_dir: Path) -> Any:
    """`async with guarded() as (http, runtime)`: the real runtime on one data folder behind the real edge."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        async with open_runtime(app, short_dir / "data", settings=SETTINGS, writer="inline") as runtime:
            async with served(runtime, short_dir) as http:
                yield http, runtime

    return opened


@pytest.mark.trio
async def test_a_token_is_shown_once_and_counts_until_it_is_revoked(guarded: Any, short_dir: Path) -> None:
    """Made over HTTP, used over TCP, listed without its secret, counted again after a restart, and worth nothing from
    the answer to its revocation on; the journal and the key file hold nothing of the secret."""
    async with guarded() as (http, _):
        made = await http.ask("POST", "/v1/tokens", {"name": "ci", "role": "operator", "expires_in": 3600})
        assert made.status == 201
        token = made.json()
        assert made.headers["location"] == f"/v1/tokens/{token['id']}"
        assert (token["name"], token["role"], token["status"], token["used_at"]) == ("ci", "operator", "active", None)
        started = await http.ask("POST", "/v1/runs", {"workflow": "patient"}, tcp=True, headers=bearer(token["token"]))
        assert started.status == 201
    async with guarded() as (http, runtime):
        listed = await http.ask("GET", "/v1/tokens")
        assert token["token"].encode() not in listed.body
        (row,) = listed.json()["items"]
        assert row["used_at"] is not None  # it was told when the daemon stopped
        assert {**row, "used_at": None} == {name: value for name, value in token.items() if name != "token"}
        client = await http.client(tcp=True)
        assert (await client.ask("GET", "/v1/runs", headers=bearer(token["token"]))).status == 200
        answer = await http.ask("POST", f"/v1/tokens/{token['id']}/revoke", {"reason": "leaked"})
        assert answer.status == 202
        assert (await client.ask("GET", "/v1/runs", headers=bearer(token["token"]))).status == 401
        assert (await http.ask("POST", f"/v1/tokens/{token['id']}/revoke", {})).status == 202
        told = [(one.action, one.by, one.target, one.reason) for one in await _audit(runtime)]
        assert told[0][:3:2] == ("token.create", token["id"])
        assert told[1][:2] == ("run.start", "token:ci")
        assert told[2][::2] == ("token.revoke", token["id"]) and told[2][3] == "leaked"
        assert len(told) == 3
    secret = token["token"].rpartition("_")[2].encode()
    for file in (short_dir / "data").iterdir():
        assert secret not in file.read_bytes(), file


async def _audit(runtime: Any) -> list[Any]:
    page = await runtime.read(lambda reader: reader.audit_page(limit=500))
    return list(page.items)


@pytest.mark.trio
async def test_a_name_stands_for_one_token_at_a_time(guarded: Any) -> None:
    """While a token counts its name is taken, also by one that is being made; afterwards it is free, and the name
    revokes the one that counts."""
    async with guarded() as (http, runtime):
        outcomes: list[Any] = []

        async def create() -> None:
            try:
                outcomes.append(await runtime.create_token("ci", "viewer"))
            except TokenExists as error:
                outcomes.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(create)
        assert sum(isinstance(each, tuple) for each in outcomes) == 1
        assert (await http.ask("POST", "/v1/tokens", {"name": "ci", "role": "viewer"})).status == 409
        await runtime.revoke_token("ci")
        second, _ = await runtime.create_token("ci", "viewer")
        await runtime.revoke_token("ci")
        assert [row.revoked_at is not None for row in runtime.list_tokens()] == [True, True]
        assert second.id == runtime.list_tokens()[1].id
        with pytest.raises(TokenNotFound):
            await runtime.revoke_token("ci")


@pytest.mark.trio
async def test_a_lost_answer_is_given_again_for_a_while(guarded: Any, short_dir: Path, monkeypatch: Any) -> None:
    """The repeat under its key gives the token again and makes none, and the key stands for that request alone; it is
    kept in memory, and not for long."""
    wanted, keyed = {"name": "ci", "role": "viewer"}, [("Idempotency-Key", "k")]
    async with guarded() as (http, runtime):
        first = await http.ask("POST", "/v1/tokens", wanted, headers=keyed)
        again = await http.ask("POST", "/v1/tokens", wanted, headers=keyed)
        assert (first.status, again.status, again.body) == (201, 201, first.body)
        assert again.headers["location"] == first.headers["location"]
        assert len(runtime.list_tokens()) == 1
        other = await http.ask("POST", "/v1/tokens", {**wanted, "name": "cd"}, headers=keyed)
        assert (other.status, other.json()["code"]) == (422, "idempotency_key_reused")
        monkeypatch.setattr(trio, "current_time", lambda kept=trio.current_time: kept() + UNWRITTEN_S)
        assert (await http.ask("POST", "/v1/tokens", wanted, headers=keyed)).json()["code"] == "token_exists"
        assert await runtime.read(lambda reader: reader.answer("uid:0", "k")) is None


@pytest.mark.trio
async def test_a_late_repeat_of_a_rotation_rotates_nothing(guarded: Any) -> None:
    """Turned to B, then to C: the repeat of the first has its first answer, and C is the value still."""
    async with guarded() as (http, runtime):
        await http.ask("PUT", "/v1/secrets/pay", {"value": "A"})
        to_b = await http.ask("POST", "/v1/secrets/pay/rotate", {"value": "B"}, headers=[("Idempotency-Key", "b")])
        await http.ask("POST", "/v1/secrets/pay/rotate", {"value": "C"}, headers=[("Idempotency-Key", "c")])
        again = await http.ask("POST", "/v1/secrets/pay/rotate", {"value": "B"}, headers=[("Idempotency-Key", "b")])
        assert (again.status, again.body) == (200, to_b.body)
        assert runtime.secret("pay") == "C"
        turned = [
            await http.ask("POST", "/v1/master-key/rotate", {}, headers=[("Idempotency-Key", "m")]) for _ in range(2)
        ]
        assert turned[0].status == 200
        assert turned[0].body == turned[1].body


def test_not_very_many_answers_are_kept_in_memory() -> None:
    """The oldest goes where there are more than a hundred."""
    kept = UnwrittenAnswers()

    async def fill() -> list[Any]:
        requests = [RequestKey(principal="uid:0", key=f"k{number}", digest="d") for number in range(101)]
        for request in requests:
            kept.keep(request, request)
        return [kept.find(requests[0]), kept.find(requests[1]), kept.find(requests[100])]

    oldest, second, newest = trio.run(fill)
    assert oldest is None
    assert (second.key, newest.key) == ("k1", "k100")


@pytest.mark.trio
@pytest.mark.parametrize(
    "body",
    [
        {"role": "viewer"},
        {"name": "a b", "role": "viewer"},
        {"name": "a\n", "role": "viewer"},
        {"name": "x" * 65, "role": "viewer"},
        {"name": "a", "role": "root"},
        {"name": "a", "role": "viewer", "expires_in": 0},
        {"name": "a", "role": "viewer", "expires_in": 1e12},
        {"name": "a", "role": "viewer", "token": "mine"},
    ],
)
async def test_bad_wishes_make_no_token(guarded: Any, body: Any) -> None:
    """What is not a name, a role or a time is 400, and there is no token and no record."""
    async with guarded() as (http, runtime):
        assert (await http.ask("POST", "/v1/tokens", body)).status == 400
        assert runtime.list_tokens() == []
        assert await _audit(runtime) == []


@pytest.mark.trio
async def test_a_lost_or_open_key_voids_all_tokens_and_says_so(guarded: Any, short_dir: Path) -> None:
    """Without its key, or with one that others can read, no token counts; the daemon starts all the same, and says in
    a sentence why. A token that is made then does not replace a key that lies open."""
    key = short_dir / "data" / "token.key"
    async with guarded() as (_, runtime):
        _, text = await runtime.create_token("ci", "viewer")
    whole = key.read_bytes()
    for spoil, why in ((lambda: key.chmod(0o644), "open to others"), (key.unlink, "is gone")):
        spoil()
        async with guarded() as (http, runtime):
            assert (await http.ask("GET", "/v1/runs", tcp=True, headers=bearer(text))).status == 401
            (reason,) = [one for one in runtime.health().reasons if "no token counts" in one]
            assert why in reason
            assert (await http.ask("GET", "/health/ready")).status == 200
            if key.exists():
                assert (await http.ask("POST", "/v1/tokens", {"name": "b", "role": "viewer"})).status == 503
    key.write_bytes(whole)
    key.chmod(0o600)
    async with guarded() as (http, runtime):
        assert (await http.ask("GET", "/v1/runs", tcp=True, headers=bearer(text))).status == 200
        assert not [one for one in runtime.health().reasons if "token" in one]


@pytest.mark.trio
async def test_uses_are_recorded_together_and_seldom(guarded: Any, short_dir: Path) -> None:
    """However often tokens are used, the journal hears of it at most once a minute, and once more at the end."""
    async with guarded() as (http, runtime):
        texts = [(await runtime.create_token(f"t{number}", "viewer"))[1] for number in range(3)]
        for _ in range(5):
            for text in texts:
                assert (await http.ask("GET", "/v1/whoami", tcp=True, headers=bearer(text))).status == 200
        for _ in range(100):
            runtime.tokens.note_used()
    with OpenJournal.open(short_dir / "data" / "journal.db") as journal:
        events = [one.kind for one in journal.reader().events(0)]
    assert events.count("tokens_used") <= 2
