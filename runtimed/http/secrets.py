"""Secrets: which there are, and changes of them. Values come in and never go out."""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec

from actors.errors import NotAllowed
from actors.messages import Origin
from runtimed.http.access import Peer
from runtimed.http.replies import Reply, json_reply
from runtimed.http.requests import Request
from runtimed.http.surface import RuntimeSurface
from runtimed.secret_store import SecretInfo
from runtimed.wire import (
    AcceptedView,
    MasterKeyView,
    ReasonQuery,
    ReasonRequest,
    RotateSecretRequest,
    SecretView,
    SetSecretRequest,
)
from wal.views import Page, rfc3339

_SET: Final = msgspec.json.Decoder(SetSecretRequest)
_ROTATE: Final = msgspec.json.Decoder(RotateSecretRequest)
_REASON: Final = msgspec.json.Decoder(ReasonRequest)


async def list_secrets(rt: RuntimeSurface, request: Request) -> Reply:
    """All secrets by name: versions and dates, no values."""
    views = [_view(each) for each in rt.list_secrets()]
    return json_reply(Page(views, None, len(views), rt.feed.seq))


async def put(rt: RuntimeSurface, request: Request) -> Reply:
    """Give a secret a value; the one before counts no more. The same value again changes nothing."""
    name = request.id("name")
    check_way(request)
    wanted = request.decode(_SET, await request.body())
    return json_reply(_view(await rt.set_secret(name, wanted.value, reason=wanted.reason, origin=_origin(request))))


async def rotate(rt: RuntimeSurface, request: Request) -> Reply:
    """Give a secret a new value; the former one counts for `grace_s` more. The same value again changes nothing."""
    name, body = request.id("name"), await request.body()
    check_way(request)
    wanted = request.decode(_ROTATE, body)

    async def work() -> SecretView:
        info = await rt.rotate_secret(
            name, wanted.value, grace_s=wanted.grace_s, reason=wanted.reason, origin=_origin(request)
        )
        return _view(info)

    return json_reply(await rt.once_unwritten(request.origin(body), work))


async def delete(rt: RuntimeSurface, request: Request) -> Reply:
    """Forget a secret with all its versions."""
    name, query = request.id("name"), request.query(ReasonQuery)
    await request.body()
    seq = await rt.delete_secret(name, reason=query.reason, origin=_origin(request))
    return json_reply(AcceptedView(seq, name))


async def rotate_master(rt: RuntimeSurface, request: Request) -> Reply:
    """Put all secrets under another master key."""
    body = await request.body()
    reason = request.decode(_REASON, body).reason

    async def work() -> MasterKeyView:
        return MasterKeyView(await rt.rotate_master_key(reason=reason, origin=_origin(request)))

    return json_reply(await rt.once_unwritten(request.origin(body), work))


def is_sheltered(peer: Peer, proto: str | None) -> bool:
    """Whether what comes from this peer was not in the clear on a network: the daemon itself speaks no TLS, so it is
    the unix socket, a proxy on this host, or one that says (`X-Forwarded-Proto`) that its client spoke TLS."""
    if peer.local or (proto or "").lower() == "https":
        return True
    try:
        return ipaddress.ip_address(peer.address).is_loopback
    except ValueError:
        return False


def check_way(request: Request) -> None:
    """Raise `NotAllowed` where a value came in the clear."""
    if not is_sheltered(request.peer, request.header(b"x-forwarded-proto")):
        raise NotAllowed(
            "a secret does not travel in the clear",
            hint="Use the unix socket, or a proxy with TLS that sets X-Forwarded-Proto.",
        )


def _origin(request: Request) -> Origin:
    """Who asked. Without the idempotency key: what is recorded of it has a digest, which would be one of the value."""
    return msgspec.structs.replace(request.origin(), request=None)


def _view(info: SecretInfo) -> SecretView:
    until = None if info.former_until is None else rfc3339(info.former_until)
    return SecretView(info.name, info.version, rfc3339(info.changed_at) or "", until)
