"""GitHub: `X-Hub-Signature-256: sha256=HEX` over the body; the delivery's id is `X-GitHub-Delivery`, also when it is
delivered again. It carries no time, so only the id keeps a replay from a second effect."""

from __future__ import annotations

from typing import Any

from actors.errors import BadSignature
from runtimed.webhooks.delivery import Delivery, header, same, sha256

ID_HEADERS: tuple[str, ...] = ("x-github-delivery",)


def check(delivery: Delivery, secret: str, now_s: float, tolerance_s: float) -> None:
    """Raises BadSignature."""
    name, _, given = header(delivery, "x-hub-signature-256").partition("=")
    if name != "sha256" or not same(sha256(secret, delivery.body).hex().encode(), given):
        raise BadSignature("X-Hub-Signature-256 does not fit the body")


def key_of(document: Any) -> Any:
    """Nothing in the body names the delivery."""
    return None
