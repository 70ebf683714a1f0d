"""The webhooks of one runtime: those of its apps and those of its configuration, checked together at the start."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from actors.connector_spec import WebhookSpec, deliver_to
from actors.errors import DefinitionError
from actors.flow.definitions import NAME, Registry
from runtimed.secret_store import PREFIX
from runtimed.settings import ConfigError, Settings, Webhook, in_file


def webhooks_of(settings: Settings, registry: Registry) -> dict[str, WebhookSpec]:
    """All webhooks by name. Raises ConfigError, naming file and key, for one that is there twice, starts a workflow
    that is not, has no secret though its kind needs one, or believes everybody while strangers can reach it."""
    specs = dict(registry.webhooks)
    for spec in registry.webhooks.values():
        _check(spec, settings, registry)
    for name, table in settings.webhooks.items():
        try:
            if name in specs:
                raise ConfigError(f"webhooks.{name}: an app declares a webhook of this name already")
            specs[name] = _of_table(name, table)
            _check(specs[name], settings, registry)
        except ConfigError as error:
            raise in_file(error, settings) from None
    return specs


def _of_table(name: str, table: Webhook) -> WebhookSpec:
    if not NAME.match(name):
        raise ConfigError(f"webhooks.{name}: a name is 1 to 200 characters of A-Z a-z 0-9 . _ : -")
    for given in table.secrets:
        if not given.startswith(PREFIX) or not NAME.match(given.removeprefix(PREFIX)):
            raise ConfigError(
                f'webhooks.{name}.secrets: expected "secret:NAME", and no secret itself',
                hint="`runtimed secret set NAME` takes the secret; the configuration only names it.",
            )
    try:
        deliver = deliver_to(table.deliver, table.run_id_from)
    except DefinitionError as error:
        raise ConfigError(f"webhooks.{name}.deliver: {error}") from None
    return WebhookSpec(
        name=name,
        deliver=deliver,
        verify=table.verify,
        secrets=table.secrets,
        key=table.key,
        tolerance=table.tolerance,
        keep_headers=table.keep_headers,
        keep_body=table.keep_body,
    )


def _check(spec: WebhookSpec, settings: Settings, registry: Registry) -> None:
    where = f"webhooks.{spec.name}"
    if spec.deliver.kind == "workflow" and spec.deliver.name not in registry.workflows:
        raise ConfigError(
            f"{where}.deliver: no workflow {spec.deliver.name!r} is registered",
            hint="Check the name, and that its app is loaded (daemon.apps).",
        )
    if not spec.tolerance > 0:
        raise ConfigError(f"{where}.tolerance: expected more than 0 seconds")
    if spec.verify == "none":
        if settings.http.address is not None and not _is_near(settings.http.address[0]):
            raise ConfigError(
                f'{where}.verify: "none" believes everybody, and http.bind lets strangers in',
                hint="Bind to a loopback address, or have the sender sign.",
            )
    elif not spec.secrets:
        raise ConfigError(
            f"{where}.secrets: verify = {spec.verify!r} needs a secret", hint='Name one: secrets = ["secret:NAME"].'
        )


def _is_near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def secret_names(specs: Mapping[str, WebhookSpec]) -> list[str]:
    """The secrets that webhooks refer to, each once."""
    named = (
        given.removeprefix(PREFIX) for spec in specs.values() for given in spec.secrets if given.startswith(PREFIX)
    )
    return list(dict.fromkeys(named))
