"""JSON APIs by configuration, over HTTP from a server that pages in every way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.config_layers import ConfigError
from runtimed.connectors import http_json
from tests.runtimed.connectors.mock_source import (
    HALF_JSON,
    Asked,
    MockSource,
    Reply,
    json_reply,
    serving,
)
from tests.runtimed.connectors.taking import NOW_S, FixedClock, settings, taking

TOKEN = "t0k3n-of-nobody"


class Paged(MockSource):
    """Records `{"id", "at"}`, filtered by `since` inclusively, paged as `how` says, three a page."""

    def __init__(self, how: str | None, count: int = 0, size: int = 3) -> None:
        super().__init__(self.reply)
        self.how, self.size = how, size
        self.records = [record(number) for number in range(count)]

    def reply(self, asked: Asked) -> Reply:
        told = dict(asked.query) if asked.method == "GET" else asked.json()
        since = told.get("since")
        rows = [one for one in self.records if since is None or int(one["at"]) >= int(since)]
        size = len(rows) or 1 if self.how is None else int(told.get("limit", self.size))
        token = told.get("pageToken") if self.how in ("token", "header") else None
        first = int(told.get("offset") or token or 0)
        if self.how == "page":
            first = (int(told.get("page", 1)) - 1) * size
        page, after = rows[first : first + size], first + size
        more = after < len(rows)
        body: dict[str, Any] = {"data": {"items": page}}
        query = f"pageToken={after}" + (f"&since={since}" if since else "")
        if self.how == "header" and more:
            link = f'<{self.url}/x?prev>; rel="prev", </x?{query}>; rel="next"'
            return json_reply(body, Link=link)
        if self.how == "token":
            body["meta"] = {"nextPageToken": str(after) if more else ""}
        return json_reply(body)


def record(number: int, at: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": f"k{number}", "at": number if at is None else at, **more}


def spec(source: MockSource, how: str | None = None, **options: Any) -> Any:
    nexts = {"header": "link", None: None}.get(how, how)
    wanted: dict[str, Any] = {"url": f"{source.url}/x", "records_path": "data.items"}
    wanted |= {"next": nexts} if nexts else {}
    wanted |= {"next_path": "meta.nextPageToken"} if how == "token" else {}
    wanted |= {"page_size": 3} if how in ("offset", "page") else {}
    return http_json.make("api", settings("http_json", "records", "id", **wanted | options))


CURSOR = {"cursor_field": "at", "cursor_param": "since"}


@pytest.mark.trio
@pytest.mark.parametrize("how", [None, "header", "token", "offset", "page"])
@pytest.mark.parametrize("count", [0, 1, 3, 10])
async def test_every_way_of_paging(how: str | None, count: int) -> None:
    """Links in a header, tokens, offsets, page numbers or no pages at all: each record comes once, the cursor is the
    largest value, and the next poll asks from there on and brings only what is new."""
    async with serving(Paged(how, count)) as source, taking(spec(source, how, **CURSOR)) as taken:
        await taken.poll()
        assert set(taken.rows) == {f"k{number}" for number in range(count)}
        assert sum(len(page.records) for page in taken.pages) == count
        assert taken.cursor == (count - 1 if count else None)
        source.records += [record(100, at=max(0, count - 1)), record(101, at=count + 5)]
        assert await taken.poll() >= 2
        assert len(taken.rows) == count + 2
        rows, before = dict(taken.rows), len(taken.pages)
        assert await taken.poll() == 1 and taken.rows == rows
        assert all(page.cursor is None for page in taken.pages[before:])
        assert source.asked[-1].query["since"] == str(count + 5)


@pytest.mark.trio
@pytest.mark.parametrize("how", ["offset", "page"])
async def test_a_source_that_gives_less_than_is_asked_for(how: str) -> None:
    """A source with a smaller page than `page_size` is read whole all the same. Once it has shown how much it gives,
    a smaller page is the last one, and at rest there is one request a poll."""
    async with serving(Paged(how, 10, size=4)) as source:
        options = {"page_size": 100, "size_param": "wish", **CURSOR}
        async with taking(spec(source, how, **options)) as taken:
            await taken.poll()
            assert len(taken.rows) == 10 and taken.cursor == 9
            assert [asked.query["wish"] for asked in source.asked] == ["100"] * 3
            source.records.append(record(20, at=30))
            await taken.poll()
            assert len(taken.rows) == 11 and len(source.asked) == 4


@pytest.mark.trio
async def test_links_in_the_body() -> None:
    """A next link may stand in the answer, relative to the page it is on."""
    async with serving(Paged("header", 10)) as source:
        source.fail(lambda asked: json_reply({"data": {"items": [record(50)]}, "next": "/x?pageToken=7"}))
        async with taking(spec(source, next="link", next_path="next")) as taken:
            await taken.poll()
            assert set(taken.rows) == {"k50", "k7", "k8", "k9"}


@pytest.mark.trio
async def test_the_cursor_moves_with_the_end_of_the_poll_only() -> None:
    """Pages may come in any order: until the last of them is taken the cursor stays, and a broken poll begins again."""
    async with serving(Paged("offset")) as source, taking(spec(source, "offset", **CURSOR)) as taken:
        source.records = [record(number, at=at) for number, at in enumerate([9, 8, 7, 3, 2, 1, 4])]
        await taken.poll(pages_max=2)
        assert taken.cursor is None and len(taken.rows) == 6
        await taken.poll()
        assert taken.cursor == 9 and len(taken.rows) == 7


@pytest.mark.trio
async def test_an_ascending_source_moves_the_cursor_page_by_page() -> None:
    """With order = "ascending" a broken poll goes on from its last page, and a value that goes back is refused."""
    async with serving(Paged("offset", 9)) as source:
        async with taking(spec(source, "offset", order="ascending", **CURSOR)) as taken:
            await taken.poll(pages_max=2)
            assert taken.cursor == 5
            await taken.poll()
            assert taken.cursor == 8 and len(taken.rows) == 9
            source.records += [record(20, at=30), record(21, at=29)]
            with pytest.raises(SourceGarbled, match="the cursor goes back, from 30 to 29"):
                await taken.poll()
            assert taken.cursor == 8


@pytest.mark.trio
async def test_same_values_across_pages_and_while_paging() -> None:
    """Records that share the cursor's value, on both sides of a page's border or added in the middle, all come."""
    async with serving(Paged("offset")) as source, taking(spec(source, "offset", **CURSOR)) as taken:
        source.records = [record(number, at=7) for number in range(8)]
        source.before = lambda asked: source.records.append(record(len(source.records), at=7))
        await taken.poll()
        source.before = lambda asked: None
        source.records += [record(90, at=7), record(91, at=8)]
        await taken.poll()
        assert set(taken.rows) == {one["id"] for one in source.records}


@pytest.mark.trio
@pytest.mark.parametrize(("ours_s", "theirs_s"), [(0, 86_400), (86_400, 0), (0, None)])
async def test_instants_from_the_future_do_not_move_the_cursor(ours_s: int, theirs_s: int | None) -> None:
    """A record dated tomorrow is taken, but the cursor waits for the earlier of both clocks: nothing is passed over."""

    def iso(seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")

    async with serving(Paged(None)) as source:
        source.now_s = None if theirs_s is None else NOW_S + theirs_s
        asked: list[str | None] = []

        def reply(request: Asked) -> Reply:
            since = request.query.get("since")
            asked.append(since)
            rows = [one for one in source.records if since is None or one["at"] >= since]
            return json_reply({"data": {"items": rows}})

        source.answer = reply
        source.records = [record(1, at=iso(NOW_S - 100)), record(2, at=iso(NOW_S + 40_000))]
        async with taking(spec(source, **CURSOR), clock=FixedClock(NOW_S + ours_s)) as taken:
            await taken.poll()
            assert taken.cursor == iso(NOW_S - 100)
            source.records.append(record(3, at=iso(NOW_S - 50)))
            await taken.poll()
            assert set(taken.rows) == {"k1", "k2", "k3"}
            assert asked == [None, iso(NOW_S - 100)]


def page(*numbers: int, **more: Any) -> Reply:
    return json_reply({"data": {"items": [record(number) for number in numbers]}, **more})


SAME = {"nextPageToken": "a"}
AWAY = "<http://elsewhere.invalid/?k=v>; rel=next"
MIXED = {"data": {"items": [record(1, at=1), record(2, at="x")]}}


@pytest.mark.parametrize(
    ("how", "faults", "options", "kind", "said"),
    [
        ("token", [page(1, meta=SAME), page(2, meta=SAME)], {}, SourceGarbled, "a page repeats: the next one was"),
        ("offset", [page(1, 2, 3), page(1, 2, 3)], {}, SourceGarbled, "a page repeats: this one"),
        ("header", [json_reply({"data": {"items": []}}, Link=AWAY)], {}, SourceGarbled, r"http://elsewhere\.invalid/$"),
        ("token", [page(1, meta={"nextPageToken": ["a"]})], {}, SourceGarbled, "what leads to the next page is list"),
        (None, [json_reply({"data": {}})], {}, SourceGarbled, "there is nothing at records_path 'data.items'"),
        (None, [json_reply({"data": {"items": {"id": 1}}})], {}, SourceGarbled, "there is dict at"),
        (None, [json_reply({})], {"records_path": ""}, SourceGarbled, "there is dict at its root"),
        (None, [page(1, 2)], {"cursor_field": "updated"}, SourceGarbled, "no record has the cursor field 'updated'"),
        (None, [json_reply(MIXED)], CURSOR, SourceGarbled, "do not compare: text and number"),
        (None, [HALF_JSON], {}, SourceGarbled, "whole JSON"),
        (None, [Reply(b"", 500)], {}, SourceError, "500 Internal Server Error"),
        (None, [Reply(b"", 402)], {}, SourceRefused, "402 Payment Required"),
    ],
)
@pytest.mark.trio
async def test_what_a_source_does_wrong(
    how: str | None, faults: list[Reply], options: dict[str, Any], kind: type[SourceError], said: str
) -> None:
    """Pages that repeat, links that lead away, answers of another shape: each is one clear error, and the cursor stays;
    the next poll, when all is well again, brings everything."""
    async with serving(Paged(how, 10)) as source, taking(spec(source, how, **options)) as taken:
        source.fail(*faults)
        with pytest.raises(kind, match=said) as caught:
            await taken.poll()
        assert type(caught.value) is kind and taken.cursor is None
        if not options:
            await taken.poll()
            assert {f"k{number}" for number in range(10)} <= set(taken.rows)


@pytest.mark.trio
async def test_a_cursor_that_goes_back_is_garbled() -> None:
    """A source that was asked from a value on, and has only older ones, is not believed."""
    async with serving(Paged(None, 5)) as source, taking(spec(source, **CURSOR)) as taken:
        await taken.poll()
        source.fail(page(1, 2))
        with pytest.raises(SourceGarbled, match="the cursor goes back: asked from 4, the newest is 2"):
            await taken.poll()
        assert taken.cursor == 4
        await taken.poll()


@pytest.mark.trio
async def test_an_endless_source_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that always has a next page is left after so many."""
    monkeypatch.setattr(http_json, "PAGES_MAX", 5)

    def endless(asked: Asked) -> Reply:
        return page(len(source.asked), meta={"nextPageToken": str(len(source.asked))})

    async with serving(MockSource(endless)) as source, taking(spec(source, "token")) as taken:
        with pytest.raises(SourceGarbled, match="more than 5 pages"):
            await taken.poll()


