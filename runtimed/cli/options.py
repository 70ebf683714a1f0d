"""The options that every command which talks to a daemon takes, before the noun or after the verb."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from runtimed.cli.shell import Options, Shell

F = TypeVar("F", bound=Callable[..., Any])

_META = "runtimed.cli.options"


class Seconds(click.FloatRange):
    """A number of seconds, which is finite: `nan` is in every range, and `inf` in those that are open."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Note a given value. After the verb is parsed later and so wins; the environment never wins over a word typed."""
    name = str(parameter.name)
    source = context.get_parameter_source(name)
    if value is None or source is click.core.ParameterSource.DEFAULT:
        return
    typed = source is not click.core.ParameterSource.ENVIRONMENT
    given: dict[str, tuple[Any, bool]] = context.meta.setdefault(_META, {})
    if typed or not given.get(name, (None, False))[1]:
        given[name] = (value, typed)


def _option(*names: str, **attributes: Any) -> Callable[[F], F]:
    return click.option(*names, callback=_keep, expose_value=False, **attributes)


_PRINTING = [
    _option("-o", "--output", type=click.Choice(["text", "json", "jsonl", "id"]), help="How data is printed."),
    _option("--json", "as_json", is_flag=True, default=None, help="The same as -o json."),
    _option("--no-color", is_flag=True, default=None, help="No colours; NO_COLOR does the same."),
    _option("-q", "--quiet", is_flag=True, default=None, help="Nothing on stderr but errors."),
    _option("-v", "--verbose", is_flag=True, default=None, help="More on stderr."),
]
_LATER = click.Path(readable=False)
"""A place: whether this user may use it is said by what uses it, which knows what that means."""
_PLACE = [
    _option("--socket", type=_LATER, metavar="FILE", envvar="RUNTIMED_SOCKET", help="The daemon's unix socket."),
    _option("--url", metavar="URL", envvar="RUNTIMED_URL", help="The daemon's address, with --token-file."),
    _option(
        "--token-file",
        type=click.Path(),
        metavar="FILE",
        envvar="RUNTIMED_TOKEN_FILE",
        help="A file with a token: who shows one is seen as that.",
    ),
    _option(
        "--data-dir",
        type=_LATER,
        metavar="DIR",
        help="The data folder: its socket, or its file when the daemon is down.",
    ),
]
_TIMEOUT = _option("--timeout", type=Seconds(0.0, 86_400.0 * 366), metavar="SECONDS", help="The longest to wait.")
_FOLDER = _option("--data-dir", type=_LATER, metavar="DIR", help="The data folder.")


def global_options(command: F) -> F:
    """Add the options to a command or group; `shell_of` has what was given."""
    for option in reversed([*_PRINTING, *_PLACE, _TIMEOUT]):
        command = option(command)
    return command


def printing_options(command: F) -> F:
    """Those that say how it is printed, for a command that asks no daemon."""
    for option in reversed(_PRINTING):
        command = option(command)
    return command


def folder_option(command: F) -> F:
    """`--data-dir` for a command that reads the settings itself; `folder_of` has what was given."""
    return _FOLDER(command)


def folder_of(context: click.Context) -> str | None:
    """The data folder that was named, before the noun or after the verb."""
    noted: dict[str, tuple[Any, bool]] = context.meta.get(_META, {})
    folder: str | None = noted.get("data_dir", (None, False))[0]
    return folder


def shell_of(context: click.Context) -> Shell:
    """What the given options amount to."""
    noted: dict[str, tuple[Any, bool]] = context.meta.get(_META, {})
    place = [name for name in ("socket", "url", "data_dir") if noted.get(name, (None, False))[1]]
    given = {
        name: value
        for name, (value, typed) in noted.items()
        if typed
        or not place
        or name not in ("socket", "url", "token_file")  # a place that was typed sets aside the environment's
    }
    if given.pop("as_json", False):
        given["output"] = "json"
    return Shell(Options(**given))


def with_shell(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command's function whose first argument is the `Shell` of its options."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(shell_of(click.get_current_context()), *args, **kwargs)

    return global_options(call)


SEQ = click.IntRange(0, 2**63 - 1)
"""The seq of a record: SQLite's integers end there."""
reason_option = click.option("--reason", metavar="TEXT", help="Why; it is recorded.")
key_option = click.option(
    "--idempotency-key", metavar="KEY", help="Repeating a command with the same key has no second effect."
)
watch_option = click.option("-w", "--watch", is_flag=True, help="Show it again every two seconds.")


def page_options(function: F) -> F:
    """`--limit`, `--cursor` and `--all` of a list."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="All pages."),
        click.option("--cursor", metavar="CURSOR", help="Where the page before ended."),
        click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="How many."),
    ):
        function = option(function)
    return function
