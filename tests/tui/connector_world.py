"""A fake daemon with connectors that can be steered, and what goes wrong with its answers."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from actors.errors import InvalidInput
from runtimed.client import DaemonUnreachable
from runtimed.client_wire import Answer
from runtimed.wire import ResetPreview
from tests.tui.fake_daemon import FakeClient, FakeDaemon, at, event
from wal.views import ConnectorView


def connector(name: str, kind: str, status: str = "ok", **more: Any) -> ConnectorView:
    """A connector that polled 20 s ago and polls again in 10 s."""
    fields: dict[str, Any] = {"last_poll_at": at(20), "next_poll_at": at(-10), "lag": 0.0, "deliver": "records"}
    return ConnectorView(name, kind, status, **{**fields, **more})


def connectors() -> list[ConnectorView]:
    """One in each state, and a webhook."""
    return [
        connector("charges", "stripe", cursor=Raw(b'{"id":"ch_9"}'), records_total=1234, records_15m=31,
            deliver="workflow:welcome"),
        connector(
            "crm", "hubspot", "backoff", lag=80.0, failures=4, errors_total=4, records_total=31, repeated_total=12,
            polls_total=90, last_error="SourceError: 503 from api.hubapi.com", cursor=Raw(b"88121"), records_15m=7,
        ),
        connector("bank", "files", "quarantined", next_poll_at=None, lag=None, last_error="KeyError: 'iban'",
                  errors_total=5),
        connector("people", "singer", "paused", next_poll_at=None, lag=600.0),
        connector("old", "http_json", "open_breaker", failures=9, errors_total=9, last_error="tls: expired"),
        connector("hooks", "webhook", next_poll_at=None, lag=None, records_total=7, deliver="workflow:on_event"),
    ]  # fmt: skip


class ConnectorClient(FakeClient):
    """The verbs of the fake client, and those that steer connectors."""

    daemon: ConnectorDaemon

    async def preview_reset(self, name: str, cursor: Any = None) -> ResetPreview:
        said = bytes(cursor).decode()
        self.daemon.check(f"preview {name} {said}")
        if said == '"wrong"':
            raise InvalidInput("the cursor of bank is an int")
        return ResetPreview(name, "ok", Raw(b"1"), Raw(said.encode()), 3, [f"it reads on from {said}"])

    async def fetch(
        self, method: str, path: str, *, body: Any, headers: dict[str, str], repeatable: bool | None = None
    ) -> Answer:
        """`POST /v1/connectors/{name}/{verb}`, never repeated."""
        assert (method, repeatable) == ("POST", False)
        _, _, noun, name, verb = path.split("/")
        assert noun == "connectors"
        said = msgspec.json.decode(msgspec.json.encode(body))
        return Answer(202, {}, self.daemon.steer(name, verb, said, headers["idempotency-key"]))


class ConnectorDaemon(FakeDaemon):
    """Connectors to steer. `lose` says what happens to the next request: `before` it is done or `after` it the
    connection breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.connectors = connectors()
        self.steered: list[tuple[str, str, dict[str, Any]]] = []
        self.lose = ""

    def client(self) -> ConnectorClient:
        return ConnectorClient(self)

    def put(self, name: str, **changes: Any) -> None:
        """A connector is different from now on; whoever asks is told."""
        self.connectors = [
            msgspec.structs.replace(view, **changes) if view.name == name else view for view in self.connectors
        ]

    def steer(self, name: str, verb: str, said: dict[str, Any], key: str) -> bytes:
        """Carry out what a card asks."""
        self.check(f"{verb} {name}")
        lose, self.lose = self.lose, ""
        if lose == "before":
            raise DaemonUnreachable("the connection broke")
        self.steered.append((verb, name, said))
        if verb == "poll":
            answer = msgspec.json.encode(next(view for view in self.connectors if view.name == name))
        else:
            seq = self.seq + 1
            kind = {"pause": "connector_paused", "resume": "connector_resumed", "reset": "connector_reset"}[verb]
            changes: dict[str, Any] = {"status": {"pause": "paused", "resume": "ok"}.get(verb, "ok")}
            if verb == "reset":
                changes["cursor"] = Raw(msgspec.json.encode(said["cursor"]))
            self.put(name, **changes)
            fields = {"cursor": said["cursor"]} if verb == "reset" else {}
            body = {"seq": seq, "id": name}
            answered = event(
                seq + 1, "request_answered", principal="uid:1002", idempotency_key=key, digest="", status=0, body=body
            )
            self.push(event(seq, kind, connector=name, by="uid:1002", **fields), answered)
            answer = msgspec.json.encode(body)
        if lose == "after":
            raise DaemonUnreachable("the connection broke")
        return answer