BASIC = "Basic dTp0MGszbi1vZi1ub2JvZHk="


@pytest.mark.trio
@pytest.mark.parametrize(
    ("auth", "check"),
    [
        ({"type": "bearer", "token": "secret:x"}, lambda asked: asked.headers["authorization"] == f"Bearer {TOKEN}"),
        ("secret:x", lambda asked: asked.headers["authorization"] == f"Bearer {TOKEN}"),
        ({"type": "basic", "username": "u", "password": "secret:x"}, lambda a: a.headers["authorization"] == BASIC),
        ({"type": "header", "name": "X-Key", "value": "secret:x"}, lambda asked: asked.headers["x-key"] == TOKEN),
        ({"type": "query", "name": "key", "value": "secret:x"}, lambda asked: asked.query["key"] == TOKEN),
    ],
)
async def test_every_way_of_saying_who_we_are(auth: dict[str, str] | str, check: Callable[[Asked], bool]) -> None:
    """The credential goes with each page, and into no error, whatever the source repeats of it."""
    async with serving(Paged("header", 7)) as source, taking(spec(source, "header", auth=auth), x=TOKEN) as taken:
        await taken.poll()
        assert len(source.asked) == 3 and all(check(asked) for asked in source.asked)
        source.fail(lambda asked: json_reply({"message": f"bad {TOKEN} {asked.headers.get('authorization')}"}, 401))
        with pytest.raises(SourceRefused, match=r"bad \*\*\*") as caught:
            await taken.poll()
        assert TOKEN not in str(caught.value) and "dTp0" not in str(caught.value)


