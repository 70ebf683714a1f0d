"""The docs as a site: built strictly, whole, and without anything from somebody else's server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_in_it_and_in_its_menu(site: Path) -> None:
    """Strict: no dead link, no dead anchor. Each page of the docs, the README, CONTRIBUTING, runbook and changes."""
    names = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "contributing", "runbook", "changelog"}
    assert names <= {path.stem for path in site.glob("*.html")}
    index = (site / "index.html").read_text()
    menu = set(re.findall(r'href="([\w-]+)\.html"', index)) | {"index"}
    assert names <= menu
    assert "Durable execution for one host" in index


@pytest.mark.slow
def test_the_changelog_has_what_is_not_released(site: Path) -> None:
    """Each fragment is on the page of changes."""
    text = (site / "changelog.html").read_text()
    fragments = [path for path in (ROOT / "changelog.d").glob("*.md") if path.name != "README.md"]
    assert text.count("<li>") >= len(fragments)
    assert "Not released yet" in text


@pytest.mark.slow
def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are its own: it is read on machines without a way out."""
    loads = re.compile(r"""<(?:script|img|link)[^>]*(?:src|href)=["'](https?:)?//[^"']+""")
    guilty = {
        f"{page.name}: {found[0]}" for page in site.glob("*.html") for found in loads.finditer(page.read_text())
        if "canonical" not in found[0]
    }  # fmt: skip
    assert guilty == set()
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"url\(['\"]?https?://", styles)
