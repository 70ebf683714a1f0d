"""P2 for what people are told: `kill -9` at any moment, and each event is told, under one id."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from runtimed.secret_store import SecretStore
from tests.runtimed.receiver import receiving
from tests.runtimed.webhooks.signing import STANDARD_SECRET
from tests.system.daemon_process import HERE, Daemon

CONFIG = """
[journal]
ballast_bytes = 0
[notifications.ops]
url = "{url}"
secret = "secret:ops"
events = ["run_failed"]
"""
A_LIFE = 40


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_killed_anywhere_each_event_is_told_under_one_id(
    short_dir: Path, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """Runs fail, the daemon is killed while it tells of them: in the end each is told, and however often its message
    was sent, it has one id."""
    kills, chance = scale(2, 20), random.Random(4)
    async with receiving(STANDARD_SECRET) as receiver:
        config = short_dir / "runtimed.toml"
        config.write_text(CONFIG.format(url=receiver.url))
        daemon = Daemon(short_dir, app="webhook_flows:app", cwd=HERE, options=["--config", str(config)])
        SecretStore(daemon.data_dir, environ={}).set("ops", STANDARD_SECRET)
        try:
            await daemon.start()
            for life in range(kills):
                runs = [{"workflow": "fails", "id": f"f{life}-{n}"} for n in range(A_LIFE)]
                async with daemon.client() as client:
                    assert (await client.post("/v1/runs", json=runs)).status_code == 200
                await receiver.until(life * A_LIFE + chance.randrange(1, A_LIFE))
                await daemon.kill()
                await daemon.start()
                with trio.fail_after(60):
                    while len({each["data"]["run_id"] for each in receiver.taken}) < (life + 1) * A_LIFE:
                        await receiver.until(len(receiver.taken) + 1)
            assert await daemon.stop() == 0
        finally:
            with trio.CancelScope(shield=True):
                await daemon.close()
    told: dict[str, set[str]] = {}
    for headers, message in zip(receiver.headers, receiver.messages, strict=True):
        told.setdefault(message["data"]["run_id"], set()).add(headers["webhook-id"])
    assert set(told) == {f"f{life}-{n}" for life in range(kills) for n in range(A_LIFE)}
    assert [run_id for run_id, ids in told.items() if len(ids) != 1] == []
    figures("P2", notification_kills=kills, events_told=len(told), messages_sent=len(receiver.messages))
