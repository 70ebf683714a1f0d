"""What the README shows is true: its workflow runs as it stands, and its lines are commands that exist."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from actors.errors import RunFailed
from runtimed.cli.main import cli
from runtimed.loading import load_apps
from runtimed.virtual import VirtualRuntime

pytest_plugins = ["runtimed.testing"]

ROOT = Path(__file__).resolve().parent.parent
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "runtimed/cli/first/README.md")}
LINES_MAX = 150
BANK = """
said = []

async def charge(cents, key):
    said.append(("charge", cents))
    return "ch-1"

async def refund(charge_id, key):
    said.append(("refund", charge_id))
"""


@pytest.fixture
def flows(tmp_path: Path) -> Iterator[Any]:
    """The README's workflow as a module of its own, beside the client of a bank that only listens."""
    code = re.findall(r"```python\n(.*?)```", PAGES["README.md"], re.DOTALL)
    assert len(code) == 1
    (tmp_path / "readme_flows.py").write_text(code[0])
    (tmp_path / "bank.py").write_text(BANK)
    path = list(sys.path)
    load_apps(["readme_flows.py"], tmp_path)
    yield sys.modules["readme_flows"]
    sys.path[:] = path
    for name in ("readme_flows", "bank"):
        del sys.modules[name]


@pytest.mark.parametrize(("approve", "said"), [(True, ["charge"]), (False, ["charge", "refund"])])
async def test_the_workflow_runs_as_it_stands(
    runtime: VirtualRuntime, flows: Any, approve: bool, said: list[str]
) -> None:
    """Approved it waits a day and ends with the charge; refused, the charge is refunded."""
    handle = await runtime.start(flows.checkout, flows.Order("42", 99_000))
    asked = await runtime.asked(handle.id)
    await runtime.decide(asked.id, approve=approve, by="kim", reason="known")
    if approve:
        assert await handle.result() == "ch-1"
    else:
        with pytest.raises(RunFailed, match="refused by kim: known"):
            await handle.result()
    assert [kind for kind, _ in flows.bank.said] == said


def command_lines() -> list[str]:
    """Each line that begins with `runtimed`, without its remark."""
    found = [re.findall(r"^(?:\$ |    )(runtimed .*)$", text, re.MULTILINE) for text in PAGES.values()]
    return sorted({re.split(r" {2,}#| && ", line)[0].strip() for lines in found for line in lines})


@pytest.mark.parametrize("line", command_lines())
def test_its_commands_exist(line: str) -> None:
    """Each command line of the pages for newcomers is taken by our parser: noun, verb, arguments and options."""
    words, context = shlex.split(line)[1:], click.Context(cli)
    at: click.Command = cli
    while isinstance(at, click.Group):
        name, found, words = at.resolve_command(context, words)
        assert found is not None, f"{name} is no command"
        at = found
    at.make_context(line, list(words))


def test_the_readme_is_short() -> None:
    """It is read whole."""
    assert len(PAGES["README.md"].splitlines()) <= LINES_MAX
