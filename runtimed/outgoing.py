"""Telling the outside: one signed POST (Standard Webhooks), and what its answer means for trying again.

The target's address and secret are the configuration's (`[notifications.NAME]`); the message's id is the step's
idempotency key, so a receiver that keeps ids takes each message once, however often it is sent.
"""

from __future__ import annotations

import functools
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import trio

from actors.errors import NotificationFailed, NotificationRefused, SecretMissing

if TYPE_CHECKING:
    from runtimed.runtime import Runtime

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
TRY_AGAIN = (408, 425, 429)
"""Of the statuses that blame the sender, those that say "later" (RFC 9110, RFC 8470, RFC 6585)."""


class Message(msgspec.Struct, frozen=True):
    """What is sent: as Standard Webhooks recommends it."""

    type: str
    timestamp: str
    data: Any


async def send(runtime: Runtime, message_id: str, target: str, type: str, data: Any, at: str | None) -> int:
    """Send a message once; the status of its answer, a 2xx. Raises NotificationFailed where a later try may succeed,
    NotificationRefused where it will not, SecretMissing, SecretsRefused. Cancellation closes the connection; whether
    the message arrived is not known then."""
    found = runtime.settings.notifications.get(target)
    if found is None:
        raise NotificationRefused(f"no [notifications.{target[:200]}] is configured")
    now = datetime.now(UTC)
    body = msgspec.json.encode(Message(type, at or now.isoformat(timespec="microseconds").replace("+00:00", "Z"), data))
    headers = _signed(runtime.secret(found.secret), message_id, now, body)
    status = await _post(found.url, body, headers)
    if 200 <= status < 300:
        return status
    said = f"{_host(found.url)} answered {status}"
    if status >= 500 or status in TRY_AGAIN:
        raise NotificationFailed(said)
    raise NotificationRefused(said)


def _signed(secret: str, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    from standardwebhooks import Webhook

    try:
        signature = Webhook(secret).sign(message_id, now, body.decode())
    except Exception:  # noqa: BLE001 - whatever base64 raises
        hint = "A Standard Webhooks secret is whsec_ and at least 24 bytes in base64."
        raise SecretMissing("the notification's secret is no Standard Webhooks secret", hint=hint) from None
    return {
        "content-type": "application/json",
        "user-agent": "runtimed",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }


async def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer; its body is not read, and a redirect not followed: it was signed for that address."""
    tls = await trio.to_thread.run_sync(_tls)  # the first time it loads the library and the certificates: 100 ms
    import httpx2

    timeout = httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        async with httpx2.AsyncClient(timeout=timeout, verify=tls, follow_redirects=False) as client:
            async with client.stream("POST", url, content=body, headers=headers) as answer:
                return int(answer.status_code)
    except httpx2.HTTPError as error:
        raise NotificationFailed(f"{_host(url)}: {type(error).__name__}") from None
    except httpx2.InvalidURL:
        raise NotificationRefused("the url of the notification is none") from None


@functools.cache
def _tls() -> ssl.SSLContext:
    """The certificates to trust, read once: it takes as long as some hundred requests."""
    import httpx2

    return httpx2.create_ssl_context()


def _host(url: str) -> str:
    """Whom an error may name: an address may hold a token."""
    return urlsplit(url).hostname or "the receiver"
