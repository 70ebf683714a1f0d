"""Approvals with the real daemon: identities of the kernel, a terminal that is asked, kills, reloads, the audit."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
import trio

from tests.runtimed.terminal import Terminal
from tests.system.daemon_process import Daemon
from wal.connections import checksum_vfs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
pytestmark = pytest.mark.slow
PATIENCE_S = 60.0
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")

ACCESS = """
[access.levels]
viewer = ["uid:4001"]
operator = ["uid:4002"]
approver = ["uid:4003", "gid:4100"]

[access.groups]
ops = ["uid:4003"]
finance = ["gid:4100"]
"""

AS_USER = """
import json, os, socket, sys
uid, gid, path, method, target, body = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
"".encode("idna")  # what is loaded late must be loaded before our rights are gone
os.setgroups([gid]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
link = socket.socket(socket.AF_UNIX); link.connect(path)
head = f"{method} {target} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n"
link.sendall(f"{head}Content-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
answer = b""
while data := link.recv(65536):
    answer += data
head, _, body = answer.partition(b"\\r\\n\\r\\n")
print(json.dumps([int(head.split()[1]), json.loads(body)]))
"""


class Serving:
    """The daemon, and people who talk to it."""

    def __init__(self, daemon: Daemon, client: httpx2.AsyncClient) -> None:
        self.daemon, self._client = daemon, client

    async def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """One request as the daemon's own user."""
        return await self._client.request(method, path, **options)

    async def asked(self, run_id: str, **question: Any) -> dict[str, Any]:
        """Start a run that asks; the approval once it is open."""
        body = {"workflow": "ask", "id": run_id, "input": {"title": "Go?", **question}}
        (await self.request("POST", "/v1/runs", json=body)).raise_for_status()
        return await self.until_asked(run_id)

    async def until_asked(self, run_id: str) -> dict[str, Any]:
        """The run's approval, once there is one."""
        with trio.fail_after(PATIENCE_S):
            while True:
                items = (await self.request("GET", f"/v1/approvals?run_id={run_id}")).json()["items"]
                if items:
                    return dict(items[0])
                await trio.sleep(0.02)

    async def decide(self, approval: dict[str, Any], approve: bool = True, **more: Any) -> httpx2.Response:
        """A decision about what was shown."""
        headers = more.pop("headers", {})
        body = {"approve": approve, "payload_hash": approval["payload_hash"], **more}
        return await self.request("POST", f"/v1/approvals/{approval['id']}/decide", json=body, headers=headers)

    async def result(self, run_id: str) -> httpx2.Response:
        """How the run ended."""
        return await self.request("GET", f"/v1/runs/{run_id}/result?wait=30")

    async def user(self, uid: int, gid: int, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """One request as another user, whose identity is the kernel's word."""
        text = "" if body is None else json.dumps(body)
        command = [sys.executable, "-c", AS_USER, str(uid), str(gid), str(self.daemon.socket), method, path, text]
        done = await trio.run_process(command, capture_stdout=True)
        status, answer = json.loads(done.stdout)
        return status, answer

    def cli(self, *arguments: str) -> list[str]:
        """A command line of ours."""
        return [sys.executable, "-P", "-m", "runtimed", *arguments, "--socket", str(self.daemon.socket)]

    async def run_cli(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr of a command in a pipe."""
        done = await trio.run_process(
            self.cli(*arguments), capture_stdout=True, capture_stderr=True, check=False, stdin=b"", env=_environ()
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()


def _environ(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNTIMED", "SSH_", "NO_COLOR"))}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", **more}


Serve = Callable[..., Any]


@pytest.fixture
def serving(short_dir: Path) -> Serve:
    """`async with serving(config) as people`: the daemon with this configuration, its socket open to everybody."""

    short_dir.chmod(0o755)
    run, file = short_dir / "run", short_dir / "runtimed.toml"
    run.mkdir(mode=0o755)

    @asynccontextmanager
    async def serve(config: str = "", *options: str) -> AsyncIterator[Serving]:
        everybody = '[http]\nsocket_mode = "0666"\n[journal]\nballast_bytes = 0\n'
        await trio.Path(file).write_text(everybody + config)
        daemon = Daemon(
            short_dir, app="approval_flows:app", cwd=HERE, environ={"RUNTIME_DIRECTORY": str(run)},
            options=["--config", str(file), *options],
        )  # fmt: skip
        daemon.socket = run / "runtimed.sock"
        try:
            await daemon.start()
            async with daemon.client(PATIENCE_S) as client:
                yield Serving(daemon, client)
        finally:
            with trio.CancelScope(shield=True):
                await daemon.close()

    return serve


# --- deciding ---------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_from_the_question_to_the_record(serving: Serve, short_dir: Path) -> None:
    """Asked, looked at, decided once; a repeat with its key is the same; who comes too late is told; all is on record,
    the file verifies, and a vote that somebody changes in it is found."""
    async with serving() as people:
        asked = await people.asked("r1", detail={"cents": 5}, timeout=3600.0)
        assert (
            await people.request("POST", f"/v1/approvals/{asked['id']}/decide", json={"approve": True})
        ).status_code == 400
        assert (await people.decide({**asked, "payload_hash": "0" * 64})).json()["code"] == "stale_payload"
        key = {"Idempotency-Key": "k1"}
        first = await people.decide(asked, reason="fine", headers=key)
        assert first.status_code == 200 and first.json()["status"] == "approved"
        assert (await people.decide(asked, reason="fine", headers=key)).json() == first.json()
        late = await people.decide(asked, False, reason="no")
        vote = first.json()["votes"][0]
        assert late.status_code == 409 and late.json()["code"] == "approval_closed"
        for word in ("approved", vote["by"], vote["at"], "fine"):
            assert word in late.json()["detail"]
        assert (await people.result("r1")).json() == f"{vote['by']}: fine"
        history = (await people.request("GET", "/v1/runs/r1/history")).json()["items"]
        voted = next(record["data"] for record in history if record["kind"] == "approval_voted")
        assert (voted["by"], voted["via"]) == (f"uid:{os.geteuid()}", vote["via"])
        assert [r["kind"] for r in history if r["kind"].startswith("approval")] == [
            "approval_requested", "approval_voted", "approval_decided",
        ]  # fmt: skip
        metrics = (await people.request("GET", "/metrics")).text
        assert "runtimed_approvals_open 0" in metrics
        assert await people.daemon.stop() == 0
    assert (await _verify(short_dir / "data"))[0] == 0
    _forge_a_vote(short_dir / "data" / "journal.db")
    code, said = await _verify(short_dir / "data")
    assert code != 0 and "approvals" in said


async def _verify(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-P", "-m", "runtimed", "journal", "verify", "--data-dir", str(folder)]
    done = await trio.run_process(command, env=_environ(), check=False, capture_stdout=True, capture_stderr=True)
    return done.returncode, (done.stdout + done.stderr).decode()


def _forge_a_vote(path: Path) -> None:
    """Skilfully, with the pages' checksums right."""
    db = apsw.Connection(str(path), vfs=checksum_vfs())
    db.execute("update approvals set votes = replace(votes, 'fine', 'sure')")
    db.close()


@as_root
@pytest.mark.trio
async def test_people_of_the_kernel(serving: Serve) -> None:
    """Each user has the level and the roles that the file gives him; what he is called in the record is his uid."""
    async with serving(ACCESS) as people:
        asked = await people.asked("r1", roles=["finance"], quorum=2, four_eyes=True)
        decide, body = f"/v1/approvals/{asked['id']}/decide", {"approve": True, "payload_hash": asked["payload_hash"]}
        assert (await people.user(4000, 4000, "GET", "/v1/approvals"))[0] == 403
        assert (await people.user(4001, 4001, "GET", f"/v1/approvals/{asked['id']}"))[0] == 200
        for uid in (4001, 4002):
            status, problem = await people.user(uid, uid, "POST", decide, body)
            assert (status, problem["code"]) == (403, "not_allowed") and "approver" in problem["detail"]
        status, problem = await people.user(4003, 4003, "POST", decide, body)
        assert status == 403 and "uid:4003 has ops" in problem["detail"] and "finance" in problem["detail"]
        status, view = await people.user(4005, 4100, "POST", decide, body)
        assert (status, view["status"], view["votes"][0]["by"]) == (200, "open", "uid:4005")
        status, problem = await people.user(4005, 4100, "POST", decide, body)
        assert (status, problem["code"]) == (409, "already_voted")
        own = await people.decide(asked)
        assert own.status_code == 403 and "started run" in own.json()["detail"]
        status, view = await people.user(4006, 4100, "POST", decide, body)
        assert (status, view["status"]) == (200, "approved")
        assert (await people.result("r1")).json() == "uid:4005, uid:4006: None"


@as_root
@pytest.mark.trio
async def test_a_reload_changes_who_may(serving: Serve, short_dir: Path) -> None:
    """SIGHUP applies levels and groups at once and keeps the flags; a bad file changes nothing and is shown."""
    async with serving(ACCESS, "--drain-delay", "0.125") as people:
        asked = await people.asked("r1", roles=["ops"])
        decide, body = f"/v1/approvals/{asked['id']}/decide", {"approve": True, "payload_hash": asked["payload_hash"]}
        config = short_dir / "runtimed.toml"
        good = config.read_text()
        config.write_text(good.replace('ops = ["uid:4003"]', 'ops = ["uid:no-such-user"]'))
        people.daemon.send(signal.SIGHUP)
        assert "reload refused" in await people.daemon.notices.until("READY=1")
        assert (await people.user(4005, 4100, "POST", decide, body))[0] == 403
        detail = (await people.request("GET", "/health/detail")).json()
        assert detail["status"] == "warn" and "no-such-user" in detail["reasons"][0]
        config.write_text(good.replace('ops = ["uid:4003"]', 'ops = ["gid:4100"]'))
        people.daemon.send(signal.SIGHUP)
        await people.daemon.notices.until("READY=1")
        assert (await people.request("GET", "/health/detail")).json()["status"] == "pass"
        assert (await people.user(4003, 4003, "POST", decide, body))[0] == 403
        assert (await people.user(4005, 4100, "POST", decide, body))[0] == 200
        assert "restart is needed" not in people.daemon.log_tail()


@pytest.mark.trio
async def test_killed_after_the_answer(serving: Serve) -> None:
    """An acknowledged decision is on disk: `kill -9` the moment it is answered, and the run goes on by it."""
    async with serving() as people:
        asked = await people.asked("r1", act_seconds=0.2)
        half = await people.asked("r2", quorum=2)
        assert (await people.decide(asked, reason="yes")).status_code == 200
        assert (await people.decide(half)).status_code == 200
        await people.daemon.kill()
        await people.daemon.start()
        async with people.daemon.client(PATIENCE_S) as client:
            again = Serving(people.daemon, client)
            assert (await again.result("r1")).json().endswith(": yes")
            assert (await again.decide(half)).json()["code"] == "already_voted"
            assert (await again.until_asked("r2"))["votes"][0]["by"] == f"uid:{os.geteuid()}"


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_the_operators_way(serving: Serve) -> None:
    """List, explain, deny, approve with a form: in a pipe, with the exit codes of the contract."""
    async with serving() as people:
        asked = await people.asked("r1")
        code, out, _ = await people.run_cli("approvals", "list", "-o", "id")
        assert (code, out) == (0, f"{asked['id']}\n")
        _, out, _ = await people.run_cli("runs", "explain", "r1")
        assert f'waits for approval {asked["id"]} "Go?" (0 of 1 votes)' in out and "kill -9 now: SAFE." in out
        code, _, err = await people.run_cli("approvals", "approve", asked["id"])
        assert code == 2 and "--payload-hash" in err
        code, out, _ = await people.run_cli("approvals", "deny", asked["id"], "--reason", "duplicate")
        assert code == 0 and "refused by uid:" in out
        code, _, err = await people.run_cli("approvals", "approve", asked["id"], "--yes")
        assert code == 5 and "duplicate" in err
        code, _, err = await people.run_cli("runs", "wait", "r1")
        assert code == 20 and "refused" in err
        form = await people.asked("r2", form=True)
        code, _, err = await people.run_cli("approvals", "approve", form["id"], "--yes", "--data", '{"cents": "x"}')
        assert code == 2 and "$.data.cents" in err
        prefix = form["payload_hash"][:8]
        assert (
            await people.run_cli("approvals", "approve", form["id"], "--payload-hash", prefix, "--data", '{"cents": 1}')
        )[0] == 0
        assert (await people.run_cli("runs", "wait", "r2"))[0] == 0
        _, out, _ = await people.run_cli("runs", "history", "r2")
        assert "approval_voted" in out and "yes, by uid:" in out


@pytest.mark.trio
async def test_a_terminal_is_asked(serving: Serve) -> None:
    """The card, then `yes`; anything else decides nothing; what was typed before the question does not answer it. The
    vote names the terminal and the ssh peer."""
    async with serving() as people:
        asked = await people.asked("r1", detail={"note": "pls \x1b[2J thx"})
        command, environ = people.cli("approvals", "approve", asked["id"]), _environ(SSH_CONNECTION="192.0.2.9 1 2 3")

        async with Terminal(command, environ, typed_ahead=b"yes\n") as terminal:
            shown = await terminal.until(b"type yes: ")
            assert b"\\x1b[2J" in shown and b"\x1b[2J" not in shown
            await terminal.write(b"y\n")
            assert (await terminal.end())[0] == 1  # had the first word counted, it would be 0
        assert (await people.until_asked("r1"))["status"] == "open"

        async with Terminal(command, environ) as terminal:
            await terminal.until(b"type yes: ")
            await terminal.write(b"yes\n")
            code, rest = await terminal.end()
        assert code == 0 and b"approved by uid:" in rest
        via = (await people.until_asked("r1"))["votes"][0]["via"]
        assert f" {terminal.name} ssh 192.0.2.9" in via


@pytest.mark.trio
async def test_high_risk_wants_the_code(serving: Serve) -> None:
    """At high risk `yes` is not enough: the first digits of the hash are, with a reason."""
    async with serving() as people:
        asked = await people.asked("r1", risk="high")
        command = people.cli("approvals", "approve", asked["id"], "--reason", "backup is fresh")
        for typed, wanted in ((b"yes", 1), (asked["payload_hash"][:4].encode(), 0)):
            async with Terminal(command, _environ()) as terminal:
                await terminal.until(b"hash: ")
                await terminal.write(typed + b"\n")
                assert (await terminal.end())[0] == wanted
        assert (await people.result("r1")).json().endswith("backup is fresh")


@pytest.mark.trio
async def test_waiting_and_watching_on_a_terminal(serving: Serve) -> None:
    """`runs wait` says what the run does meanwhile and clears that line; `-w` paints over what it has shown."""
    async with serving() as people:
        asked = await people.asked("r1")
        async with Terminal(people.cli("runs", "wait", "r1"), _environ()) as terminal:
            shown = await terminal.until(b"waiting for approval")
            await people.decide(asked, reason="go")
            code, rest = await terminal.end()
            assert code == 0 and rest.rstrip().endswith(b": go") and b"\r\x1b[K" in shown + rest
        async with Terminal(people.cli("approvals", "list", "--status", "all", "-w"), _environ()) as terminal:
            shown = await terminal.until(b"\x1b[J")
            assert shown.startswith(b"\x1b[H") and b"approved" in shown and b"\x1b[2J" not in shown
            await terminal.until(b"\x1b[J")
            terminal.interrupt()
            assert (await terminal.end())[0] == 130
