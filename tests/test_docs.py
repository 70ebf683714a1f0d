"""The docs are held against the tree: what they name is there, and the map of the modules is whole."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAP = ROOT / "docs" / "codebase.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINES_MAX = {"docs/codebase.md": 320, "docs/flow.md": 300, "CONTRIBUTING.md": 80}
# Named in the docs and not in the tree: what is made when it is wanted, and what was decided against.
ELSEWHERE = {"bench/results/", "src/", "site/"}

CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
PATH = re.compile(r"(?:[A-Za-z.][\w.-]*/)+(?:[\w.-]+\.\w+)?(?:::\w+)?|[\w-]+\.(?:py|sql|toml)")
SPAN = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"(?:wal|actors|runtimed|tui)(?:\.\w+)+")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MAKE = re.compile(r"\bmake ([a-z]+(?:-[a-z]+)*)\b")
LINE_NUMBER = re.compile(r"\w\.(?:py|sql|toml|md):\d+|\blines? \d+\b", re.IGNORECASE)
MAP_PREFIX = re.compile(r"\| \*\*`([\w/]+)/`\*\* ")
MAP_ROW = re.compile(r"\| ((?:`(?:[\w/]+\.(?:py|sql)|[\w.]+/)`(?:, )?)+) \|")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def spans(page: Path) -> Iterator[str]:
    """What stands between backticks on a page; blocks of code are drawings, and the map's rows have a test below."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return (span for line in text.splitlines() if not MAP_ROW.match(line) for span in SPAN.findall(line))


def is_there(named: str) -> bool:
    """Whether a path is in the tree: from the root, or for a bare name anywhere; `::` adds a function in the file."""
    file, _, function = named.partition("::")
    if "/" in file:
        found = [ROOT / file] if (ROOT / file).exists() else []
    else:
        found = [*ROOT.glob(file), *ROOT.glob(f"[!.]*/**/{file}")]  # environments begin with a dot
    return any(not function or f"def {function}(" in path.read_text(encoding="utf-8") for path in found)


def is_importable(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or stands in the text of one."""
    parts = dotted.split(".")
    for size in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:size])
        module = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
        if module.is_file():
            rest = parts[size : size + 1]
            return not rest or re.search(rf"\b{rest[0]}\b", module.read_text(encoding="utf-8")) is not None
    return False


def modules_of_the_map() -> list[str]:
    """What has its place in the table of modules, as paths from the root. A folder stands for all that is in it."""
    prefix, named = "", []
    for line in MAP.read_text(encoding="utf-8").splitlines():
        if heading := MAP_PREFIX.match(line):
            prefix = heading[1]
        elif not line.startswith("|"):
            prefix = ""
        elif prefix and (row := MAP_ROW.match(line)):
            named += [f"{prefix}/{name}".replace("/./", "/") for name in SPAN.findall(row[1])]
    return named


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_paths_that_a_page_names_exist(page: Path) -> None:
    """Every file, folder and test function that a page names is in the tree."""
    named = [span for span in spans(page) if PATH.fullmatch(span) and span not in ELSEWHERE]
    assert [span for span in named if not is_there(span)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_modules_that_a_page_names_exist(page: Path) -> None:
    """Every dotted name of ours (`wal.codec`, `runtimed.Client`) leads to a module and to a name in it."""
    assert [
        span for span in spans(page) if DOTTED.fullmatch(span) and not PATH.fullmatch(span) and not is_importable(span)
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link from page to page leads to a file."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_targets_that_a_page_names_exist(page: Path) -> None:
    """Every `make` target that a page names is one."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {target for code in CODE.findall(page.read_text(encoding="utf-8")) for target in MAKE.findall(code)}
    assert named - targets == set()


def test_all_targets_are_told() -> None:
    """CONTRIBUTING names every target that `make help` shows."""
    shown = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = MAKE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert [target for target in shown if target not in named] == []


def test_the_map_is_whole() -> None:
    """Each module that is packaged has its place in the map, once; a package's plain `__init__.py` needs none."""
    named = modules_of_the_map()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    there = [path for package in packages for path in (ROOT / package).rglob("*") if path.suffix in {".py", ".sql"}]
    modules = {name_of(path) for path in there if path.name != "__init__.py"} | {"runtimed/__init__.py"}
    folders = tuple(name for name in named if name.endswith("/"))
    nowhere = sorted(name for name in modules - set(named) if not name.startswith(folders))
    assert nowhere == [], "give each of these its place in docs/codebase.md"
    assert [name for name in named if not (ROOT / name).exists()] == [], "these are in the map, and not in the tree"
    assert len(named) == len(set(named))


def test_contracts_are_told_by_their_names() -> None:
    """The map names every import contract as pyproject.toml does."""
    names = re.findall(r'^name = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = MAP.read_text(encoding="utf-8")
    assert [name for name in names if name != "runtimed-daemon" and f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_line_numbers(page: Path) -> None:
    """Pages name modules and invariants; a line's number would be wrong tomorrow."""
    assert LINE_NUMBER.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", LINES_MAX)
def test_pages_stay_short(name: str) -> None:
    """A page that must be read whole has a bound."""
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= LINES_MAX[name]
