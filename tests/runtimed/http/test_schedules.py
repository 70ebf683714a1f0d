"""Schedules over HTTP, from the client and on the command line, in front of a real runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtimed import App, Client, Context, ScheduleNotFound, open_runtime
from runtimed.settings import Journal, Settings
from tests.runtimed.http.conftest import PATIENCE_S, served

SETTINGS = Settings(journal=Journal(ballast_bytes=0))
app = App("timed")


@app.schedule(cron="0 6 * * 1-5", timezone="Europe/Berlin", input="x")
@app.workflow
async def report(ctx: Context, what: str) -> str:
    return what


@pytest.mark.trio
async def test_what_people_do_to_schedules(short_dir: Path) -> None:
    """They list them, hold one, let it go on, and run it now; what is not there is a 404."""
    async with open_runtime(app, short_dir / "data", settings=SETTINGS, writer="inline") as runtime:
        async with served(runtime, short_dir) as http:
            (one,) = (await http.ask("GET", "/v1/schedules")).json()["items"]
            assert (one["name"], one["workflow"], one["status"], one["cron"], one["timezone"]) == (
                "report", "report", "ok", "0 6 * * 1-5", "Europe/Berlin",
            )  # fmt: skip
            assert one["next_at"] is not None
            assert (await http.ask("POST", "/v1/schedules/report/pause", {"reason": "holidays"})).status == 202
            (held,) = (await http.ask("GET", "/v1/schedules")).json()["items"]
            assert (held["status"], held["next_at"]) == ("paused", None)
            assert (await http.ask("POST", "/v1/schedules/report/resume", {})).status == 202
            started = await http.ask("POST", "/v1/schedules/report/trigger", {"reason": "a look"})
            assert started.status == 202
            assert await runtime.result(started.json()["id"], PATIENCE_S) == "x"
            for verb in ("pause", "resume", "trigger"):
                assert (await http.ask("POST", f"/v1/schedules/none/{verb}", {})).status == 404
            assert (await http.ask("GET", "/v1/connectors")).json()["items"] == []


@pytest.mark.trio
async def test_the_client_has_the_same_verbs(short_dir: Path) -> None:
    """List, pause, resume and trigger, and the error that says which schedule there is not."""
    async with open_runtime(app, short_dir / "data", settings=SETTINGS, writer="inline") as runtime:
        async with served(runtime, short_dir) as http:
            async with Client(socket=http.path) as client:
                assert [one.name for one in await client.schedules()] == ["report"]
                await client.pause_schedule("report", reason="holidays")
                assert (await client.schedules())[0].status == "paused"
                await client.resume_schedule("report")
                run = await client.trigger_schedule("report")
                assert run.workflow == "report"
                with pytest.raises(ScheduleNotFound, match="no schedule 'none'"):
                    await client.pause_schedule("none")
