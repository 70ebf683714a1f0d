"""The log of the real daemon: JSON lines with ids, and never a payload or a secret, whatever users' code does."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
import trio

from tests.system.conftest import Running
from tests.system.daemon_process import Daemon

pytestmark = [pytest.mark.trio, pytest.mark.slow]

CANARY = "canary-4242"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def settled(daemon: Daemon, run_id: str) -> str:
    """How a run stands once it has ended or is blocked."""
    async with daemon.client() as client:
        await client.get(f"/v1/runs/{run_id}/result?wait=25")
        return str((await client.get(f"/v1/runs/{run_id}")).json()["status"])


async def say_it_everywhere(daemon: Daemon) -> dict[str, str]:
    """Hand the canary to everything that takes something from outside; gives how the runs stand at the end."""
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    async with daemon.client() as client:
        for name in ("saying", "stumbling", "falling"):
            body = {"workflow": name, "input": CANARY, "id": name, "attributes": {"card": CANARY}}
            assert (await client.post("/v1/runs", json=body, headers=headers)).status_code == 201
        await client.post("/v1/runs/saying/signal", json={"name": "go", "value": CANARY}, headers=headers)
        # What is refused is as secret as what is taken.
        refused = [
            await client.post("/v1/runs", content=f'{{"workflow": "{CANARY}"}}'.encode()),
            await client.post("/v1/runs", json={"workflow": "saying", "input": 1, CANARY: 2}),
            await client.post("/v1/runs", content=b'{"workflow": "saying", "input": "' + CANARY.encode()),
            await client.get("/v1/runs", headers={"authorization": f"Bearer rtd_x_{CANARY}"}),
            await client.put("/v1/state/global/k", json={"value": CANARY}, headers={"if-match": CANARY}),
        ]
        assert {answer.status_code // 100 for answer in refused} <= {2, 4}
        assert (await client.put("/v1/secrets/card", json={"value": CANARY})).status_code < 300
    return {name: await settled(daemon, name) for name in ("saying", "stumbling", "falling")}


async def test_what_was_given_is_never_in_the_log(running: Running) -> None:
    """At level debug: steps that fail, a saga that cannot be undone, a defect, a connector that crashes with a record
    in hand, requests that are refused, a secret, a drain. No line has the payload; every line is JSON; what went wrong
    is told with its run, its step and its trace."""
    async with running(app="leaky_flows:app", options=("--log-level", "debug", "--log-format", "json")) as daemon:
        standing = await say_it_everywhere(daemon)
        assert standing == {"saying": "blocked", "stumbling": "blocked", "falling": "failed"}
        async with daemon.client() as client:
            with trio.fail_after(30.0):
                while (await client.get("/v1/connectors")).json()["items"][0]["errors_total"] == 0:  # noqa: ASYNC110 - another process's state
                    await trio.sleep(0.1)
        daemon.send(signal.SIGUSR1)
        assert await daemon.stop() == 0
        text = daemon.log.read_text()
        journal = (daemon.data_dir / "journal.db").read_bytes()
    assert CANARY not in text, next(line for line in text.splitlines() if CANARY in line)
    assert CANARY.encode() in journal  # it was there to be told
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert all({"ts", "level", "logger", "message"} <= set(line) for line in lines)
    about = [
        (line.get("run_id"), line.get("step"), line.get("trace_id")) for line in lines if line["level"] == "warning"
    ]
    assert ("saying", "failing", TRACE) in about
    assert ("falling", "crashing", TRACE) in about
    assert ("stumbling", None, TRACE) in about
    assert any("LookupError" in line.get("exc", "") for line in lines)
