"""The options of a connector's kind, read strictly: each kind says them as a Struct, and what does not fit is named.

Raises `ConfigError` with `connectors.NAME.options.KEY` and what was expected there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from runtimed.config_layers import ConfigError

Options = TypeVar("Options", bound=msgspec.Struct)

Url = Annotated[str, Meta(min_length=8, max_length=2000, pattern="^https?://[^/?#]")]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
Seconds = Annotated[float, Meta(gt=0.0, le=86_400.0)]
SECRET = "secret:"

_AT_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*)`")
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*)`")


def read_options(name: str, options: Mapping[str, Any], wanted: type[Options]) -> Options:
    """`options` of connector `name` as `wanted`, whose unknown fields must be forbidden. Raises ConfigError."""
    try:
        return msgspec.convert(options, wanted)
    except msgspec.ValidationError as error:
        match = _AT_PATH.fullmatch(str(error))
        what, path = (match["what"], match["path"]) if match else (str(error), None)
        names = [field.name for field in msgspec.structs.fields(wanted)]
        hint = f"The options of this kind: {', '.join(names)}."
        if unknown := _UNKNOWN.match(what):
            near = get_close_matches(unknown["field"], names, 1)
            path = f"{path}.{unknown['field']}" if path else unknown["field"]
            what = "there is no such option" + (f"; did you mean {near[0]}?" if near else "")
        elif missing := _MISSING.match(what):
            path = f"{path}.{missing['field']}" if path else missing["field"]
            what = "it is needed and not there"
        raise wrong(name, path or "", what, hint=hint) from None


def wrong(name: str, option: str, what: str, *, hint: str | None = None) -> ConfigError:
    """The error for one option that cannot be used."""
    return ConfigError(f"connectors.{name}.options{'.' + option if option else ''}: {what}", hint=hint)


def key_of(name: str, key: str | None, default: str | None = None) -> str:
    """The dedup key's path, which every kind must have. Raises ConfigError."""
    if found := key or default:
        return found
    raise ConfigError(f"connectors.{name}.key: it is needed: which field tells two records apart", hint='key = "id"')


def command_of(name: str, command: Sequence[str]) -> Sequence[str]:
    """The command of a kind that runs one. Raises ConfigError if there is none."""
    if command and command[0].strip():
        return command
    raise ConfigError(f"connectors.{name}.command: it is needed: the program to run", hint='command = ["tap-x"]')


def revealed(value: str, secret: Callable[[str], str] | None) -> str:
    """What `secret:NAME` stands for; any other text is meant as it is. Raises SecretMissing."""
    if not value.startswith(SECRET):
        return value
    if secret is None:
        raise ConfigError(f"{value}: this runtime has no secrets", hint="Open it with a place for secrets.")
    return secret(value)
