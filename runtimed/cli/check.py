"""`runtimed check`: settings and apps are loaded as the daemon would, and what is registered is shown; with `--runs`
what becomes of the open runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from actors.errors import NotAllowed, NotFound
from runtimed.cli.options import Seconds, printing_options, shell_of
from runtimed.cli.places import is_closed
from runtimed.cli.settings_options import load_settings, settings_options
from runtimed.cli.shell import Shell
from runtimed.cli.text import cell, table

if TYPE_CHECKING:
    from actors.connector_spec import ConnectorSpec, WebhookSpec
    from actors.flow.definitions import App, Registry
    from runtimed.cli.preflight_report import Report
    from runtimed.settings import Settings


@click.command()
@settings_options
@printing_options
@click.option("--runs", is_flag=True, help="Replay every open run with this code: a verdict on each.")
@click.option(
    "--replay-timeout",
    type=Seconds(0.01, 86_400.0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="With --runs: the longest that one run's code may take to come to a wait.",
)
def check(runs: bool, replay_timeout: float, **given: Any) -> int:
    """Check settings and apps as `serve` would, and show what is registered. Ends with 78 if something is wrong.

    With --runs, before a deployment: the journal is read, beside the daemon that still has the old code or without
    one, and every open run is replayed with the code that was just loaded. Nothing is written. Ends with 5 if this
    code would block a run that is not blocked now, and with 8 if a run could not be judged.
    """
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
    if shell.output == "text":
        _show(shell, settings, apps, outside)
    named = given["data_dir"] is not None
    report = _replayed(shell, settings, registry, replay_timeout, named=named) if runs else None
    if shell.output == "json" or (shell.output == "jsonl" and not runs):
        told = _as_json(settings, apps, outside) | ({} if report is None else {"runs": report.as_json()})
        shell.print_json(msgspec.json.encode(told))
    elif shell.output == "id" and not runs:
        for app in apps:
            shell.print(cell(app.name))
    return 0 if report is None else _concluded(shell, report)


def _replayed(shell: Shell, settings: Settings, registry: Registry, seconds: float, *, named: bool) -> Report:
    from actors.flow.preflight import Bounds
    from runtimed.cli.preflight_report import Report, look
    from wal.queries import Reader

    path, limits = settings.paths.journal, settings.limits
    if is_closed(path):
        raise NotAllowed(f"{path} is not readable for this user", hint="Run as its owner.")
    if named and not path.parent.is_dir():  # the gate of a deployment must not open because of a slip of the pen
        raise NotFound(f"there is no folder {path.parent}", hint="Name the data folder of the daemon.")
    if not path.exists():
        shell.note(f"there is no journal at {path} yet")
        return Report(0)
    bounds = Bounds(payload_max_bytes=limits.payload_max_bytes, history_records_max=limits.history_records_max)
    with Reader.open(path) as reader:
        return look(shell, reader, registry, bounds, seconds)


def _concluded(shell: Shell, report: Report) -> int:
    from runtimed.cli.preflight_report import conclude, show

    if shell.output == "text":
        show(shell, report)
    return conclude(shell, report)


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
                        "transaction": step.transaction,
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
    parts = ["transaction"] if step.transaction else [] if step.delivery == "at_least_once" else [step.delivery]
    parts += [] if step.undo is None else [f"undone by {step.undo.name}"]
    return ", ".join(parts) or None
