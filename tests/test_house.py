"""The house's rules that no linter knows."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [name for name in ("runtimed", "actors", "wal", "tui") if (ROOT / name / "__init__.py").exists()]
SOURCES = [*PACKAGES, "examples", "bench", "requirements", "systemd", "tests"]
FUNCTION_LINES_MAX = 70
README_LINES_MAX = 150

SQLITE_MODULES = {"apsw", "sqlite3", "aiosqlite"}
SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX)|PRAGMA\s+\w+)\b",
    re.DOTALL,
)
SQL_ALLOWED = {"tui/offline.py"}  # reads the file when the daemon is down
# Written in halves, so that this file does not hold the words it looks for.
INDEX_WORDS = re.compile("|".join(["py" + r"pi\.org", "python" + r"hosted", "--index" + "-url", "--find" + "-links"]))
UNFINISHED = re.compile("|".join([r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", "NotImplemented" + "Error"]))
LINE_NUMBER = re.compile(r"\w\.(py|sql|toml):\d+|\blines? \d+\b")


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def text_files() -> Iterator[tuple[Path, str]]:
    """Everything that a clone holds as text, the orders of the shop apart."""
    folders = [*SOURCES, "docs", "config", "systemd", "changelog.d", ".ci"]
    paths = {path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()}
    paths |= {path for path in ROOT.iterdir() if path.is_file()}
    for path in sorted(paths):
        # Beside us, tests that are the first to import a module write its bytecode under names that do not last.
        if path.suffix not in {".csv", ".db", ".gz"} and not {"results", "__pycache__"} & set(path.parts):
            yield path, path.read_text(encoding="utf-8", errors="replace")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_functions_fit_a_screen() -> None:
    """No function is longer than 70 lines: what does not fit a screen wants a name for its parts."""
    too_long = [
        f"{name_of(path)} {function.name}: {length} lines"
        for path in python_files(*SOURCES)
        for function in functions(tree_of(path))
        if (length := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert too_long == []


def test_a_module_says_its_job_first() -> None:
    """The first statement of every module is its docstring (test modules are named after what they test)."""
    mute = [
        name_of(path) for path in python_files(*PACKAGES, "examples", "bench") if not ast.get_docstring(tree_of(path))
    ]
    assert mute == []


def test_a_test_says_its_promise() -> None:
    """The docstring of a test is the promise it keeps."""
    mute = [
        f"{name_of(path)} {function.name}"
        for path in python_files("tests")
        for function in functions(tree_of(path))
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert mute == []


def imported(tree: ast.Module) -> set[str]:
    """The top-level names that a module imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found


def docstrings(tree: ast.Module) -> set[int]:
    """The identities of the nodes that are docstrings: a word about SQL is not SQL."""
    owners = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef)] + list(functions(tree))
    bodies = [owner.body[0] for owner in owners if owner.body]
    return {id(first.value) for first in bodies if isinstance(first, ast.Expr)}


def test_only_the_journal_speaks_sql() -> None:
    """SQL and SQLite's modules stay in `wal/` (and in the dashboard's one offline reader)."""
    guilty = []
    for path in python_files(*(package for package in PACKAGES if package != "wal")):
        if name_of(path) in SQL_ALLOWED:
            continue
        tree = tree_of(path)
        guilty += [f"{name_of(path)} imports {module}" for module in imported(tree) & SQLITE_MODULES]
        skipped = docstrings(tree)
        guilty += [
            f"{name_of(path)} says {node.value[:60]!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in skipped and SQL.search(node.value)
        ]
    assert guilty == []


def test_no_pickle_no_orm() -> None:
    """Values are data, never code: nothing imports pickle, marshal, shelve or an ORM."""
    unwanted = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "sqlalchemy"}
    assert [name_of(path) for path in python_files(*PACKAGES) if imported(tree_of(path)) & unwanted] == []


def test_all_packages_are_under_the_rules() -> None:
    """Each import package is packaged, typed and layered; a new one cannot be forgotten."""
    tool = pyproject()["tool"]
    assert set(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(PACKAGES)
    assert set(tool["mypy"]["packages"]) >= set(PACKAGES)
    assert set(tool["importlinter"]["root_packages"]) == set(PACKAGES)
    layers = next(contract for contract in tool["importlinter"]["contracts"] if contract["type"] == "layers")
    assert set(layers["layers"]) == set(PACKAGES)


def test_a_bound_and_an_exception_give_their_reason() -> None:
    """Each dependency and each exception from the lint rules carries its reason on the same line."""
    mute = []
    inside = ""
    for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines():
        if re.match(r'("[^"]+"|[\w-]+) = \[$', line):
            inside = line.split(" ")[0]
        elif line == "]":
            inside = ""
        elif inside in {"dependencies", "dev", "bench", "ignore", '"tests/**"'} and "#" not in line:
            mute.append(line.strip())
    assert mute == []


@pytest.mark.parametrize("name", ["runtime", "dev", "bench"])
def test_requirements_are_pinned_and_hashed(name: str) -> None:
    """Every requirement is one exact version with hashes, and the files name no host and no path."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    entries = text.replace("\\\n", " ").strip().splitlines()
    assert [
        entry for entry in entries if not re.match(r"[\w.-]+==[\w.]+( ;[^#]*)? +--hash=sha256:[0-9a-f]{64}", entry)
    ] == []
    assert "//" not in text
    assert "#" not in text


def test_what_is_asked_for_is_pinned() -> None:
    """Each dependency of pyproject.toml is in the pinned files: none was forgotten after a change."""
    project = pyproject()
    pinned = {
        name: set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text(), flags=re.MULTILINE))
        for name in ("runtime", "dev", "bench")
    }
    runtime = {re.split(r"[<>=]", wanted)[0] for wanted in project["project"]["dependencies"]}
    groups = {
        group: {re.split(r"[<>=]", one)[0] for one in all_} for group, all_ in project["dependency-groups"].items()
    }
    assert runtime <= pinned["runtime"] <= pinned["dev"]
    assert groups["dev"] <= pinned["dev"]
    assert groups["bench"] <= pinned["bench"]


def test_the_project_speaks_of_itself_alone() -> None:
    """No file names the folder or the interpreter of the machine it was written on, or a package index."""
    places = {str(ROOT), str(Path.home()), sys.prefix, str(Path(sys.base_prefix))}
    places = {place for place in places if place.count("/") >= 2 and not place.startswith("/usr")}
    guilty = [
        f"{name_of(path)}: {word}"
        for path, text in text_files()
        for word in [*(place for place in places if place in text), *INDEX_WORDS.findall(text)]
        if not (path.suffix == ".py" and word.startswith("--"))  # pin.py tells its tool not to write them
    ]
    assert guilty == []


def test_nothing_is_left_for_later() -> None:
    """No file holds a note that something is still to be written."""
    assert [name_of(path) for path, text in text_files() if UNFINISHED.search(text)] == []


def test_docs_name_no_line_numbers() -> None:
    """Docs name modules and invariants; line numbers would be wrong tomorrow."""
    docs = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    assert [name_of(path) for path in docs if LINE_NUMBER.search(path.read_text(encoding="utf-8"))] == []


def test_the_readme_is_short() -> None:
    """The README is no manual: at most 150 lines."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES_MAX
