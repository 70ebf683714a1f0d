"""What the pages for operators say can be done as they say it: commands, settings, the balancer of the tests."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from runtimed.cli.main import cli
from runtimed.settings import Settings, load
from tests.system.balancer import HAPROXY

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("docs/operating.md", "docs/data-care.md", "docs/security.md", "ops/runbook.md")
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
OPERATING = PAGES["docs/operating.md"]


def blocks(kind: str) -> list[str]:
    """The page's blocks of a kind."""
    return re.findall(rf"```{kind}\n(.*?)```", OPERATING, re.DOTALL)


def commands() -> list[str]:
    """Each `runtimed` command of the pages, in a block, indented, or between backticks."""
    lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line[:2] in ("# ", "$ ")]
    lines += [line.split("  #")[0] for text in PAGES.values() for line in re.findall(r"(?m)^ {4}(runtimed .*)", text)]
    spans = [span for text in PAGES.values() for span in re.findall(r"`(runtimed [a-z][^`]*)`", text)]
    return sorted(
        {part.strip() for line in [*lines, *spans] for part in line.split("&&") if part.startswith("runtimed ")}
    )


def parsed(line: str) -> None:
    """Have our own parser take a line: noun, verb, options, and as many arguments as it needs."""
    context = click.Context(cli)
    _, words, _ = cli.make_parser(context).parse_args(shlex.split(line)[1:])  # options before the noun
    at: click.Command = cli
    while isinstance(at, click.Group) and words:
        _, found, words = at.resolve_command(context, words)
        assert found is not None, line
        at = found
    if not isinstance(at, click.Group):
        at.make_context(line, list(words))


@pytest.mark.parametrize("line", commands())
def test_each_command_is_one(line: str) -> None:
    """Noun, verb, arguments and options of every command that the pages name are taken by our own parser."""
    parsed(line)


def test_a_command_that_is_none_is_seen() -> None:
    """The negative control."""
    with pytest.raises(click.ClickException):
        parsed("runtimed journal polish")
    with pytest.raises(click.ClickException):
        parsed("runtimed runs resolve")  # without its arguments


def test_each_piece_of_configuration_loads(tmp_path: Path) -> None:
    """Every TOML block, and the file that the first steps write, is taken by the daemon's own strict loader."""
    shown = [block for text in PAGES.values() for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    pieces = [*shown, *re.findall(r"printf '(.+?)' >>?/etc/runtimed/", OPERATING)]
    assert len(pieces) >= 3
    for number, piece in enumerate(pieces):
        file = tmp_path / f"{number}.toml"
        file.write_text(piece.replace("\\n", "\n"))
        assert load(file, {"STATE_DIRECTORY": "/x"}) != Settings(), piece


def test_the_probes_of_kubernetes_are_routes_and_its_stop_is_long_enough() -> None:
    """The pod's probes ask routes that exist, as the user of the image, and the drain fits into the grace period."""
    pod = next(yaml.safe_load(block) for block in blocks("yaml") if "startupProbe" in block)
    (container,) = pod["containers"]
    routes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert routes == {"/health/startup", "/health/ready", "/health"}
    delay_s = float(container["args"][container["args"].index("--drain-delay") + 1])
    readiness = container["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < delay_s
    assert pod["terminationGracePeriodSeconds"] > delay_s + Settings().daemon.drain_timeout + 1
    assert container["securityContext"]["runAsUser"] == 65532


def test_the_haproxy_of_the_page_is_the_haproxy_of_the_test() -> None:
    """What is shown is what the rolling restarts were tried with: the same way of asking, nothing retried."""
    (shown,) = re.findall(r"```\n(backend runtimed.*?)```", OPERATING, re.DOTALL)
    for line in (
        "timeout check 2s",
        "option httpchk",
        "http-check send meth GET uri /health/ready ver HTTP/1.1 hdr Host localhost",
    ):
        assert line in shown
        assert line in HAPROXY
