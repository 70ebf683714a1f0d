"""The kinds of connector that the configuration may name, and all connectors of one runtime.

A kind is a module with `make(name, settings) -> ConnectorSpec`, loaded when a connector of that kind is configured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Final

import msgspec

from actors.connector_spec import ConnectorSpec, Deliver, WebhookSpec, deliver_to
from actors.errors import DefinitionError
from actors.flow.definitions import NAME, Registry
from actors.page_items import name_in_ids
from actors.schedules import KIND as SCHEDULE
from runtimed.config_layers import ConfigError
from runtimed.settings import Connector, Settings, in_file

KINDS: Final[dict[str, str]] = {
    "airbyte": "runtimed.connectors.airbyte:make",
    "files": "runtimed.connectors.files:make",
    "http_json": "runtimed.connectors.http_json:make",
    "hubspot": "runtimed.connectors.hubspot:make",
    "singer": "runtimed.connectors.singer:make",
    "sql": "runtimed.connectors.sql:make",
    "stripe": "runtimed.connectors.stripe:make",
}
"""Kind to `module:function`."""

NAME_CHARACTERS_MAX: Final = 100
"""A connector's name is also that of its actor, and the beginning of its runs' ids."""
CONNECTORS_MAX: Final = 1_000
NAMES_SHOWN_MAX: Final = 12


def specs_of(settings: Settings, registry: Registry) -> dict[str, ConnectorSpec]:
    """All connectors: those of the apps and those of the configuration, by name.

    Raises ConfigError naming the key: a name given twice, a kind whose options do not fit, a workflow that no app has.
    """
    specs = dict(registry.connectors)
    for name, table in settings.connectors.items():
        try:
            if name in specs:
                said = f"connectors.{name}: an app has a connector of this name already"
                raise ConfigError(said, hint="Give one another name.")
            specs[name] = _made(name, table)
            _check(name, specs[name].deliver, registry)
        except ConfigError as error:
            raise in_file(error, settings) from None
    if len(specs) > CONNECTORS_MAX:
        raise ConfigError(f"{len(specs)} connectors; one runtime takes {CONNECTORS_MAX}")
    for name, spec in registry.connectors.items():
        _check(name, spec.deliver, registry)
    return specs


def check_names(
    connectors: Mapping[str, ConnectorSpec], webhooks: Mapping[str, WebhookSpec], schedules: Iterable[str]
) -> None:
    """Raise ConfigError where two of them share a name that begins the ids of the runs, or of the signals, of both:
    what came by one would be taken for a repeat of what came by the other, or be set aside. Schedules among the
    connectors are passed over."""
    delivers = [(f"connectors.{name}", name, spec.deliver.kind) for name, spec in connectors.items() if _polls(spec)]
    delivers += [(f"schedules.{name}", name, "workflow") for name in schedules]
    delivers += [(f"webhooks.{name}", name, spec.deliver.kind) for name, spec in webhooks.items()]
    taken: dict[tuple[str, str], str] = {}
    for key, name, kind in delivers:
        other = taken.setdefault((name_in_ids(name), kind), key) if kind != "records" else key
        if other != key:
            ids = "runs" if kind == "workflow" else "signals"
            said = f"{key}: expected a name of its own; the {ids} of {other} have the ids {name_in_ids(name)}:KEY too"
            raise ConfigError(said, hint="Give one another name.")


def _polls(spec: ConnectorSpec) -> bool:
    return spec.kind != SCHEDULE


def _made(name: str, table: Connector) -> ConnectorSpec:
    key = f"connectors.{name}"
    where = KINDS.get(table.kind)
    if where is None:
        there = ", ".join(sorted(KINDS)) or "none"
        raise ConfigError(f"{key}.kind: {table.kind!r} is not in this build; there are: {there}")
    deliver = _deliver(key, table.deliver, table.run_id_from)  # first, so that a mistake here is told by its key
    module, _, function = where.partition(":")
    spec: ConnectorSpec = getattr(import_module(module), function)(name, table)
    return msgspec.structs.replace(spec, deliver=deliver)


def _deliver(key: str, said: str, run_id_from: str | None) -> Deliver:
    try:
        return deliver_to(said, run_id_from)
    except DefinitionError as error:
        raise ConfigError(f"{key}.deliver: {error}") from None


def _check(name: str, deliver: Deliver, registry: Registry) -> None:
    key = f"connectors.{name}"
    if not NAME.match(name) or len(name) > NAME_CHARACTERS_MAX:
        raise ConfigError(f"{key}: the name is not 1 to {NAME_CHARACTERS_MAX} characters of A-Z a-z 0-9 . _ : -")
    if deliver.kind == "workflow" and deliver.name not in registry.workflows:
        theirs = sorted(name for name in registry.workflows if not name.startswith("runtimed."))
        there = ", ".join(theirs[:NAMES_SHOWN_MAX]) or "none"
        raise ConfigError(
            f"{key}.deliver: no workflow {deliver.name!r} is registered; there are: {there}",
            hint="Check the name, and that its app is loaded (daemon.apps).",
        )
