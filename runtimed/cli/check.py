"""`runtimed check`: settings and apps are loaded as the daemon would, and what is registered is shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from runtimed.cli.options import printing_options, shell_of
from runtimed.cli.settings_options import load_settings, settings_options
from runtimed.cli.shell import Shell
from runtimed.cli.text import cell, table

if TYPE_CHECKING:
    from actors.connector_spec import ConnectorSpec, WebhookSpec
    from actors.flow.definitions import App
    from runtimed.settings import Settings


@click.command()
@settings_options
@printing_options
def check(**given: Any) -> None:
    """Check settings and apps as `serve` would, and show what is registered. Ends with 78 if something is wrong."""
    settings = load_settings(os.environ, Path.cwd(), given)
    from actors.flow.definitions import Registry
    from runtimed import builtin
    from runtimed.connectors import check_names, specs_of
    from runtimed.http.access import access_of
    from runtimed.loading import load_apps
    from runtimed.notifier import notifications_of
    from runtimed.webhooks.specs import webhooks_of

    apps = load_apps(settings.daemon.apps, Path.cwd())
    registry = Registry(builtin.app, *apps)  # names are unique across apps, and what is configured fits them
    outside = _Outside(specs_of(settings, registry), webhooks_of(settings, registry))
    check_names(outside.connectors, outside.webhooks, registry.schedules)
    notifications_of(settings)
    access_of(settings)
    shell = shell_of(click.get_current_context())
    if shell.output in ("json", "jsonl"):
        shell.print_json(msgspec.json.encode(_as_json(settings, apps, outside)))
    elif shell.output == "id":
        for app in apps:
            shell.print(cell(app.name))
    else:
        _show(shell, settings, apps, outside)


class _Outside(NamedTuple):
    """What brings the outside world in, of apps and of the configuration."""

    connectors: dict[str, ConnectorSpec]
    webhooks: dict[str, WebhookSpec]

    def told(self, apps: list[App]) -> dict[str, list[dict[str, Any]]]:
        """Each by what is told of it; `app` is None where the configuration declares it."""
        pollers = {name: app.name for app in apps for name in app.connectors}
        hooks = {name: app.name for app in apps for name in app.webhooks}
        return {
            "connectors": [
                {"name": name, "kind": spec.kind, "deliver": str(spec.deliver), "app": pollers.get(name)}
                for name, spec in self.connectors.items()
            ],
            "webhooks": [
                {"name": name, "kind": spec.verify, "deliver": str(spec.deliver), "app": hooks.get(name)}
                for name, spec in self.webhooks.items()
            ],
        }


def _as_json(settings: Settings, apps: list[App], outside: _Outside) -> dict[str, Any]:
    return {
        "config": None if settings.paths.config is None else str(settings.paths.config),
        "data_dir": str(settings.paths.data_dir),
        "socket": str(settings.paths.socket),
        "apps": [
            {
                "name": app.name,
                "workflows": [{"name": each.name, "version": each.version} for each in app.workflows.values()],
                "steps": [
                    {
                        "name": step.name,
                        "delivery": step.delivery,
                        "compensation": None if step.undo is None else step.undo.name,
                    }
                    for step in app.steps.values()
                ],
            }
            for app in apps
        ],
        "schedules": [
            {"name": each.name, "workflow": each.workflow, "when": each.when, "catchup": each.catchup, "app": app.name}
            for app in apps
            for each in app.schedules.values()
        ],
        **outside.told(apps),
    }


def _show(shell: Shell, settings: Settings, apps: list[App], outside: _Outside) -> None:
    shell.note(f"settings: {settings.paths.config or 'defaults'}, data: {settings.paths.data_dir}")
    rows: list[tuple[Any, ...]] = []
    for app in apps:
        rows += [(app.name, "workflow", each.name, _signals(each)) for each in app.workflows.values()]
        rows += [(app.name, "step", step.name, _about(step)) for step in app.steps.values()]
        rows += [(app.name, "schedule", each.name, f"{each.workflow}, {each.when}") for each in app.schedules.values()]
    for kind, each in outside.told(apps).items():
        rows += [
            (one["app"], kind.removesuffix("s"), one["name"], f"{one['kind']}, to {one['deliver']}") for one in each
        ]
    if rows:
        table(shell, ["APP", "KIND", "NAME", "ABOUT"], rows)
    else:
        shell.note("no apps are configured: name one with --app or in [daemon] apps")


def _signals(workflow: Any) -> str | None:
    return f"signals: {', '.join(map(cell, workflow.signals))}" if workflow.signals else None


def _about(step: Any) -> str | None:
    parts = [] if step.delivery == "at_least_once" else [step.delivery]
    parts += [] if step.undo is None else [f"undone by {step.undo.name}"]
    return ", ".join(parts) or None
