"""The metrics as monitoring takes them: well-formed, bounded, all there; and what `ops/` says of them is true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runtimed import App, Context, open_runtime
from runtimed.http.metrics import SERIES_MAX, RuntimeCollector, render
from runtimed.http.surface import Histogram, RuntimeStatistics
from wal.views import ActorView

ROOT = Path(__file__).resolve().parents[3]
ALERTS, RUNBOOK = ROOT / "ops" / "alerts.yaml", ROOT / "ops" / "runbook.md"
DASHBOARD = ROOT / "ops" / "grafana-dashboard.json"
CONTRACT = {
    "runs": ("workflow", "status"), "runs_started_total": (), "step_seconds": ("workflow", "step"),
    "step_attempts_total": ("outcome",), "commit_seconds": (), "commit_records": (), "journal_seq": (),
    "sqlite_wal_bytes": (), "disk_free_bytes": (), "disk_full_days": (), "backup_age_seconds": (),
    "mailbox_messages": ("actor",),
    "actor_restarts_total": ("actor",), "queue_runs": ("queue", "state"), "approvals_open": (),
    "connector_lag_seconds": ("connector",), "connector_records_total": ("connector",),
    "connector_errors_total": ("connector",), "runs_without_wake_source": (), "loop_lag_seconds": (),
    "build_info": ("version",), "runs_parked": (), "runs_in_memory": (), "ready": (),
    "trace_spans_total": ("outcome",), "http_answers_total": ("method", "route", "status"),
}  # fmt: skip
OF_THE_PROCESS = {"process_start_time_seconds"}
FULL = RuntimeStatistics(
    version="1.2.3", journal_seq=9, runs={("w", "running"): 1}, runs_started_total=2, runs_in_memory=1, runs_parked=3,
    step_seconds={("w", "s"): Histogram((0.1,), (1, 2), 0.7)}, step_attempts_total={"completed": 3},
    commit_seconds=Histogram((0.1,), (1, 0), 0.01), commit_records=Histogram((1.0,), (1, 0), 1.0), sqlite_wal_bytes=1,
    disk_free_bytes=2, disk_full_days=3.5, backup_age_seconds=60.0, queue_runs={("default", "ready"): 0},
    approvals_open=1,
    connector_lag_seconds={"c": 1.0}, connector_records_total={"c": 2}, connector_errors_total={"c": 3},
    runs_without_wake_source=0, loop_lag_seconds=0.0, trace_spans_total={"sent": 1},
)  # fmt: skip
ACTORS = [ActorView("root/engine", "up", 0, "one_for_all", 3, 10)]


def text_of(statistics: RuntimeStatistics) -> str:
    return render(RuntimeCollector(statistics, ACTORS, {("GET", "/v1/runs", 200): 1}).collect()).decode()


def test_the_text_is_byte_for_byte_that_of_the_library() -> None:
    """Our writer is faster and nothing else: hostile labels, large, tiny and odd numbers, counters and histograms."""
    odd = {(name, "x"): value for name, value in zip(
        ['a"b', "a\\b", "a\nb", "\u00e4", "", "e", "f", "g", "h"],
        [0, -1, 1e6, 1234567.5, 1e300, float("inf"), float("nan"), -0.5, 999_999],
        strict=True,
    )}  # fmt: skip
    for statistics in (FULL, RuntimeStatistics(runs=odd, journal_seq=2**53)):  # type: ignore[arg-type]
        collector = RuntimeCollector(statistics, ACTORS, {("GET", "/v1/runs", 200): 1})
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)
        assert render(collector.collect()).decode() == generate_latest(registry).decode()


def families(text: str) -> dict[str, Any]:
    """Each family by its name as it is queried: counters with their `_total`."""
    found = text_string_to_metric_families(text)
    return {each.name + ("_total" if each.type == "counter" else ""): each for each in found}


def test_all_of_the_contract_is_there() -> None:
    """Each metric that is promised is exposed with exactly its labels when all figures are known."""
    found = families(text_of(FULL))
    assert set(found) == {"runtimed_" + name for name in CONTRACT}
    for name, labels in CONTRACT.items():
        samples = found["runtimed_" + name].samples
        assert samples, name
        for sample in samples:
            assert set(sample.labels) - {"le"} == set(labels), name


def test_the_text_is_as_a_linter_wants_it() -> None:
    """What `promtool check metrics` looks for: a help text and a type for each, base units, `_total` for counters and
    only for them, no reserved labels, no abbreviations, buckets that rise to +Inf and to the count."""
    text = text_of(FULL)
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    types = dict(re.findall(r"^# TYPE (\S+) (.+)$", text, re.MULTILINE))
    assert set(helps) == set(types)
    for name, kind in types.items():
        assert re.fullmatch(r"runtimed_[a-z][a-z_]*[a-z]", name)
        assert helps[name].endswith("."), name
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search(r"_(count|sum|bucket|info_total|ms|us|minutes|hours|kib|mib)(_|$)", name), name
        # Days are no base unit. "Full in 3 days" is what people decide by, and alerts are written in.
        assert "days" not in name or name == "runtimed_disk_full_days"
    for family in families(text).values():
        if family.type == "histogram":
            buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
            counts = [sample.value for sample in buckets]
            assert counts == sorted(counts)
            assert buckets[-1].labels["le"] == "+Inf"
            assert counts[-1] == next(s.value for s in family.samples if s.name.endswith("_count"))


def test_what_is_not_known_is_not_told() -> None:
    """A figure that nobody has measured is absent: an alert must not fire, nor be silent, on a made-up zero."""
    found = families(text_of(RuntimeStatistics(version="1")))
    for name in ("disk_free_bytes", "disk_full_days", "runs_without_wake_source", "commit_seconds", "runs_parked"):
        assert "runtimed_" + name not in found


def test_histograms_are_bounded_and_lose_nothing() -> None:
    """Names without end give SERIES_MAX series, the last of which adds up the rest: count and sum stay right."""
    many = {("w", f"step-{at}"): Histogram((0.1, 1.0), (1, 1, 1), 3.0) for at in range(3 * SERIES_MAX)}
    family = families(text_of(RuntimeStatistics(step_seconds=many)))["runtimed_step_seconds"]
    counts = [sample.value for sample in family.samples if sample.name.endswith("_count")]
    sums = [sample.value for sample in family.samples if sample.name.endswith("_sum")]
    assert (len(counts), sum(counts), sum(sums)) == (SERIES_MAX, 3 * 3 * SERIES_MAX, 3 * 3.0 * SERIES_MAX)
    assert 'step="other"' in text_of(RuntimeStatistics(step_seconds=many))


# --- ops/ -----------------------------------------------------------------------------------------------------------


def named_in(text: str) -> set[str]:
    """The metrics that a text names, as families."""
    found = re.findall(r"\b(?:runtimed|process)_[a-z_]+", text)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


@pytest.mark.parametrize("path", [ALERTS, DASHBOARD], ids=lambda path: path.name)
def test_ops_names_only_metrics_that_exist(path: Path) -> None:
    """Every metric that an alert or a panel reads is one that the daemon exposes."""
    there = {"runtimed_" + name for name in CONTRACT} | OF_THE_PROCESS
    assert named_in(path.read_text()) - there == set()


def test_the_dashboard_is_one_and_shows_what_matters() -> None:
    """It is JSON with panels that do not overlap, each with a query, and no metric of the contract is left out."""
    dashboard = json.loads(DASHBOARD.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert at["x"] + at["w"] <= 24
        assert all(target["expr"] for target in panel["targets"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    shown = named_in(DASHBOARD.read_text()) | named_in(ALERTS.read_text())
    assert {"runtimed_" + name for name in CONTRACT} - shown == {"runtimed_build_info", "runtimed_trace_spans_total"}


def test_every_alert_has_its_line_in_the_runbook() -> None:
    """Whoever is woken finds a line that says what it means and what to do; no line is about an alert of the past."""
    alerts = re.findall(r"^ +- alert: (\w+)$", ALERTS.read_text(), re.MULTILINE)
    lines = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", RUNBOOK.read_text(), re.MULTILINE))
    assert len(alerts) == len(set(alerts)) >= 15
    assert set(lines) == set(alerts)
    assert all(len(line) > 60 for line in lines.values())
    for block in ALERTS.read_text().split("- alert: ")[1:]:
        assert "expr:" in block and "severity:" in block and "summary:" in block, block.splitlines()[0]


# --- a runtime ------------------------------------------------------------------------------------------------------

app = App("measured")


@app.workflow(signals={"go": str})
async def waiting(ctx: Context) -> str:
    return str(await ctx.signal("go"))


@pytest.mark.trio
async def test_runs_in_memory_and_parked_add_up(autojump_clock: trio.testing.MockClock) -> None:
    """Open runs are either in memory or parked, and the figures say which; an ended one is neither."""
    async with open_runtime(app, writer="memory") as rt:
        for at in range(5):
            await rt.start(waiting, None, id=f"r{at}")
        await rt.signal("r0", "go", "x")
        assert await rt.handle("r0").result() == "x"
        figures = rt.statistics()
        assert (figures.runs_in_memory, figures.runs_parked) == (4, 0)
        await trio.sleep(3 * rt.settings.limits.park_after)
        figures = rt.statistics()
        assert (figures.runs_in_memory, figures.runs_parked) == (0, 4)
        assert figures.queue_runs == {("default", "ready"): 0, ("default", "active"): 0}
