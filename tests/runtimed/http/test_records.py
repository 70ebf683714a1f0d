"""The record store over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from wal.records import RecordsStored, StoredItem


def stored(key: str, data: bytes = b"{}", *, deleted: bool = False) -> StoredItem:
    """A record of a source."""
    return StoredItem(key, Raw(data), deleted)


@pytest.mark.trio
async def test_streams_are_listed(serve: Any, rt: Any) -> None:
    """By name, with how many records each holds; none is an empty list."""
    async with serve() as http:
        assert (await http.ask("GET", "/v1/records")).json()["items"] == []
        rt.record(RecordsStored("people", [stored("1"), stored("2")]), RecordsStored("bills", [stored("1")]))
        page = (await http.ask("GET", "/v1/records")).json()
    assert page["items"] == [{"name": "bills", "records": 1}, {"name": "people", "records": 2}]


@pytest.mark.trio
async def test_records_are_read_page_by_page(serve: Any, rt: Any) -> None:
    """In the order of their changes; `next` goes on where the page ended; a change comes again, later."""
    rt.record(RecordsStored("people", [stored(str(n), b'{"n":%d}' % n) for n in range(5)]))
    async with serve() as http:
        page = (await http.ask("GET", "/v1/records/people?limit=3")).json()
        assert [item["key"] for item in page["items"]] == ["0", "1", "2"]
        assert set(page["items"][0]) == {"seq", "key", "at", "deleted", "data"}
        assert (page["items"][1]["data"], page["items"][1]["deleted"]) == ({"n": 1}, False)
        rest = (await http.ask("GET", f"/v1/records/people?after={page['next']}")).json()
        assert ([item["key"] for item in rest["items"]], rest["next"]) == (["3", "4"], None)
        rt.record(RecordsStored("people", [stored("0", deleted=True)]))
        later = (await http.ask("GET", f"/v1/records/people?after={rest['items'][-1]['seq']}")).json()
        assert [(item["key"], item["deleted"]) for item in later["items"]] == [("0", True)]


@pytest.mark.trio
async def test_a_stream_may_have_any_name(serve: Any, rt: Any) -> None:
    """Taps name streams as they like: a slash or a space is no obstacle; an unknown stream is 404, a bad query 400."""
    rt.record(RecordsStored("public/people & co", [stored("1")]))
    async with serve() as http:
        page = (await http.ask("GET", "/v1/records/public%2Fpeople%20%26%20co")).json()
        assert [item["key"] for item in page["items"]] == ["1"]
        answer = await http.ask("GET", "/v1/records/none")
        assert (answer.status, answer.json()["code"]) == (404, "stream_not_found")
        for query in ("after=-1", "limit=0", "since=3"):
            assert (await http.ask("GET", f"/v1/records/public?{query}")).status == 400
