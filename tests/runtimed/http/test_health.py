"""Probes, detail, metrics and the document of the routes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtimed.http.app import ROUTES
from runtimed.http.metrics import SERIES_MAX, RuntimeCollector
from runtimed.http.openapi import document
from runtimed.http.surface import Health, Histogram, RuntimeStatistics

PROBES = {"/health": "live", "/livez": "live", "/health/ready": "ready", "/readyz": "ready",
          "/health/startup": "started", "/startupz": "started"}  # fmt: skip


@pytest.mark.trio
@pytest.mark.parametrize(("path", "about"), PROBES.items())
async def test_probe_tells_one_thing(serve: Any, rt: Any, path: str, about: str) -> None:
    """A probe is 200 `pass`, or 503 `fail` if just its own condition is not met; its body is constant."""
    async with serve() as http:
        answer = await http.ask("GET", path, tcp=True)
        assert (answer.status, answer.body) == (200, b'{"status":"pass"}')
        assert answer.headers["content-type"] == "application/health+json"
        rt.healthy = Health(**{name: name != about for name in ("live", "ready", "started")})
        answer = await http.ask("GET", path, tcp=True)
        assert (answer.status, answer.body) == (503, b'{"status":"fail"}')
        rt.healthy = Health(**{name: name == about for name in ("live", "ready", "started")})
        assert (await http.ask("GET", path, tcp=True)).status == 200


@pytest.mark.trio
async def test_readiness_warns(serve: Any, rt: Any) -> None:
    """Ready with something to look at is 200 `warn`; the detail says what."""
    rt.healthy = Health(reasons=["the last reload was refused"])
    async with serve() as http:
        answer = await http.ask("GET", "/health/ready")
        assert (answer.status, answer.json()) == (200, {"status": "warn"})
        detail = await http.ask("GET", "/health/detail")
        assert (detail.status, detail.json()["status"]) == (200, "warn")
        assert detail.json()["reasons"] == ["the last reload was refused"]
        assert detail.json()["checks"]["actor:runtime/saga"][0]["restarts"] == 2


@pytest.mark.trio
async def test_the_detail_tells_of_the_last_backup(serve: Any, rt: Any) -> None:
    """That there is none, or its age, its time and where it is."""
    async with serve() as http:
        checks = (await http.ask("GET", "/health/detail")).json()["checks"]
        assert checks["journal:backup"][0]["output"] == "there is no backup"
        await rt.care.backup("/b/x.db")
        rt.figures = RuntimeStatistics(backup_age_seconds=12.34)
        (told,) = (await http.ask("GET", "/health/detail")).json()["checks"]["journal:backup"]
    assert (told["observedValue"], told["observedUnit"], told["output"]) == (12.3, "seconds", "/b/x.db")
    assert told["time"] == "2023-11-14T22:13:20.000000Z"


@pytest.mark.trio
async def test_metrics_have_the_promised_names(serve: Any, rt: Any) -> None:
    """`/metrics` is Prometheus text with the names of the contract, for all figures that there are."""
    rt.figures = RuntimeStatistics(
        version="1.2.3",
        runs={("checkout", "running"): 3, ('check"out\n', "failed"): 1},
        runs_started_total=4,
        step_seconds={("checkout", "charge"): Histogram((0.1, 1.0), (1, 2, 3), 9.5)},
        step_attempts_total={"completed": 5},
        commit_seconds=Histogram((0.01,), (1, 0), 0.001),
        commit_records=Histogram((1.0, 10.0), (0, 1, 0), 7.0),
        journal_seq=42,
        sqlite_wal_bytes=1,
        disk_free_bytes=2,
        loop_lag_seconds=0.5,
        connector_lag_seconds={"charges": 1.5},
        connector_records_total={"charges": 12},
        connector_errors_total={"charges": 3},
        runs_without_wake_source=0,
    )
    async with serve() as http:
        await http.ask("GET", "/health")
        answer = await http.ask("GET", "/metrics", tcp=True)
    assert answer.status == 200
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert samples["runtimed_runs", ("status", "running"), ("workflow", "checkout")] == 3
    assert samples["runtimed_runs", ("status", "failed"), ("workflow", 'check"out\n')] == 1
    assert samples[("runtimed_runs_started_total",)] == 4
    step = (("step", "charge"), ("workflow", "checkout"))
    assert samples["runtimed_step_seconds_bucket", ("le", "1.0"), *step] == 3
    assert samples["runtimed_step_seconds_bucket", ("le", "+Inf"), *step] == 6
    assert samples["runtimed_step_seconds_count", *step] == 6
    assert samples["runtimed_step_seconds_sum", *step] == 9.5
    assert samples["runtimed_step_attempts_total", ("outcome", "completed")] == 5
    assert samples["runtimed_commit_seconds_count",] == 1
    assert samples["runtimed_journal_seq",] == 42
    assert samples["runtimed_mailbox_messages", ("actor", "runtime/saga")] == 3
    assert samples["runtimed_actor_restarts_total", ("actor", "runtime/saga")] == 2
    assert samples["runtimed_build_info", ("version", "1.2.3")] == 1
    assert samples["runtimed_loop_lag_seconds",] == 0.5
    assert samples["runtimed_http_answers_total", ("method", "GET"), ("route", "/health"), ("status", "200")] == 1
    for name, value in (("lag_seconds", 1.5), ("records_total", 12), ("errors_total", 3)):
        assert samples[f"runtimed_connector_{name}", ("connector", "charges")] == value
    assert samples["process_open_fds",] > 0
    assert ("runtimed_approvals_open",) not in samples


def test_series_of_a_family_are_bounded() -> None:
    """A user who makes names without end gets `other`, and the sum stays right."""
    runs = {(f"workflow-{at}", "running"): at for at in range(5 * SERIES_MAX)}
    families = {family.name: family for family in RuntimeCollector(RuntimeStatistics(runs=runs), [], {}).collect()}
    samples = families["runtimed_runs"].samples
    assert len(samples) == SERIES_MAX
    assert sum(sample.value for sample in samples) == sum(runs.values())
    assert samples[-1].labels == {"workflow": "other", "status": "other"}


@pytest.mark.trio
async def test_openapi_tells_every_route(serve: Any) -> None:
    """`/openapi.json` has every route of the table, and every reference in it leads somewhere."""
    async with serve() as http:
        answer = await http.ask("GET", "/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert told["openapi"] == "3.1.0"
    operations = {(method.upper(), path) for path, methods in told["paths"].items() for method in methods}
    assert operations == {(route.method, route.path.replace(":path", "")) for route in ROUTES}
    schemas = told["components"]["schemas"]
    for reference in _references(told):
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert schemas["StartRunRequest"]["required"] == ["workflow"]
    assert schemas["StartRunRequest"]["additionalProperties"] is False
    assert len({methods[m]["operationId"] for methods in told["paths"].values() for m in methods}) == len(ROUTES)


def test_every_handler_says_what_it_does() -> None:
    """Each operation has a sentence, and the document is plain JSON."""
    told = document(ROUTES)
    msgspec.json.encode(told)
    for methods in told["paths"].values():
        for operation in methods.values():
            assert operation["summary"].endswith(".")


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if "$ref" in value else []
        return found + [each for part in value.values() for each in _references(part)]
    return [each for part in value for each in _references(part)] if isinstance(value, list) else []
