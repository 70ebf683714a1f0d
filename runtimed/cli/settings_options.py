"""The options of the commands that read the daemon's settings, and how they become flags."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from runtimed.cli.options import folder_of, folder_option
from runtimed.settings import Settings, find_config, load

F = TypeVar("F", bound=Callable[..., Any])

FLAGS = {
    "app": "daemon.apps",
    "data_dir": "daemon.data_dir",
    "bind": "http.bind",
    "drain_delay": "daemon.drain_delay",
    "drain_timeout": "daemon.drain_timeout",
    "log_level": "log.level",
    "log_format": "log.format",
}
"""The option that sets each key."""


def settings_options(function: F) -> F:
    """`--config`, `--app` and `--data-dir`, which may stand before the noun too. The function gets `data_dir`."""

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        return function(*args, data_dir=folder_of(click.get_current_context()), **given)

    wrapped: Callable[..., Any] = call
    for option in (
        folder_option,
        click.option("--app", multiple=True, metavar="MODULE:APP", help="An app, or flows.py; may be repeated."),
        click.option(
            "--config", type=click.Path(), metavar="FILE", help="The settings, else ./runtimed.toml if there."
        ),
    ):
        wrapped = option(wrapped)
    return cast(F, wrapped)


def load_settings(environ: Mapping[str, str], cwd: Path, given: Mapping[str, Any]) -> Settings:
    """The settings of the options given (None and an empty `--app` are not given). Raises `ConfigError`."""
    flags = {FLAGS[name]: list(value) if name == "app" else value for name, value in given.items() if name in FLAGS}
    if not flags.get("daemon.apps"):
        flags.pop("daemon.apps", None)
    return load(given.get("config") or find_config(environ, cwd), environ, flags)
