"""What mkdocs is told of our pages: their order, those that live elsewhere in the tree, and where links lead then."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "runbook.md": "ops/runbook.md",
}
"""Pages of the site that are not in docs/, so that each text is in one place."""
ORDER = [
    "index.md", "workflows.md", "terminal.md", "approvals.md", "connectors.md", "operating.md", "data-care.md",
    "security.md", "runbook.md", "flow.md", "journal.md", "design.md", "codebase.md", "contributing.md", "changelog.md",
]  # fmt: skip
"""How a reader comes to them; what is not named here comes last, by name."""
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)]*)?\))")


def pages() -> list[str]:
    """All pages in order."""
    there = {path.name for path in (ROOT / "docs").glob("*.md")} | set(ELSEWHERE) | {"changelog.md"}
    return [name for name in ORDER if name in there] + sorted(there - set(ORDER))


def changelog() -> str:
    """The changelog, with the fragments of what is not released yet at its head."""
    fragments = sorted(path for path in (ROOT / "changelog.d").glob("*.md") if path.name != "README.md")
    by_kind: dict[str, list[str]] = {}
    for path in fragments:
        kind = path.name.split(".")[-2]
        by_kind.setdefault(kind, []).append("- " + path.read_text(encoding="utf-8").strip().replace("\n", "\n  "))
    parts = [f"### {kind.capitalize()}\n\n" + "\n".join(lines) for kind, lines in sorted(by_kind.items())]
    head, _, rest = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n## ")
    return "\n\n".join([head.strip(), "## Not released yet", *parts, *(["## " + rest] if rest else [])]) + "\n"


def on_config(config: Any) -> Any:
    """The order of the pages."""
    config["nav"] = pages()
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that live elsewhere."""
    for name, source in ELSEWHERE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "changelog.md", content=changelog()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Links as they are written in the tree, as links of the site. What leads out of it stays, and fails the build."""
    source = Path(ELSEWHERE.get(page.file.src_uri, f"docs/{page.file.src_uri}"))
    by_source = {path: name for name, path in ELSEWHERE.items()} | {"CHANGELOG.md": "changelog.md"}

    def lead(match: re.Match[str]) -> str:
        path = (ROOT / source.parent / match[2]).resolve()
        if not path.is_relative_to(ROOT):
            return match[0]
        named = path.relative_to(ROOT).as_posix()
        target = by_source.get(named) or (named.removeprefix("docs/") if named.startswith("docs/") else match[2])
        return f"{match[1]}{target}{match[3]}"

    return LINK.sub(lead, markdown)
