"""Strict configuration: layers of keys (file, environment, flags) made into Structs, with errors that name the place.

Nothing here knows which settings there are; `runtimed.settings` brings the Structs, and rules that a type cannot say.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from wal.errors import RuntimedError


class ConfigError(RuntimedError):
    """The configuration cannot be used."""

    code = "config"
    exit_code = 78


class Said(NamedTuple):
    """One value and where it was said; `text` when it came as text and is to be read by the key's type."""

    where: str
    value: Any
    text: bool = False


Layer = dict[str, Any]
"""Nested tables whose leaves are `Said`."""

NESTING_MAX = 100
"""How deep tables may be in one another: far more than any setting has, far less than the interpreter's stack."""

Rules = Mapping[str, Callable[[Any], Any]]
"""By dotted key: the value as it is to be read; raises ValueError with what was expected."""


# --- the layers -----------------------------------------------------------------------------------------------------


def read_file(file: Path) -> Layer:
    """A TOML file as a layer. Raises `ConfigError`."""
    try:
        table = tomllib.loads(file.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file", hint="Name an existing file with --config.") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start}: not UTF-8, which TOML must be") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: found too many lists or tables in one another, expected fewer") from None
    except ValueError:  # the interpreter's bound on digits
        raise ConfigError(f"{file}: found a number of thousands of digits, expected none so long") from None
    return _mark_all(table, str(file))


def read_environ(environ: Mapping[str, str], prefix: str) -> Iterator[tuple[list[str], Said]]:
    """The path and value of each variable `PREFIX` + `SECTION__KEY`."""
    for variable in sorted(environ):
        if variable.startswith(prefix):
            yield (
                variable.removeprefix(prefix).lower().split("__"),
                Said(f"${variable}", environ[variable], text=True),
            )


def put(table: Layer, parts: list[str], said: Said) -> None:
    """Set one leaf. A variable cannot carry case or dashes in a table's name, so it also finds a name that has them.
    Raises `ConfigError`."""
    if len(parts) > NESTING_MAX:
        raise _too_deep(said.where, tuple(parts))
    for part in parts[:-1]:
        part = _alike(table, part)
        below = table.setdefault(part, {})
        if not isinstance(below, dict):
            table[part] = below = {}
        table = below
    table[_alike(table, parts[-1])] = said


def _alike(table: Layer, name: str) -> str:
    return next((have for have in table if have.lower().replace("-", "_") == name), name)


def _mark_all(table: Mapping[str, Any], where: str, at: tuple[str, ...] = ()) -> Layer:
    """Tables stay tables; every leaf is told where it was said."""
    if len(at) > NESTING_MAX:
        raise _too_deep(where, at)
    return {
        key: _mark_all(each, where, (*at, key)) if isinstance(each, dict) else Said(where, each)
        for key, each in table.items()
    }


# --- from layers to values --------------------------------------------------------------------------------------------


def build(kind: Any, table: Layer, rules: Rules, at: tuple[str, ...] = (), skip: frozenset[str] = frozenset()) -> Any:
    """A Struct from its table, field by field, so that an error knows its key and its source. Raises `ConfigError`."""
    fields = {field.name: field for field in msgspec.structs.fields(kind) if field.name not in skip}
    for key, value in table.items():
        if key not in fields:
            raise _unknown_key(_first_said(value), (*at, key), sorted(fields))
    values = {key: _value(fields[key].type, value, rules, (*at, key)) for key, value in table.items()}
    missing = [name for name, field in fields.items() if field.required and name not in values]
    if missing:
        raise ConfigError(f"{_first_said(table).where}: {_dotted((*at, missing[0]))}: missing; it has no default")
    return kind(**values)


def _value(kind: Any, value: Any, rules: Rules, at: tuple[str, ...]) -> Any:
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    inner = None if is_struct else _inner_of(kind)
    if not is_struct and inner is None:
        said = value if isinstance(value, Said) else Said(_first_said(value).where, _plain(value))
        return _leaf(kind, said, rules, at)
    if isinstance(value, Said):
        value = _as_table(value, at)
    if is_struct:
        return build(kind, value, rules, at)
    return {name: _value(inner, each, rules, (*at, name)) for name, each in value.items()}


def _as_table(said: Said, at: tuple[str, ...]) -> Layer:
    """A whole table in one variable is JSON; anything else that is no table is wrong."""
    if said.text:
        try:
            table = msgspec.json.decode(said.value, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):  # the last: a byte that is not UTF-8
            raise _wrong(said, at, "a table of keys (JSON, in a variable)") from None
        return _mark_all(table, said.where, at)
    raise _wrong(said, at, "a table of keys")


