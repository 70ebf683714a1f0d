"""Whether a delivery is what its provider signed, and the key that names it: pure functions of bytes, secrets and time.

A signature is looked at before anything of the body is understood. Of several active secrets one must fit, and all are
tried, so that the time taken tells nothing of which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from actors.connector_spec import WebhookSpec
from actors.errors import BadSignature, InvalidInput, SecretMissing
from runtimed.webhooks import github, hubspot_v3, standard, stripe, unsigned
from runtimed.webhooks.delivery import KEY_CHARACTERS_MAX, Delivery


class Provider(Protocol):
    """What each provider's module has."""

    @property
    def ID_HEADERS(self) -> tuple[str, ...]: ...

    def check(self, delivery: Delivery, secret: str, now_s: float, tolerance_s: float) -> None: ...

    def key_of(self, document: Any) -> Any: ...


PROVIDERS: dict[str, Provider] = {
    "stripe": stripe,
    "hubspot_v3": hubspot_v3,
    "github": github,
    "standard": standard,
    "none": unsigned,
}
"""By the name that `verify =` has."""


def verify(spec: WebhookSpec, delivery: Delivery, secrets: Sequence[str], now_s: float) -> None:
    """Raises BadSignature unless the delivery was signed with one of these secrets, not too long ago; SecretMissing
    where none of ours can be a secret of this provider."""
    if spec.verify == "none":
        return
    provider, fits = PROVIDERS[spec.verify], False
    wrong: BadSignature | None = None
    missing: SecretMissing | None = None
    for secret in secrets:
        try:
            provider.check(delivery, secret, now_s, spec.tolerance)
            fits = True
        except BadSignature as error:
            wrong = wrong or error
        except SecretMissing as error:
            missing = missing or error
    if not fits:
        raise wrong or missing or SecretMissing(f"webhook {spec.name!r} has no secret")


def key_of(spec: WebhookSpec, delivery: Delivery, document: Any) -> str:
    """What names the delivery: the field that the spec says, or the provider's header or id. Raises InvalidInput."""
    if spec.key is not None:
        return _as_key(at(document, spec.key), f"$.{spec.key}")
    provider = PROVIDERS[spec.verify]
    for name in provider.ID_HEADERS:
        value = delivery.headers.get(name)
        if value is not None and name not in delivery.twice:
            return _as_key(value.decode("latin-1").strip(), f"the header {name}")
    return _as_key(provider.key_of(document), _where(provider))


def needs_document(spec: WebhookSpec) -> bool:
    """Whether the body must be JSON: for its key, or for what becomes of it."""
    return spec.key is not None or spec.deliver.kind != "records" or not PROVIDERS[spec.verify].ID_HEADERS


def at(document: Any, path: str) -> Any:
    """What stands at a path such as `data.id` or `0.eventId`; None where nothing does."""
    for part in path.split("."):
        if isinstance(document, dict):
            document = document.get(part)
        elif isinstance(document, list) and part.isdecimal() and len(part) < 10 and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def _as_key(value: Any, where: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= KEY_CHARACTERS_MAX or not value.isprintable():
        raise InvalidInput(
            f"{where}: expected the delivery's id, an integer or 1 to {KEY_CHARACTERS_MAX} characters",
            hint="`key` of the webhook's configuration names the field that holds it.",
        )
    return value


def _where(provider: Provider) -> str:
    if provider.ID_HEADERS:
        return f"the header {provider.ID_HEADERS[0]}"
    return "$.id" if provider is stripe else "$.eventId"
