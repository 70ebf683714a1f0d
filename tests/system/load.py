"""The client's side of the fault tests: work from several tasks, and a list of all that was acknowledged.

A request whose answer did not arrive is repeated under the same id until there is one, or given up: then nothing is
claimed about it. What this keeps is what the daemon must never lose.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any, NamedTuple

import httpx2
import trio

from tests.system.daemon_process import Daemon

AWAY_SECONDS = 0.03
PAUSE_SECONDS = 0.02
TEMPORARY = {429, 502, 503}


class Ack(NamedTuple):
    """Something acknowledged: `kind` is a record's, `subject` a run, a session or a state key; `data` what was said."""

    kind: str
    subject: str
    data: dict[str, Any]


class Load:
    """Work for a daemon that is killed now and then. `acks` is what it has promised."""

    def __init__(self, daemon: Daemon, seed: int, *, wait_share: float = 0.4) -> None:
        self.daemon, self.acks = daemon, list[Ack]()
        self.answered = self.unanswered = 0
        self._chance = random.Random(seed)
        self._wait_share = wait_share
        self._numbers = iter(range(1, 1_000_000_000))
        self._to_signal: deque[str] = deque()
        self._recent: deque[str] = deque(maxlen=50)
        self._sessions: deque[str] = deque(maxlen=5)

    async def work(self, tasks: int) -> None:
        """Send requests of all kinds from so many tasks, until cancelled."""
        async with trio.open_nursery() as nursery:
            for number in range(tasks):
                nursery.start_soon(self._work, random.Random(self._chance.randrange(1 << 30) + number))

    async def _work(self, chance: random.Random) -> None:
        often = (self.start, self.start, self.start_many, self.signal, self.signal, self.decide, self.decide)
        doings = (*often, self.put_state, self.session, self.cancel, self.pause)
        async with self.daemon.client() as client:
            while True:
                await chance.choice(doings)(client, chance)
                await trio.sleep(PAUSE_SECONDS * chance.random())

    async def ask(
        self,
        client: httpx2.AsyncClient,
        method: str,
        path: str,
        body: Any = None,
        *,
        insist: bool = True,
        **headers: str,
    ) -> httpx2.Response | None:
        """The answer, or None if it did not arrive and nobody insists on it."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        while True:
            try:
                response = await client.request(method, path, json=body, headers=sent)
            except httpx2.TransportError:
                self.unanswered += 1
            else:
                if response.status_code not in TEMPORARY:
                    self.answered += 1
                    assert response.status_code < 500, f"{method} {path}: {response.status_code} {response.text[:500]}"
                    return response
            if not insist:
                return None
            await trio.sleep(AWAY_SECONDS)

    def number(self) -> int:
        """A number never used before."""
        return next(self._numbers)

    # --- what is asked for

    def _run(self, chance: random.Random) -> dict[str, Any]:
        number = self.number()
        kind = chance.choice(("purchase", "purchase", "purchase", "review", "nap", "fan"))
        inputs: dict[str, Any] = {
            "purchase": {
                "number": number, "wait": chance.random() < self._wait_share, "declined": chance.random() < 0.2
            },
            "review": number,
            "nap": [round(chance.random() * 0.6, 2) for _ in range(chance.randint(1, 3))],
            "fan": chance.randint(1, 4),
        }  # fmt: skip
        run = {"workflow": kind, "id": f"{kind}-{number}", "input": inputs[kind]}
        if self._sessions and chance.random() < 0.2:
            run["session_id"] = self._sessions[-1]
        return run

    def _started(self, run: dict[str, Any]) -> None:
        self.acks.append(Ack("run_started", run["id"], {"input": run["input"]}))
        self._recent.append(run["id"])
        if run["workflow"] == "purchase" and run["input"]["wait"]:
            self._to_signal.append(run["id"])

    async def start(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """Start one run."""
        run = self._run(chance)
        response = await self.ask(client, "POST", "/v1/runs", run, insist=chance.random() < 0.8)
        if response is not None and response.status_code in (200, 201):
            self._started(run)

    async def start_many(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """Start some runs in one commit."""
        runs = [self._run(chance) for _ in range(chance.randint(2, 12))]
        headers = {"Idempotency_Key": f"many-{self.number()}"} if chance.random() < 0.5 else {}
        response = await self.ask(client, "POST", "/v1/runs", runs, **headers)
        assert response is not None
        for run, item in zip(runs, response.json()["items"], strict=True):
            if item["status"] in (200, 201):
                assert item["run"]["id"] == run["id"]
                self._started(run)

    async def signal(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """Signal a run that waits for it, or will; the same signal twice now and then."""
        if not self._to_signal:
            return
        run_id = self._to_signal.popleft()
        await self.send_signal(client, run_id)
        if chance.random() < 0.2:
            await self.send_signal(client, run_id)

    async def send_signal(self, client: httpx2.AsyncClient, run_id: str) -> None:
        """Send `go` to a run, once and for all."""
        body = {"name": "go", "value": f"for {run_id}", "signal_id": f"go-{run_id}"}
        response = await self.ask(client, "POST", f"/v1/runs/{run_id}/signal", body)
        assert response is not None
        if response.status_code == 202:
            self.acks.append(Ack("signal_received", run_id, {**body, "seq": response.json()["seq"]}))
        else:
            assert response.json()["code"] == "run_ended", response.text

    async def put_state(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """Write a value, under a condition now and then."""
        key, value = f"k-{chance.randrange(20)}", {"n": self.number()}
        headers = {"If_Match": f'"{chance.randrange(10)}"'} if chance.random() < 0.3 else {}
        path = f"/v1/state/global/{key}"
        response = await self.ask(client, "PUT", path, {"value": value}, insist=chance.random() < 0.7, **headers)
        if response is not None and response.status_code in (200, 201):
            self.acks.append(Ack("state_written", key, {"version": response.json()["version"], "value": value}))

    async def session(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """Open a session, or touch or close one; closing cancels its runs."""
        if len(self._sessions) < 3:
            name = f"session-{self.number()}"
            body = {"id": name, "ttl": 300.0, "on_close": "cancel", "tenant": "acme"}
            response = await self.ask(client, "POST", "/v1/sessions", body)
            if response is not None and response.status_code in (200, 201):
                self._sessions.append(name)
                self.acks.append(Ack("session_opened", name, {}))
            return
        closes = chance.random() < 0.2
        name = self._sessions.popleft() if closes else chance.choice(self._sessions)
        verb, kind = ("close", "session_closed") if closes else ("touch", "session_touched")
        response = await self.ask(client, "POST", f"/v1/sessions/{name}/{verb}", {})
        if response is not None and response.status_code == 200:
            self.acks.append(Ack(kind, name, {}))

    async def cancel(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """Cancel a recent run, rarely."""
        if not self._recent or chance.random() < 0.6:
            return
        run_id = chance.choice(self._recent)
        response = await self.ask(client, "POST", f"/v1/runs/{run_id}/cancel", {"reason": "tired of it"})
        if response is not None and response.status_code == 202:
            self.acks.append(Ack("run_cancel_requested", run_id, {"seq": response.json()["seq"]}))

    async def decide(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """Say yes or no to what people are asked."""
        response = await self.ask(client, "GET", "/v1/approvals?status=open&limit=3", insist=False)
        for approval in response.json()["items"] if response is not None else ():
            await self.send_decision(client, approval)

    async def send_decision(self, client: httpx2.AsyncClient, approval: dict[str, Any]) -> None:
        """Decide one approval, in the same way whoever asks again."""
        approve = approval["detail"]["number"] % 4 != 0
        body = {"approve": approve, "reason": "as agreed", "payload_hash": approval["payload_hash"]}
        key = {"Idempotency_Key": f"decide-{approval['id']}"}
        response = await self.ask(client, "POST", f"/v1/approvals/{approval['id']}/decide", body, **key)
        assert response is not None
        if response.status_code == 200:
            self.acks.append(Ack("approval_decided", approval["run_id"], {"approved": approve}))
        else:
            assert response.status_code == 409, response.text  # withdrawn, or somebody else was faster

    async def pause(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """Hold a recent run for a moment."""
        if not self._recent:
            return
        run_id = chance.choice(self._recent)
        for verb, kind in (("pause", "run_paused"), ("resume", "run_resumed")):
            response = await self.ask(client, "POST", f"/v1/runs/{run_id}/{verb}", {"reason": "lunch"})
            if response is not None and response.status_code == 202:
                self.acks.append(Ack(kind, run_id, {"seq": response.json()["seq"]}))
            await trio.sleep(PAUSE_SECONDS)

    # --- the end

    async def finish(self, seconds: float) -> float:
        """Signal whoever still waits, have suspects tried again, and wait until no run is open; gives the seconds."""
        began = trio.current_time()
        async with self.daemon.client() as client:
            for run_id in list(self._to_signal):
                await self.send_signal(client, run_id)
            with trio.move_on_after(seconds):
                while open_runs := await self._open_runs(client):
                    for run in open_runs:
                        await self._help(client, run)
                    await trio.sleep(0.1)
                return trio.current_time() - began
            left = [
                (run["id"], run["status"], run["waiting_on"], run["error"]) for run in await self._open_runs(client)
            ]
        raise AssertionError(f"after {seconds} s without faults {len(left)} runs are still open: {left[:10]}")

    async def _help(self, client: httpx2.AsyncClient, run: dict[str, Any]) -> None:
        if run["waiting_on"] == "signal":  # started, as it turns out, though nobody was told
            await self.send_signal(client, run["id"])
        elif run["waiting_on"] == "approval":
            approvals = await self.ask(client, "GET", f"/v1/approvals?status=open&run_id={run['id']}")
            assert approvals is not None
            for approval in approvals.json()["items"]:
                await self.send_decision(client, approval)
        elif run["status"] == "paused":  # by a request whose answer did not arrive
            await self.ask(client, "POST", f"/v1/runs/{run['id']}/resume", {})
        elif run["status"] == "blocked" and run["error"]["type"] in ("stuck", "interrupted"):
            await self.ask(client, "POST", f"/v1/runs/{run['id']}/retry", {"reason": "it was killed, not stuck"})

    async def _open_runs(self, client: httpx2.AsyncClient) -> list[dict[str, Any]]:
        params = "status=queued,running,waiting,paused,compensating,blocked&limit=200"
        response = await self.ask(client, "GET", f"/v1/runs?{params}")
        assert response is not None
        items: list[dict[str, Any]] = response.raise_for_status().json()["items"]
        return items
