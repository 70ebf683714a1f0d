"""A source in HubSpot's shape: a search sorted by the last change, `after`, at most so many results a search."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.runtimed.connectors.mock_source import Asked, MockSource, Reply, json_reply

TOKEN = "pat-eu1-7a7b"
CHANGED = {"contacts": "lastmodifieddate", "companies": "hs_lastmodifieddate", "deals": "hs_lastmodifieddate"}


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class MockHubSpot(MockSource):
    """`put` makes or changes a record; `results_max` is where a search ends."""

    def __init__(self, *, results_max: int = 10_000) -> None:
        super().__init__(self.reply)
        self.results_max = results_max
        self.records: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in CHANGED}

    def put(self, kind: str, key: str, at_ms: int, **properties: Any) -> None:
        before = self.records[kind].get(key, {"id": key, "createdAt": iso(at_ms), "properties": {}})
        changed = {**before["properties"], **properties, CHANGED[kind]: iso(at_ms)}
        self.records[kind][key] = {**before, "properties": changed, "updatedAt": iso(at_ms), "at_ms": at_ms}

    def reply(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return json_reply({"status": "error", "message": "Authentication credentials not found"}, 401)
        _, _, _, _, kind, verb = asked.path.split("/")
        if asked.method != "POST" or verb != "search":
            return json_reply({"message": "not found"}, 404)
        wanted = asked.json()
        rows = sorted(self.records[kind].values(), key=lambda one: (one["at_ms"], int(one["id"])))
        for group in wanted["filterGroups"]:
            for rule in group["filters"]:
                assert (rule["propertyName"], rule["operator"]) == (CHANGED[kind], "GTE")
                rows = [one for one in rows if one["at_ms"] >= int(rule["value"])]
        after, size = int(wanted.get("after", 0)), wanted["limit"]
        if after + size > self.results_max:
            return json_reply({"status": "error", "message": "The search goes no further"}, 400)
        page = [{name: value for name, value in one.items() if name != "at_ms"} for one in rows[after : after + size]]
        answer: dict[str, Any] = {"total": len(rows), "results": page}
        if after + size < len(rows):
            answer["paging"] = {"next": {"after": str(after + size)}}
        return json_reply(answer)
