"""Finds the user's apps by module or file name, and turns every mistake on the way into one clear line.

The folder searched is appended to `sys.path`, behind everything that is installed, so that no file of a user's can take
the place of a library's module or of one of ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from runtimed.siblings import OURS, check_siblings, intruder
from wal.errors import RuntimedError

if TYPE_CHECKING:
    from actors.flow.definitions import App

__all__ = ["LoadError", "check_siblings", "load_apps"]

MESSAGE_CHARACTERS_MAX = 500
NAMES_SHOWN_MAX = 12


class LoadError(RuntimedError):
    """A user's code cannot be loaded."""

    code = "load"
    exit_code = 78
    hint = "Name it as module:app, path/to/flows.py or path/to/flows.py:app."


def load_apps(names: Sequence[str], cwd: Path) -> list[App]:
    """The apps that these names mean (`module:app`, `flows.py`, `path/flows.py:app`), each once, in order.

    Raises `LoadError`, with file and line of the user's mistake where there is one.
    """
    apps: dict[int, App] = {}
    for name in names:
        module_name, _, attribute = _split(name)
        module = (
            _import_file(name, cwd / module_name) if module_name.endswith(".py") else _import(name, module_name, cwd)
        )
        app = _named(name, module, attribute) if attribute else _only(name, module)
        _check(name, app)
        apps[id(app)] = app
    return list(apps.values())


def _split(name: str) -> tuple[str, str, str]:
    """Module or file, and the attribute after the last colon (a path may hold colons too)."""
    if name.endswith(".py") or ":" not in name:
        return name, "", ""
    return name.rpartition(":")[0], ":", name.rpartition(":")[2]


# --- importing ------------------------------------------------------------------------------------------------------


def _import(name: str, module_name: str, cwd: Path) -> ModuleType:
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise LoadError(f"{name!r} is neither a module's name nor a file that ends in .py")
    _refuse_reserved(name, module_name)
    _append(cwd)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise LoadError(f"there is no module {error.name!r} in {cwd} or among the installed packages") from None
        raise _blame(name, error) from error
    except (Exception, SystemExit) as error:  # whatever a user's module raises is told to the user
        raise _blame(name, error) from error


def _import_file(name: str, file: Path) -> ModuleType:
    file = file.resolve()
    if not file.is_file():
        raise LoadError(f"there is no file {file}")
    root, module_name = _place(file)
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise LoadError(f"{file}: its name cannot be a module's name", hint="Use letters, digits and underscores.")
    _refuse_reserved(name, module_name)
    if module_name in sys.stdlib_module_names:
        raise LoadError(f"{file} has the name of a module of Python itself: rename it")
    _append(root)
    loaded = sys.modules.get(module_name)
    if loaded is not None:
        return _same(loaded, file)
    return (
        _execute(name, module_name, file) if "." not in module_name else _same(_import(name, module_name, root), file)
    )


def _execute(name: str, module_name: str, file: Path) -> ModuleType:
    """Import this very file, wherever else on the path there is one of its name."""
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise LoadError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's module raises is told to the user
        del sys.modules[module_name]
        raise _blame(name, error) from error
    return module


def _same(module: ModuleType, file: Path) -> ModuleType:
    origin = getattr(module, "__file__", None)
    if origin is not None and Path(origin).resolve() == file:
        return module
    raise LoadError(f"{file} has the name of a module that is loaded already, {module.__name__} ({origin}): rename it")


def _place(file: Path) -> tuple[Path, str]:
    """The folder to search and the module's full name: a file inside a package is imported as a part of it."""
    parts, folder = [file.stem], file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _refuse_reserved(name: str, module_name: str) -> None:
    top = module_name.partition(".")[0]
    if top in OURS:
        raise LoadError(f"{name!r}: the name {top!r} belongs to a package of runtimed: rename the file or folder")


def _append(folder: Path) -> None:
    found = intruder(folder)
    if found is not None:
        raise LoadError(
            f"{found} has the name of a package of runtimed, which your code would get instead: rename it",
            hint=f"The names {', '.join(OURS)} are taken.",
        )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


# --- finding the app ------------------------------------------------------------------------------------------------


def _named(name: str, module: ModuleType, attribute: str) -> App:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise LoadError(f"{_origin(module)} has no {attribute!r}; {_contents(module)}")
        found = getattr(found, part)
    if not isinstance(found, _app_class()):
        raise LoadError(f"{name}: {attribute!r} is {_kind(found)}, not an App; {_contents(module)}")
    return found


def _only(name: str, module: ModuleType) -> App:
    apps = _apps(module)
    distinct = {id(app) for app in apps.values()}
    if len(distinct) == 1:
        return next(iter(apps.values()))
    if not apps:
        raise LoadError(
            f"no App in {_origin(module)}; {_contents(module)}", hint='Make one: app = runtimed.App("name").'
        )
    choices = ", ".join(f"{name}:{attribute}" for attribute in apps)
    raise LoadError(f"{_origin(module)} has several Apps", hint=f"Say which: {choices}.")


def _check(name: str, app: App) -> None:
    """Resolve every annotation now, so that a wrong declaration shows at load."""
    try:
        app.check()
    except RuntimedError as error:
        raise LoadError(f"{name}: {error}", hint=error.hint) from error


def _apps(module: ModuleType) -> dict[str, App]:
    app_class = _app_class()
    return {attribute: value for attribute, value in vars(module).items() if isinstance(value, app_class)}


def _app_class() -> type[App]:
    from actors.flow.definitions import App

    return App


def _contents(module: ModuleType) -> str:
    apps = _apps(module)
    if apps:
        return f"its Apps are: {', '.join(apps)}"
    names = [
        f"{name} ({_kind(value)})"
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    ]
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return f"it has {', '.join(names[:NAMES_SHOWN_MAX])}{more}" if names else "it is empty"


def _kind(value: Any) -> str:
    kind = type(value).__name__
    named = {"type": "a class", "function": "a function", "module": "a module"}
    return named.get(kind, f"{'an' if kind[0] in 'AEIOaeio' else 'a'} {kind}")


def _origin(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or module.__name__)


# --- blaming --------------------------------------------------------------------------------------------------------


def _blame(name: str, error: BaseException) -> LoadError:
    """What was raised while a user's module ran, in one line with the place in the user's own code."""
    text = " ".join(str(error).split())[:MESSAGE_CHARACTERS_MAX]
    place = _line_of(error)
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        text = str(error.msg)
    hint = (
        error.hint if isinstance(error, RuntimedError) and error.hint else f"Mend it there; {name!r} was to be loaded."
    )
    return LoadError(f"{place}: {kind}: {text}" if text else f"{place}: {kind}", hint=hint)


def _line_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = list(_frames(error.__traceback__))
    users = [(file, line) for file, line in frames if not is_library(file)]
    file, line = (users or frames or [("?", 0)])[-1]
    return f"{file}:{line}"


def _frames(trace: TracebackType | None) -> list[tuple[str, int]]:
    frames = []
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return frames


def is_library(file: str) -> bool:
    """Python, installed packages, and our own packages are not where a user looks for a mistake."""
    if file.startswith("<") or "/site-packages/" in file:
        return True
    libraries = [Path(importlib.__file__).parent.parent, *(Path(__file__).parent.parent / name for name in OURS)]
    return any(Path(file).is_relative_to(folder) for folder in libraries)
