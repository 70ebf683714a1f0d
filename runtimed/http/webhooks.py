"""Webhooks: what providers deliver. Verified before it is understood, answered when it is on disk.

The route is public, because the signature is the credential; over TCP too. A delivery that came before is answered like
the first one and has no second effect.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Final

import msgspec
from msgspec import Raw

from actors.connector_spec import WebhookSpec
from actors.errors import BadSignature, InvalidInput, SecretMissing, WebhookNotFound
from actors.messages import Origin, TakeWebhook, WebhookTaken
from runtimed.http.replies import Reply, json_reply
from runtimed.http.requests import Request
from runtimed.http.surface import RuntimeSurface
from runtimed.secret_store import PREFIX
from runtimed.webhooks.delivery import Delivery
from runtimed.webhooks.verify import key_of, needs_document, verify
from runtimed.wire import WebhookReply
from wal.codec import payload_fault
from wal.records import StoredItem

_ANY: Final = msgspec.json.Decoder()
KEPT_CHARACTERS_MAX: Final = 4_096
"""Of a header that is kept."""


async def receive(rt: RuntimeSurface, request: Request) -> Reply:
    """Take a delivery: 200 once it is on disk, also for one that came before (`repeated`)."""
    spec = rt.webhooks.get(request.id("name"))
    if spec is None:
        raise WebhookNotFound(f"there is no webhook {request.params['name']!r}")
    delivery = delivery_of(request, await request.raw_body())
    if spec.verify == "none":
        _check_near(request)
    else:
        verify(spec, delivery, _secrets(rt, spec), time.time())
    taken: WebhookTaken = await rt.ask(_command(spec, delivery, request))
    return json_reply(WebhookReply(seq=taken.seq, repeated=taken.repeated))


def delivery_of(request: Request, body: bytes) -> Delivery:
    """The request as the providers' modules read it."""
    raw = [(name.decode("latin-1"), value) for name, value in request.scope["headers"]]
    names = [name for name, _ in raw]
    twice = frozenset(name for name in names if names.count(name) > 1) if len(set(names)) < len(names) else frozenset()
    return Delivery(method=request.method, body=body, headers=dict(raw), twice=twice, urls=_urls(request))


def _urls(request: Request) -> tuple[str, ...]:
    """The addresses that the sender may have called: behind a proxy the public one is in its headers, if at all."""
    path = (request.scope.get("raw_path") or request.path.encode()).partition(b"?")[0].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    hosts = [request.header(b"x-forwarded-host"), request.header(b"host")]
    proto = (request.header(b"x-forwarded-proto") or "").lower()
    schemes = [proto] if proto in ("http", "https") else ["https", "http"]
    tail = f"{path}?{query}" if query else path
    return tuple(dict.fromkeys(f"{scheme}://{host}{tail}" for host in hosts if host for scheme in schemes))


def _check_near(request: Request) -> None:
    """Raise `BadSignature` unless the caller is on this host and no proxy speaks for another."""
    if request.peer.local:
        return
    try:
        near = ipaddress.ip_address(request.peer.address).is_loopback
    except ValueError:
        near = False
    if not near or b"x-forwarded-for" in request.headers or b"forwarded" in request.headers:
        raise BadSignature("this webhook is not signed, and takes deliveries of its own host alone")


def _secrets(rt: RuntimeSurface, spec: WebhookSpec) -> list[str]:
    """All active values of all the webhook's secrets. Raises `SecretMissing` only if there is none at all."""
    values: list[str] = []
    missing: Exception | None = None
    for given in spec.secrets:
        if not given.startswith(PREFIX):
            values.append(given)
            continue
        try:
            values.extend(rt.active_secrets(given))
        except SecretMissing as error:  # health tells of it; the others may fit
            missing = error
    if not values and missing is not None:
        raise missing
    return values


def _command(spec: WebhookSpec, delivery: Delivery, request: Request) -> TakeWebhook:
    document, data = _understood(spec, delivery, request)
    kept = {
        name.lower(): delivery.headers[name.lower()] for name in spec.keep_headers if name.lower() in delivery.headers
    }
    via = "unix socket" if request.peer.local else request.peer.address
    return TakeWebhook(
        webhook=spec.name,
        item=StoredItem(key_of(spec, delivery, document), data),
        deliver=spec.deliver,
        headers={name: value.decode("latin-1")[:KEPT_CHARACTERS_MAX] for name, value in kept.items()},
        body=delivery.body.decode() if spec.keep_body else None,
        via=via or None,
        origin=Origin(by=f"webhook:{spec.name}", trace_id=request.trace_id, traceparent=request.traceparent.decode()),
    )


def _understood(spec: WebhookSpec, delivery: Delivery, request: Request) -> tuple[Any, Raw]:
    """The body as a value and as the JSON that is kept. Text that is no JSON is kept as a JSON string where nothing has
    to be read from it. Raises `InvalidInput`."""
    if (fault := payload_fault(delivery.body)) is not None:
        raise InvalidInput(f"the body {fault}")
    try:
        return _ANY.decode(delivery.body), Raw(delivery.body)
    except (msgspec.DecodeError, RecursionError):
        if needs_document(spec):
            return request.decode(_ANY, delivery.body or b" "), Raw(b"null")  # raises, naming what is wrong
        return None, Raw(msgspec.json.encode(delivery.body.decode()))
