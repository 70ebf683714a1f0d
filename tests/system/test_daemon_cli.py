from __future__ import annotations

import json
import os
import sys
from typing import Any, NamedTuple

import pytest
import trio

from tests.system.conftest import Running
from tests.system.daemon_process import ROOT, Daemon

pytestmark = [pytest.mark.trio, pytest.mark.slow]


class Said(NamedTuple):
    """What one command said."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


async def cli(daemon: Daemon, *words: str) -> Said:
    """One command, as somebody types it."""
    command = [sys.executable, "-P", "-m", "runtimed", *words, "--data-dir", str(daemon.data_dir)]
    ended = await trio.run_process(
        command, check=False, capture_stdout=True, capture_stderr=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    return Said(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


async def get(daemon: Daemon, path: str) -> Any:
    async with daemon.client() as client:
        return (await client.get(path)).json()


@pytest.mark.parametrize(("how", "code"), [("completed", 0), ("failed", 20), ("cancelled", 21), ("blocked", 22)])
async def test_waiting_for_a_run_tells_how_it_ended(running: Running, how: str, code: int) -> None:
    """`runs wait` exits 0 with the result, or with the code of the contract for failed, cancelled and blocked."""
    async with running() as daemon:
        if how == "cancelled":
            assert (await cli(daemon, "runs", "start", "waiting", "--id", "one")).code == 0
            assert (await cli(daemon, "runs", "cancel", "one", "--reason", "enough")).code == 0
        else:
            assert (await cli(daemon, "runs", "start", "ending", f'"{how}"', "--id", "one")).code == 0
        waited = await cli(daemon, "runs", "wait", "one", "--timeout", "30", "-o", "json")
    assert waited.code == code, waited
    assert waited.data == "completed" if how == "completed" else waited.err.startswith("error: ")


async def test_a_wait_that_is_too_short_exits_with_7(running: Running) -> None:
    """The time that somebody is willing to wait is over, the run is not: exit 7."""
    async with running() as daemon:
        await cli(daemon, "runs", "start", "waiting", "--id", "one")
        assert (await cli(daemon, "runs", "wait", "one", "--timeout", "0.2")).code == 7


async def test_json_is_the_same_as_over_http(running: Running) -> None:
    """`-o json` prints what HTTP answers, for every noun that can be looked at."""
    async with running() as daemon:
        await cli(daemon, "runs", "start", "ending", '"completed"', "--id", "one")
        await cli(daemon, "runs", "wait", "one")
        async with daemon.client() as client:
            assert (await client.post("/v1/sessions", json={"id": "s1", "tenant": "acme"})).status_code == 201
        assert (await cli(daemon, "state", "put", "global", "colour", '"red"')).code == 0
        looks = {
            ("runs", "list"): "/v1/runs",
            ("runs", "show", "one"): "/v1/runs/one",
            ("runs", "history", "one"): "/v1/runs/one/history",
            ("sessions", "list"): "/v1/sessions",
            ("sessions", "show", "s1"): "/v1/sessions/s1",
            ("state", "get", "global", "colour"): "/v1/state/global/colour",
            ("state", "list", "global"): "/v1/state/global",
        }
        for words, path in looks.items():
            shown = await cli(daemon, *words, "-o", "json")
            assert (shown.code, shown.data) == (0, await get(daemon, path)), (words, shown.err)
        tree = (await cli(daemon, "actors", "tree", "-o", "json")).data
        assert [actor["path"] for actor in tree["items"]] == [
            actor["path"] for actor in (await get(daemon, "/v1/actors"))["items"]
        ]


async def test_people_steer_a_run_from_the_terminal(running: Running) -> None:
    """Pause, signal, resume and the end; an unknown run is 4, an ended one 5, an unknown workflow 4, bad JSON 2."""
    async with running() as daemon:
        await cli(daemon, "runs", "start", "waiting", "--id", "one")
        assert (await cli(daemon, "runs", "pause", "one", "--reason", "lunch")).code == 0
        assert (await cli(daemon, "runs", "signal", "one", "go", '"on"')).code == 0
        assert (await get(daemon, "/v1/runs/one"))["status"] == "paused"
        assert (await cli(daemon, "runs", "resume", "one")).code == 0
        assert (await cli(daemon, "runs", "wait", "one", "-o", "json")).data == "on"
        assert (await cli(daemon, "runs", "signal", "one", "go", '"again"')).code == 5
        assert (await cli(daemon, "runs", "show", "two")).code == 4
        assert (await cli(daemon, "runs", "start", "unheard-of")).code == 4
        assert (await cli(daemon, "runs", "start", "ending", "{half")).code == 2


async def test_the_file_is_read_while_the_daemon_is_down(running: Running) -> None:
    """With the daemon gone, looking works from the file and gives the same; changing says that nobody is there (3)."""
    async with running() as daemon:
        await cli(daemon, "runs", "start", "ending", '"completed"', "--id", "one")
        await cli(daemon, "runs", "wait", "one")
        looks = [("runs", "show", "one"), ("runs", "history", "one"), ("state", "list", "global"), ("sessions", "list")]
        before = [(await cli(daemon, *words, "-o", "json")).data for words in looks]
        await daemon.kill()
        after = [await cli(daemon, *words, "-o", "json") for words in looks]
        assert [said.data | {"seq": None} for said in after] == [data | {"seq": None} for data in before]
        assert all("the daemon is down" in said.err for said in after)
        assert (await cli(daemon, "runs", "start", "waiting")).code == 3
        assert (await cli(daemon, "journal", "verify")).code == 0


async def test_events_go_on_after_a_restart_where_they_were(running: Running) -> None:
    """A client of the event stream that comes back with `Last-Event-ID` misses no record and sees none twice, though
    the daemon was killed and started in between."""
    async with running() as daemon:
        seen = await events(daemon, None, upto=await _some_work(daemon, "a"))
        await daemon.kill()
        await daemon.start()
        last = await _some_work(daemon, "b")
        seen += await events(daemon, seen[-1], upto=last)
        assert seen == list(range(1, last + 1))


async def _some_work(daemon: Daemon, name: str) -> int:
    async with daemon.client() as client:
        runs = [{"workflow": "ending", "input": "completed", "id": f"{name}{number}"} for number in range(20)]
        (await client.post("/v1/runs", json=runs)).raise_for_status()
        for run in runs:
            (await client.get(f"/v1/runs/{run['id']}/result?wait=25")).raise_for_status()
        listed = (await client.get("/v1/runs")).json()
    return int(listed["seq"])


async def events(daemon: Daemon, last_seen: int | None, *, upto: int) -> list[int]:
    """The seqs of the event stream beyond what was seen, up to a seq."""
    resumed = "" if last_seen is None else f"Last-Event-ID: {last_seen}\r\n"
    seqs: list[int] = []
    async with await trio.open_unix_socket(str(daemon.socket)) as stream:
        await stream.send_all(f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n{resumed}\r\n".encode())
        left = b""
        async for part in stream:
            *lines, left = (left + part).split(b"\n")
            seqs += [int(line.removeprefix(b"id: ")) for line in lines if line.startswith(b"id: ")]
            if seqs and seqs[-1] >= upto:
                return seqs
    raise AssertionError("the stream ended")
