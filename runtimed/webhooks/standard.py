"""Standard Webhooks (standardwebhooks.com), checked by the specification's own library.

The library raises whatever its parsing meets (ValueError, TypeError, binascii.Error, UnicodeDecodeError): each of them
means that the signature is not one. Its tolerance is five minutes; a shorter one is checked here.
"""

from __future__ import annotations

from typing import Any

from actors.errors import BadSignature, SecretMissing
from runtimed.webhooks.delivery import Delivery, check_age, header

ID_HEADERS: tuple[str, ...] = ("webhook-id",)
HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


def check(delivery: Delivery, secret: str, now_s: float, tolerance_s: float) -> None:
    """Raises BadSignature; SecretMissing where our own secret is none of this kind."""
    from standardwebhooks import Webhook

    headers = {name: header(delivery, name) for name in HEADERS}
    try:
        hook = Webhook(secret)
    except Exception:  # noqa: BLE001 - whatever base64 raises
        raise SecretMissing("the webhook's secret is no Standard Webhooks secret: base64 after whsec_") from None
    try:
        hook.verify(delivery.body, headers, json_parse=False)
        at = float(headers["webhook-timestamp"])
    except Exception:  # noqa: BLE001 - see the module: any error is a signature that is none
        raise BadSignature("webhook-signature does not fit, or is too old") from None
    check_age(at, now_s, tolerance_s)


def key_of(document: Any) -> Any:
    """Nothing in the body names the delivery."""
    return None
