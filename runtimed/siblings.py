"""Makes sure that `actors`, `wal` and `tui` are ours: short names, which a file in a user's folder may take as well.

Standard library only, and none of our own packages: it has to run before one of them is imported.
"""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

OURS = ("actors", "wal", "tui", "runtimed")
_HOME = Path(__file__).resolve().parent.parent


def is_ours(spec: ModuleSpec | None) -> bool:
    """Whether a module found is the package of that name that lies beside this one."""
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent.parent == _HOME


def check_siblings() -> None:
    """Raise ImportError, with a sentence that says which file is in the way, if a package of ours is shadowed."""
    for name in ("actors", "wal", "tui"):
        spec = find_spec(name)
        if is_ours(spec) or (name == "tui" and (spec is None or not (_HOME / "tui").is_dir())):
            continue
        found = "nothing" if spec is None else spec.origin or str(list(spec.submodule_search_locations or [])[:1])
        raise ImportError(
            f"runtimed needs its own package {name!r}, but Python finds {found}: "
            "rename that file, or start with `python -P -m runtimed`"
        )


def intruder(folder: Path) -> Path | None:
    """A file or package in a user's folder that has the name of a package of ours; None if there is none."""
    for name in OURS:
        for candidate in (folder / f"{name}.py", folder / name / "__init__.py"):
            if candidate.is_file() and candidate.resolve().parent.parent != _HOME:
                return candidate if candidate.name != "__init__.py" else candidate.parent
    return None