@pytest.mark.trio
async def test_posted_parameters_headers_and_null_lists() -> None:
    """With POST the parameters are the JSON body; a header may be a secret; null is an empty list."""
    async with serving(Paged("offset", 4)) as source:
        options = {"method": "POST", "params": {"kind": "a", "deep": True}, "headers": {"X-Team": "secret:x"}, **CURSOR}
        async with taking(spec(source, "offset", **options), x=TOKEN) as taken:
            await taken.poll()
            assert len(taken.rows) == 4
            assert source.asked[1].json() == {"kind": "a", "deep": True, "limit": 3, "offset": 3}
            assert source.asked[0].headers["x-team"] == TOKEN and source.asked[0].query == {}
            source.fail(json_reply({"data": {"items": None}}))
            assert await taken.poll() == 0


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("next_page_token", "page_token"),
        ("a.nextPageToken", "pageToken"),
        ("paging.next.after", "after"),
        ("next", "next"),
    ],
)
def test_a_token_is_named_as_where_it_stands(path: str, param: str) -> None:
    """The parameter of a token is the last part of its path without the `next`, unless next_param says otherwise."""
    options = http_json.HttpJson(url="http://localhost/", next="token", next_path=path)
    assert http_json.next_param(options) == param
    assert http_json.next_param(http_json.HttpJson(url="http://localhost/", next="page", next_param="p")) == "p"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://x/"}, r"connectors\.api\.options\.url"),
        ({}, r"options\.url: it is needed"),
        ({"url": "http://localhost/", "next": "token"}, r"options\.next_path: it is needed"),
        ({"url": "http://localhost/", "cursor_param": "since"}, r"options\.cursor_field: it is needed"),
        ({"url": "http://localhost/", "order": "ascending"}, r"options\.cursor_field: it is needed"),
        ({"url": "http://localhost/", "method": "POST", "next": "link"}, r"options\.next: a link is read with GET"),
        ({"url": "http://localhost/", "auth": {"type": "magic"}}, r"options\.auth"),
        ({"url": "http://localhost/", "auth": {"type": "bearer", "tokn": "x"}}, r"options\.auth\.tok"),
        ({"url": "http://localhost/", "page_size": 0}, r"options\.page_size"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], message: str) -> None:
    """A wrong option stops the start, exit code 78, and says which one and what was expected."""
    with pytest.raises(ConfigError, match=message) as caught:
        http_json.make("api", settings("http_json", "records", "id", **options))
    assert caught.value.exit_code == 78


def test_a_key_is_needed() -> None:
    """Without the field that tells two records apart nothing could be delivered once only."""
    with pytest.raises(ConfigError, match=r"connectors\.api\.key: it is needed"):
        http_json.make("api", settings("http_json", url="http://localhost/"))


def test_rate_and_timeout_may_stand_among_the_options() -> None:
    """`rate`, `rate_period` and `timeout` of the options count before those of the table."""
    options = {"url": "http://localhost/", "rate": 3, "rate_period": 60, "timeout": 90}
    made = http_json.make(
        "api", settings("http_json", "records", "id", **options, auth={"type": "bearer", "token": "secret:a"})
    )
    assert (made.rate, made.rate_period, made.timeout, made.credential) == (3, 60.0, 180.0, "secret:a")
