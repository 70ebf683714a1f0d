"""What SIGHUP does to a daemon that runs: all or nothing, whatever the configuration has become."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.flow.context import Context
from actors.flow.definitions import App, Registry
from runtimed import builtin
from runtimed.daemon import Reload
from runtimed.http.access import Access
from runtimed.settings import Settings, find_config, load

shop = App("shop")


@shop.workflow
async def order(ctx: Context) -> None:
    """What connectors deliver to."""


class Said:
    """A service manager that notes what it is told."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def reloading(self) -> None:
        self.states.append("reloading")

    def ready(self, status: str) -> None:
        self.states.append(status)


class Standing:
    """A daemon as far as a reload sees it, with its configuration in a file."""

    def __init__(self, folder: Path, text: str = "") -> None:
        self.file = folder / "runtimed.toml"
        self.file.write_text(text)
        self.said = Said()
        self.access = Access()
        self.edge: Any = SimpleNamespace(access=self.access)
        self.runtime: Any = SimpleNamespace(remarks={}, registry=Registry(builtin.app, shop))
        notifier: Any = self.said
        self.defect: Exception | None = None
        self.reload = Reload(self.read(), self.read, self.edge, self.runtime, notifier)

    def read(self) -> Settings:
        if self.defect is not None:
            raise self.defect
        return load(find_config({}, self.file.parent), {"HOME": "/home/someone"})

    def reloaded(self, text: str) -> str:
        """What the service manager is told of a reload with this file."""
        self.file.write_text(text)
        self.reload()
        return self.said.states[-1]

    @property
    def is_as_it_was(self) -> bool:
        return self.edge.access is self.access and logging.getLogger().level != logging.DEBUG


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


@pytest.mark.parametrize(
    "bad", ["[daemon]\ndata_dir = '~no-such-user/x'", f"a = {'[' * 3_000}", f"[limits]\nthreads_max = {'9' * 5_000}"]
)
def test_a_bad_file_changes_nothing(tmp_path: Path, bad: str) -> None:
    """A file that cannot be read, in whatever way, is refused, named, and shown until it is mended."""
    daemon = Standing(tmp_path)

    assert daemon.reloaded(f"{bad}\n[log]\nlevel = 'debug'").startswith(f"reload refused: {daemon.file}: ")
    assert daemon.is_as_it_was
    assert "the last reload was refused" in daemon.runtime.remarks["reload"]
    assert daemon.reloaded("[log]\nlevel = 'debug'") == "ready"
    assert daemon.runtime.remarks == {}
    assert daemon.edge.access is not daemon.access


def test_a_defect_in_the_reading_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody foresaw is logged with where it came from, and the daemon goes on with what it has."""
    daemon = Standing(tmp_path)
    daemon.defect = ZeroDivisionError()

    assert daemon.reloaded("").startswith("reload refused: it failed (ZeroDivisionError)")
    assert daemon.is_as_it_was
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('[webhooks.bad]\ndeliver = "workflow:nope"\nverify = "none"', "webhooks.bad.deliver: no workflow 'nope'"),
        ('[connectors.bad]\nkind = "files"\noptions = {paht = "x"}', "connectors.bad.options"),
        ('[notifications.bad]\nurl = "http://x.example"\nsecret = "open"', "notifications.bad.secret"),
    ],
)
def test_what_the_next_start_would_refuse_is_refused_whole(tmp_path: Path, bad: str, said: str) -> None:
    """A reload that succeeded is one that a start with the same file survives: nothing of a bad file is applied."""
    daemon = Standing(tmp_path)

    assert said in daemon.reloaded(f"{bad}\n[log]\nlevel = 'debug'")
    assert daemon.is_as_it_was
    good = '[webhooks.good]\ndeliver = "workflow:order"\nverify = "none"'
    assert daemon.reloaded(good) == "ready"


def test_what_fits_other_apps_is_for_the_next_start_to_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Apps change with a restart alone: what is to deliver to their workflows is not judged by those that run."""
    caplog.set_level(logging.INFO)
    daemon = Standing(tmp_path)

    text = '[daemon]\napps = ["more:app"]\n[webhooks.new]\ndeliver = "workflow:of_more"\nverify = "none"'
    assert daemon.reloaded(text) == "ready"
    assert "a restart is needed for: daemon.apps, webhooks.new." in caplog.messages[-1]


def test_a_file_that_is_gone_is_no_reload(tmp_path: Path) -> None:
    """Who had a file and has none does not lose all levels by that: it is refused, named, until it is back."""
    daemon = Standing(tmp_path, "[access.levels]\nviewer = ['uid:4000001']")
    assert daemon.reloaded("[log]\nlevel = 'info'") == "ready"
    access = daemon.edge.access

    daemon.file.unlink()
    daemon.reload()
    assert daemon.said.states[-1] == f"reload refused: {daemon.file}: there is no such file any more"
    assert daemon.edge.access is access
    assert daemon.reloaded("") == "ready"
