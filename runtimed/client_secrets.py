"""The client's verbs for secrets: which there are, set, rotate, forget. No verb gives a value back."""

from __future__ import annotations

from urllib.parse import urlencode

from runtimed.client_link import Link, decode, given, part, succeeded
from runtimed.wire import AcceptedView, MasterKeyView, SecretPage, SecretView

GRACE_S = 86_400.0


class SecretVerbs:
    """Mixed into `Client`; each may raise what that names, `NotFound`, `InvalidInput` and `SecretsRefused`."""

    link: Link

    async def secrets(self) -> list[SecretView]:
        """All secrets by name, without their values."""
        return decode(await self.link.get("/v1/secrets"), SecretPage).items

    async def set_secret(self, name: str, value: str, *, reason: str | None = None) -> SecretView:
        """Give a secret a value; the one before counts no more. The same value again changes nothing."""
        body = {"value": value, **dict(given(reason=reason))}
        return decode(await self.link.change("PUT", f"/v1/secrets/{part(name)}", body, None), SecretView)

    async def rotate_secret(
        self, name: str, value: str, *, grace_s: float = GRACE_S, reason: str | None = None
    ) -> SecretView:
        """Give a secret a new value; the former one counts for `grace_s` seconds more."""
        body = {"value": value, "grace_s": grace_s, **dict(given(reason=reason))}
        return decode(await self.link.post(f"/v1/secrets/{part(name)}/rotate", body), SecretView)

    async def delete_secret(self, name: str, *, reason: str | None = None) -> AcceptedView:
        """Forget a secret with all its versions."""
        path = f"/v1/secrets/{part(name)}" + (f"?{urlencode({'reason': reason})}" if reason is not None else "")
        return decode(succeeded(await self.link.fetch("DELETE", path)).body, AcceptedView)

    async def rotate_master_key(self, *, reason: str | None = None) -> MasterKeyView:
        """Put all secrets under another master key."""
        return decode(await self.link.post("/v1/master-key/rotate", dict(given(reason=reason))), MasterKeyView)