def _leaf(kind: Any, said: Said, rules: Rules, at: tuple[str, ...]) -> Any:
    rule = rules.get(_dotted(at))
    try:
        value = msgspec.convert(_read(said, kind), kind)
        if isinstance(value, float) and value != value:
            raise _wrong(said, at, _expected(kind))
        return value if rule is None else rule(value)
    except msgspec.ValidationError:
        raise _wrong(said, at, _expected(kind)) from None
    except RecursionError:
        raise _wrong(said, at, f"{_expected(kind)}, and nothing nested so deep") from None
    except ValueError as error:
        raise _wrong(said, at, str(error)) from None


def _read(said: Said, kind: Any) -> Any:
    """A value from the environment is text: JSON where the key is not text, and commas do for a list of texts."""
    if not said.text:
        return said.value
    kinds = _kinds(kind)
    if kinds & {"StrType", "LiteralType"}:
        return said.value
    try:
        return msgspec.json.decode(said.value)
    except msgspec.DecodeError:
        if "VarTupleType" in kinds:
            return [part.strip() for part in said.value.split(",") if part.strip()]
        return said.value


def _inner_of(kind: Any) -> Any:
    """The value type of a table with free names, or None; free-form options stay as they are."""
    return get_args(kind)[1] if get_origin(kind) is dict and get_args(kind)[1] is not Any else None


def _parts(kind: Any) -> tuple[Any, ...]:
    from msgspec import inspect  # only read to describe a type or to read the environment

    info = inspect.type_info(kind)
    return info.types if isinstance(info, inspect.UnionType) else (info,)


def _kinds(kind: Any) -> set[str]:
    """The names of the types that a key takes, without the descriptions that may wrap them."""
    infos, names = list(_parts(kind)), set()
    while infos:
        info = infos.pop()
        name = type(info).__name__
        infos += [info.type] if name == "Metadata" else info.types if name == "UnionType" else []
        names.add(name)
    return names


# --- what is wrong, in words ------------------------------------------------------------------------------------------


def _wrong(said: Said, at: tuple[str, ...], expected: str) -> ConfigError:
    return ConfigError(f"{said.where}: {_dotted(at)}: found {_show(said.value)}, expected {expected}")


def _too_deep(where: str, at: tuple[str, ...]) -> ConfigError:
    return ConfigError(
        f"{where}: {_dotted(at[:4])}: found more than {NESTING_MAX} tables in one another, expected fewer"
    )


def _unknown_key(said: Said, at: tuple[str, ...], known: list[str]) -> ConfigError:
    import difflib  # only needed to explain a mistake

    near = difflib.get_close_matches(at[-1].lower(), known, n=1, cutoff=0.6)
    question = f" Did you mean {near[0]}?" if near else ""
    return ConfigError(f"{said.where}: {_dotted(at)}: unknown key.{question} Expected one of: {', '.join(known)}")


def _expected(kind: Any) -> str:
    return " or ".join(words for part in _parts(kind) if (words := _in_words(part)))


def _in_words(part: Any) -> str:
    name = type(part).__name__
    if name in ("IntType", "FloatType"):
        low = f" from {part.ge:,}" if part.ge is not None else " above 0" if part.gt is not None else ""
        high = f" to {part.le:,}" if part.le is not None else ""
        return ("a whole number" if name == "IntType" else "a number") + low + high
    if name == "StrType":
        return "text" if part.max_length is None else f"text of {part.min_length or 0} to {part.max_length} characters"
    if name == "LiteralType":
        return "one of " + ", ".join(f'"{value}"' for value in part.values)
    if name == "VarTupleType":
        return f"a list, each {_in_words(part.item_type)}"
    if name == "Metadata":
        return str(part.extra_json_schema["description"])
    return {"BoolType": "true or false", "DictType": "a table", "NoneType": ""}.get(name, "another type")


def _show(value: Any) -> str:
    kinds = {str: "text", bool: "a truth value", int: "a number", float: "a number", dict: "a table", list: "a list"}
    if isinstance(value, str):
        shown = '"' + value.encode("unicode_escape").decode() + '"'
    else:
        shown = str(value).lower() if isinstance(value, bool) else _repr(value)
    return f"{shown if len(shown) <= 80 else shown[:77] + '...'} ({kinds.get(type(value), type(value).__name__)})"


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # the interpreter's bound on digits, which a hexadecimal number evades until it is shown
        return "thousands of digits"


def _first_said(value: Any) -> Said:
    while isinstance(value, dict):
        value = next(iter(value.values()), Said("configuration", None))
    return value if isinstance(value, Said) else Said("configuration", value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value.value if isinstance(value, Said) else value


def _dotted(at: tuple[str, ...]) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part) else repr(part)[:80] for part in at)
