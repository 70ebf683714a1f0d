"""Deliveries signed as each provider signs them, to be verified and to be spoiled."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

from standardwebhooks import Webhook

URL = "https://hooks.example.org/v1/webhooks/w"
STANDARD_SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def stripe(secret: str, body: bytes, at_s: int) -> dict[str, str]:
    signature = hmac.new(secret.encode(), str(at_s).encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={at_s},v1={signature},v0=old"}


def hubspot_v3(secret: str, body: bytes, at_s: int, url: str = URL) -> dict[str, str]:
    stamp = str(at_s * 1_000)
    signed = b"POST" + url.encode() + body + stamp.encode()
    signature = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    return {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": stamp}


def github(secret: str, body: bytes, at_s: int) -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={signature}", "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}


def standard(secret: str, body: bytes, at_s: int) -> dict[str, str]:
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at_s, UTC), body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at_s), "webhook-signature": signature}


SIGN = {"stripe": stripe, "hubspot_v3": hubspot_v3, "github": github, "standard": standard}
SECRET = {"stripe": "whsec_stripe", "hubspot_v3": "app-secret", "github": "hub-secret", "standard": STANDARD_SECRET}
OTHER = {
    "stripe": "whsec_2", "hubspot_v3": "2", "github": "2", "standard": "whsec_" + base64.b64encode(b"z" * 32).decode(),
}  # fmt: skip
SIGNED_HEADER = {
    "stripe": "stripe-signature", "hubspot_v3": "x-hubspot-signature-v3", "github": "x-hub-signature-256",
    "standard": "webhook-signature",
}  # fmt: skip
