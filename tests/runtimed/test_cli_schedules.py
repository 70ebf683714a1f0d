"""`runtimed schedules` and what `check` shows of them, against a fake daemon: lists, verbs, completion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from runtimed.cli.completing import complete_schedules
from runtimed.cli.main import cli, run
from wal.views import RunView, ScheduleView

APP = """
from runtimed import App, Context

app = App("night")


@app.schedule(cron="30 6 * * 1-5", timezone="Europe/Berlin", name="mornings")
@app.schedule(every=3600.0, catchup="all")
@app.workflow
async def sweep(ctx: Context) -> None: ...
"""


@pytest.fixture
def ask(fake: Any) -> Any:
    """`ask("schedules", "list", ...)` against the fake daemon."""
    return lambda *arguments: run([*arguments, "--socket", str(fake.socket)])


def schedule(name: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "name": name, "workflow": "sweep", "status": "ok", "every": None, "cron": None, "timezone": None,
        "catchup": "last", "next_at": "2026-01-31T12:00:00.000000Z", "runs_total": 3, "last_error": None,
    }  # fmt: skip
    made: dict[str, Any] = msgspec.to_builtins(ScheduleView(**{**fields, **changes}))
    return made


def page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "next": None, "total": len(items), "seq": 3}


RUN = RunView(id="hourly:asked", workflow="sweep", status="queued", created_at="2026-01-31T12:00:00.000001Z", seq=3)
BOTH = page(
    schedule("hourly", every=3600.0),
    schedule("mornings", cron="30 6 * * *", timezone="Europe/Berlin", status="paused", next_at=None),
)


def test_list(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each schedule with its workflow, how it stands, when it begins and how often it has; as names and as JSON."""
    fake.on("GET", "/v1/schedules", fake.Reply(200, BOTH))

    assert ask("schedules", "list") == 0
    assert ask("schedules", "list", "-o", "id") == 0
    assert ask("schedules", "list", "--json") == 0

    *lines, as_json = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["NAME", "WORKFLOW", "STATUS", "WHEN", "NEXT", "RUNS"],
        ["hourly", "sweep", "ok", "every", "3600", "s", *lines[1].split()[6:]],
    ]
    assert "30 6 * * * Europe/Berlin" in lines[2]
    assert lines[3:] == ["hourly", "mornings"]
    assert json.loads(as_json) == BOTH


def test_no_schedules(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing begins by the clock there is no table."""
    fake.on("GET", "/v1/schedules", fake.Reply(200, page()))
    assert ask("schedules", "list") == 0
    assert "NAME" not in capsys.readouterr().out


@pytest.mark.parametrize(("verb", "done"), [("pause", "paused"), ("resume", "resumed")])
def test_pause_and_resume(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str], verb: str, done: str) -> None:
    """Each name is acted upon, with the reason, and told with its record; one that is not there fails the command."""
    fake.on("POST", f"/v1/schedules/hourly/{verb}", fake.Reply(202, {"seq": 8, "id": "schedule:hourly"}))
    fake.on("POST", f"/v1/schedules/none/{verb}", fake.problem(404, "schedule_not_found", "there is no schedule"))

    assert ask("schedules", verb, "hourly", "--reason", "holidays") == 0
    assert ask("schedules", verb, "hourly", "none") != 0

    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"hourly: {done} (record 8)"] * 2
    assert "there is no schedule" in captured.err
    assert fake.requests[0].json == {"reason": "holidays"}


def test_trigger(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of the schedule begins now, and is named."""
    fake.on("POST", "/v1/schedules/hourly/trigger", fake.Reply(202, msgspec.to_builtins(RUN)))
    assert ask("schedules", "trigger", "hourly") == 0
    assert capsys.readouterr().out.splitlines() == ["hourly: triggered (record 3)"]


def test_names_are_completed(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that asks gets the names that begin so, with a word about each; or nothing, if nobody answers."""
    fake.on("GET", "/v1/schedules", fake.Reply(200, BOTH))
    monkeypatch.setenv("RUNTIMED_SOCKET", str(fake.socket))
    context = cli.make_context("runtimed", ["schedules"], resilient_parsing=True)
    argument = click.Argument(["names"])
    found = complete_schedules(context, argument, "mor")
    assert [(item.value, item.help) for item in found] == [("mornings", "sweep, paused")]
    fake.on("GET", "/v1/schedules", fake.problem(503, "draining", "no"))
    assert complete_schedules(context, argument, "") == []


def test_check_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`runtimed check` names each schedule with its workflow and when it begins."""
    (tmp_path / "night_flows.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    arguments = ["check", "--app", "night_flows.py", "--data-dir", str(tmp_path / "data")]
    assert run(arguments) == 0
    assert run([*arguments, "--json"]) == 0
    *lines, as_json = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["night", "schedule", "sweep", "sweep,", "every", "3600", "s"] for line in lines)
    assert json.loads(as_json)["schedules"][1] == {
        "name": "mornings", "workflow": "sweep", "when": "30 6 * * 1-5 Europe/Berlin", "catchup": "last",
        "app": "night",
    }  # fmt: skip
