"""HubSpot, version 3: a base64 HMAC over method, URI, body and a timestamp in milliseconds.

Source: developers.hubspot.com, "Validating requests". HubSpot signs the address that it was told, with some percent
escapes decoded; behind a proxy that is not what arrives here, so each address it may have meant is tried.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from actors.errors import BadSignature
from runtimed.webhooks.delivery import Delivery, check_age, header, same, seconds, sha256

ID_HEADERS: tuple[str, ...] = ()
EVENTS_MAX = 10_000
_DECODED = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$", "%27": "'", "%28": "(", "%29": ")",
    "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip


def check(delivery: Delivery, secret: str, now_s: float, tolerance_s: float) -> None:
    """Raises BadSignature."""
    given = header(delivery, "x-hubspot-signature-v3")
    stamp = header(delivery, "x-hubspot-request-timestamp")
    at_ms = seconds(stamp, "X-HubSpot-Request-Timestamp")
    fits = False
    for url in delivery.urls:
        signed = (delivery.method.encode(), decoded(url).encode(), delivery.body, stamp.encode())
        fits |= same(base64.b64encode(sha256(secret, *signed)), given)
    if not fits:
        raise BadSignature("X-HubSpot-Signature-v3 fits neither the body nor the address")
    check_age(at_ms / 1_000, now_s, tolerance_s)


def decoded(url: str) -> str:
    """The address as HubSpot writes it for its signature."""
    for escape, character in _DECODED.items():
        url = url.replace(escape, character).replace(escape.lower(), character)
    return url


def key_of(document: Any) -> Any:
    """The id of the event; of several in one delivery a digest of theirs, whatever the order and the attempt."""
    events = document if isinstance(document, list) else [document]
    if not 1 <= len(events) <= EVENTS_MAX or not all(isinstance(event, dict) for event in events):
        return None
    ids = [event.get("eventId") for event in events]
    if None in ids:
        return None
    if len(ids) == 1:
        return ids[0]
    return "events-" + hashlib.blake2b(repr(sorted(map(str, ids))).encode(), digest_size=16).hexdigest()
