"""P10: whatever `/openapi.json` allows, and what it does not, the daemon answers with what it says."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, Phase

from tests.system.probing import tcp_port
from wal.verify import verify

pytestmark = [pytest.mark.trio, pytest.mark.slow, pytest.mark.chaos]

ENDLESS = "/v1/events"
PROBES = ("/health", "/livez", "/readyz", "/startupz")


async def test_the_schema_is_kept_by_both_sides(
    running: Any, short_dir: Path, scale: Callable[[int, int], int], figures: Any
) -> None:
    """Requests made from the schema, valid ones and broken ones: no answer is a 500, each error is a problem document,
    each answer has a status and a type that the schema names; afterwards the journal is whole."""
    config = short_dir / "runtimed.toml"
    config.write_text('[http]\nbind = "127.0.0.1:0"\n')
    examples = scale(5, 500)
    async with running(options=("--config", str(config), "--log-format", "json")) as daemon:
        async with daemon.client() as client:
            document = (await client.get("/openapi.json")).json()
            made = await client.post("/v1/tokens", json={"name": "fuzz", "role": "admin"})
        token = made.json()["token"]
        base = f"http://127.0.0.1:{tcp_port(daemon.log)}"
        seen = await trio.to_thread.run_sync(_play, document, base, token, examples)
        async with daemon.client() as client:
            assert (await client.get("/health/ready")).status_code == 200
        assert await daemon.stop() == 0
    log = daemon.log.read_text(encoding="utf-8", errors="replace")
    assert "ended by a defect" not in log, log[-4_000:]
    assert verify(daemon.data_dir / "journal.db").ok
    assert sum(seen.values()) > examples * 20
    figures("P10", schema_requests=sum(seen.values()), schema_5xx=sum(n for code, n in seen.items() if code >= 500))


def _play(document: dict[str, Any], base: str, token: str, examples: int) -> Counter[int]:
    """Ask every operation, so often each; what came back, by status."""
    seen: Counter[int] = Counter()
    schema = schemathesis.openapi.from_dict(document)
    settings = hypothesis.settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == ENDLESS or operation.path.startswith(PROBES):
            continue
        for mode in schemathesis.GenerationMode:

            @settings
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                answer = case.call(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=30)
                seen[answer.status_code] += 1
                _check(case, answer, document)

            with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # a route without anything that could be wrong
                ask()
    return seen


def _check(case: Any, answer: Any, document: dict[str, Any]) -> None:
    about = f"{case.method} {case.path}: {answer.status_code} {answer.content[:300]!r}"
    assert answer.status_code < 500 or answer.status_code == 503, about
    kind = answer.headers.get("content-type", [""])[0].partition(";")[0]
    if answer.status_code >= 400 and case.method != "HEAD" and answer.content:
        assert kind in ("application/problem+json", "application/health+json"), about
        if kind == "application/problem+json":
            problem = json.loads(answer.content)
            assert problem["status"] == answer.status_code, about
            assert problem["code"] and problem["title"] and problem["type"], about
    elif answer.status_code < 400:
        promised = document["paths"][case.path][case.method.lower()]["responses"]
        assert str(answer.status_code) in promised, about
        assert kind in promised[str(answer.status_code)]["content"], about
