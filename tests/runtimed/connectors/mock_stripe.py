"""A source in Stripe's shape: lists newest first, `starting_after`, `has_more`, events of each change."""

from __future__ import annotations

from typing import Any

from tests.runtimed.connectors.mock_source import Asked, MockSource, Reply, json_reply

KEY = "sk_test_51Hx"
SINGULAR = {"customers": "customer", "invoices": "invoice", "charges": "charge", "events": "event"}


class MockStripe(MockSource):
    """`put` makes or changes an object, with its event; `filters=False` is a server that knows no `created[gte]`."""

    def __init__(self, *, filters: bool = True, events_allowed: bool = True) -> None:
        super().__init__(self.reply)
        self.filters, self.events_allowed = filters, events_allowed
        self.objects: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in SINGULAR}
        self._events = 0

    def put(self, kind: str, key: str, at: int, *, event: bool = True, **fields: Any) -> dict[str, Any]:
        """Make an object, or change some fields of it."""
        before = self.objects[kind].get(key)
        made = {"id": key, "object": SINGULAR[kind], "created": at} if before is None else before
        self.objects[kind][key] = made = {**made, **fields}
        if event and kind != "events":
            self.tell(f"{SINGULAR[kind]}.{'created' if before is None else 'updated'}", made, at)
        return made

    def delete(self, kind: str, key: str, at: int) -> None:
        self.tell(f"{SINGULAR[kind]}.deleted", self.objects[kind].pop(key), at)

    def tell(self, name: str, about: dict[str, Any], at: int) -> None:
        self._events += 1
        key = f"evt_{self._events:06}"
        self.put("events", key, at, type=name, data={"object": dict(about)})

    def reply(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            said = f"Invalid API Key provided: {asked.headers.get('authorization', '')[7:]}"
            return json_reply({"error": {"type": "invalid_request_error", "message": said}}, 401)
        kind = asked.path.removeprefix("/v1/")
        if kind not in self.objects:
            return json_reply({"error": {"message": f"Unrecognized request URL {asked.path}"}}, 404)
        if kind == "events" and not self.events_allowed:
            return json_reply({"error": {"message": "This key may not read events"}}, 403)
        rows = sorted(self.objects[kind].values(), key=lambda one: (one["created"], one["id"]), reverse=True)
        if self.filters:
            low, high = asked.query.get("created[gte]"), asked.query.get("created[lte]")
            rows = [one for one in rows if low is None or one["created"] >= int(low)]
            rows = [one for one in rows if high is None or one["created"] <= int(high)]
            wanted = asked.query.get("type", "*")
            rows = [one for one in rows if wanted == "*" or one.get("type", "").startswith(wanted.rstrip("*"))]
        if after := asked.query.get("starting_after"):
            places = [place for place, one in enumerate(rows) if one["id"] == after]
            if not places:
                return json_reply({"error": {"code": "resource_missing", "message": f"No such object: {after}"}}, 400)
            rows = rows[places[0] + 1 :]
        size = int(asked.query.get("limit", 10))
        return json_reply({"object": "list", "url": asked.path, "has_more": len(rows) > size, "data": rows[:size]})
