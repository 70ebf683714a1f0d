"""The core stays pure: no event loop, no clock, no chance, no I/O, directly or through another of our modules."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import actors.flow

OURS = ("actors", "wal", "runtimed", "tui")
FORBIDDEN = {
    "apsw", "anyio", "asyncio", "io", "multiprocessing", "os", "pathlib", "random", "secrets", "select", "selectors",
    "socket", "sqlite3", "subprocess", "threading", "time", "trio",
}  # fmt: skip


def imports_of(path: Path) -> Iterator[str]:
    """The modules that a file imports when it runs; what only a type checker sees does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a name out of a module
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def test_the_core_imports_no_event_loop_clock_chance_or_io() -> None:
    """All that the core imports, transitively within our packages, is free of what could differ in a replay."""
    folder = Path(next(iter(actors.flow.__path__)))
    todo = sorted(folder.glob("*.py"))
    seen: set[Path] = set()
    found = []
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports_of(path):
            if name.partition(".")[0] in FORBIDDEN:
                found.append(f"{path.name} imports {name}")
            elif name.partition(".")[0] in OURS and (target := file_of(name)) is not None:
                todo.append(target)
    assert found == []
    assert {path.name for path in seen} >= {"driver.py", "fibers.py", "records.py", "errors.py"}
