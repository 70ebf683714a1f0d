"""Stripe: `Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX...]` over `SECONDS.BODY` (docs.stripe.com/webhooks/signature)."""

from __future__ import annotations

from typing import Any

from actors.errors import BadSignature
from runtimed.webhooks.delivery import Delivery, check_age, header, same, seconds, sha256

ID_HEADERS: tuple[str, ...] = ()
SIGNATURES_MAX = 16


def check(delivery: Delivery, secret: str, now_s: float, tolerance_s: float) -> None:
    """Raises BadSignature. While Stripe rolls a secret there are several v1, one of which must fit."""
    times, signatures = [], []
    for part in header(delivery, "stripe-signature").split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            times.append(value)
        elif name == "v1":
            signatures.append(value)
    if len(times) != 1 or not 1 <= len(signatures) <= SIGNATURES_MAX:
        raise BadSignature("Stripe-Signature does not hold one t and a v1")
    at = seconds(times[0], "t of Stripe-Signature")
    expected = sha256(secret, times[0].encode(), b".", delivery.body).hex().encode()
    if sum(same(expected, each) for each in signatures) == 0:
        raise BadSignature("no v1 of Stripe-Signature fits the body")
    check_age(at, now_s, tolerance_s)


def key_of(document: Any) -> Any:
    """The id of the event."""
    return document.get("id") if isinstance(document, dict) else None
