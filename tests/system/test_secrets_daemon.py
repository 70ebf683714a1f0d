"""Secrets and webhooks of the real daemon, by its command line: set while it runs, used at once, shown nowhere."""

from __future__ import annotations

import hashlib
import hmac
import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.system.daemon_process import HERE, ROOT, Daemon

FIRST, SECOND = "canary-first-41d0", "canary-second-90ab"
CONFIG = """
[log]
level = "debug"
[journal]
ballast_bytes = 0
[webhooks.hub]
verify = "github"
secrets = ["secret:hub"]
key = "id"
deliver = "workflow:on_event"
keep_headers = ["X-GitHub-Event", "X-Hub-Signature-256"]
keep_body = true
"""


async def runtimed(daemon: Daemon, *words: str, stdin: str = "") -> tuple[int, bytes]:
    """A command of the command line, and all it said."""
    command = [sys.executable, "-P", "-m", "runtimed", *words]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = await trio.run_process(
        command, stdin=stdin.encode(), capture_stdout=True, capture_stderr=True, check=False, env=environ, cwd=HERE
    )
    return done.returncode, done.stdout + done.stderr


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def deliver(daemon: Daemon, secret: str, number: int) -> int:
    body = b'{"id": %d}' % number
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    async with daemon.client() as client:
        headers = {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Event": "push"}
        return (await client.post("/v1/webhooks/hub", content=body, headers=headers)).status_code


@pytest.mark.trio
@pytest.mark.slow
async def test_set_rotate_delete_while_it_runs_and_shown_nowhere(short_dir: Path) -> None:
    """A delivery is 503 before the secret is set and 200 right after; a rotation lets both count; after the delete it
    is 503 again. No output, log (at debug), task dump or file of the data folder holds a value."""
    config = short_dir / "runtimed.toml"
    config.write_text(CONFIG)
    daemon = Daemon(short_dir, app="webhook_flows:app", cwd=HERE, options=["--config", str(config)])
    place = ("--socket", str(daemon.socket))
    said = b""

    async def secret(*words: str, stdin: str = "", code: int = 0) -> None:
        nonlocal said
        found, output = await runtimed(daemon, "secret", *words, *place, stdin=stdin)
        said += output
        assert found == code, output

    try:
        await daemon.start()
        assert await deliver(daemon, FIRST, 1) == 503
        async with daemon.client() as client:
            said += (await client.get("/health/detail")).content
        assert b"there is no secret 'hub'" in said
        await secret("set", "hub", "--reason", "new account", stdin=f"{FIRST}\n")
        assert await deliver(daemon, FIRST, 1) == 200
        assert await deliver(daemon, SECOND, 2) == 401
        await secret("rotate", "hub", "--grace", "600", stdin=SECOND)
        assert [await deliver(daemon, FIRST, 3), await deliver(daemon, SECOND, 4)] == [200, 200]
        await secret("rotate", "--master")
        assert await deliver(daemon, SECOND, 5) == 200
        await secret("list", "-o", "json")
        await secret("rotate", "other", stdin="x", code=4)
        daemon.send(signal.SIGUSR1)
        said += (await runtimed(daemon, "events", *place, "-o", "jsonl"))[1]
        said += (await runtimed(daemon, "check", "--config", str(config), "--app", "webhook_flows:app", "-o", "json"))[
            1
        ]
        await secret("delete", "hub")
        assert await deliver(daemon, SECOND, 6) == 503
        assert await daemon.stop() == 0
    finally:
        await daemon.close()
    files = files_in(short_dir)
    assert {"secrets.json", "master.key", "journal.db", "daemon.log"} <= {path.name for path in files}
    for canary in (FIRST, SECOND):
        assert canary.encode() not in said
        assert [path.name for path in files if canary.encode() in path.read_bytes()] == []


MISTAKES = {
    "webhooks.w.deliver": '[webhooks.w]\nsecrets = ["secret:a"]\ndeliver = "workflow:absent"',
    "webhooks.w.secrets": '[webhooks.w]\nsecrets = ["canary"]',
    "notifications.n.secret": '[notifications.n]\nurl = "http://localhost/"\nsecret = "canary"',
}


@pytest.mark.trio
@pytest.mark.slow
async def test_a_mistake_ends_the_start_with_78(short_dir: Path) -> None:
    """`serve` and `check` end with 78 and name the key; what stands where a name should is not quoted."""
    config = short_dir / "runtimed.toml"
    daemon = Daemon(short_dir, app="webhook_flows:app", cwd=HERE, options=["--config", str(config)])
    for told, mistake in MISTAKES.items():
        config.write_text(mistake)
        code, said = await runtimed(daemon, "check", "--config", str(config), "--app", "webhook_flows:app")
        assert (code, told in said.decode(), "canary" in said.decode()) == (78, True, False)
    try:
        await daemon.spawn()
        assert await daemon.ended() == 78
    finally:
        await daemon.close()
    assert told in daemon.log_tail()
    assert "canary" not in daemon.log_tail()
