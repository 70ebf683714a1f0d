"""`/metrics`: the runtime's figures in the Prometheus text format, each family with a bounded number of series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from runtimed.http.replies import Reply
from runtimed.http.requests import Request
from runtimed.http.surface import Histogram, RuntimeStatistics, RuntimeSurface
from wal.views import ActorView

PREFIX: Final = "runtimed_"
SERIES_MAX: Final = 1_000
"""Series a family may have; the others are added up under the label value `other`. One scrape stays cheap and a
user's naming cannot fill the monitoring's disk."""
OTHER: Final = "other"
TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"

PROCESS: Final = ProcessCollector(registry=None)

Labels = tuple[str, ...]


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """The figures as they stand."""
    ours = RuntimeCollector(rt.statistics(), rt.tree(), request.answers, ready=rt.health().ready)
    return Reply(200, render([*PROCESS.collect(), *ours.collect()]), TEXT)


class RuntimeCollector(Collector):
    """One scrape: families made from snapshots, so that all figures are of one moment."""

    def __init__(
        self,
        statistics: RuntimeStatistics,
        actors: Iterable[ActorView],
        answers: Mapping[tuple[str, str, int], int],
        *,
        ready: bool = True,
    ) -> None:
        self._ready = ready
        self._statistics = statistics
        self._actors = list(actors)
        self._answers = answers

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._runs()
        yield from self._steps()
        yield from self._journal()
        yield from self._actor_families()
        yield from self._edges()

    def _runs(self) -> Iterator[Metric]:
        s = self._statistics
        yield _gauge("runs", "Runs by workflow and status.", ("workflow", "status"), s.runs)
        yield _counter("runs_started", "Runs started since the daemon began.", (), {(): s.runs_started_total})
        yield from _optional("runs_in_memory", "Runs that are held in memory.", s.runs_in_memory)
        yield from _optional("runs_parked", "Open runs that are only rows, and cost no memory.", s.runs_parked)
        yield _gauge("queue_runs", "Runs of queues by state.", ("queue", "state"), s.queue_runs)
        yield from _optional("approvals_open", "Approvals that wait for a decision.", s.approvals_open)
        yield from _optional(
            "runs_without_wake_source", "Open runs that nothing will wake; more than 0 is a defect.",
            s.runs_without_wake_source,
        )  # fmt: skip

    def _steps(self) -> Iterator[Metric]:
        s = self._statistics
        yield _histogram("step_seconds", "Duration of step attempts.", ("workflow", "step"), s.step_seconds)
        attempts = {(outcome,): count for outcome, count in s.step_attempts_total.items()}
        yield _counter("step_attempts", "Attempts of steps by outcome.", ("outcome",), attempts)

    def _journal(self) -> Iterator[Metric]:
        s = self._statistics
        for name, doc, histogram in (
            ("commit_seconds", "Duration of commits.", s.commit_seconds),
            ("commit_records", "Records a commit.", s.commit_records),
        ):
            if histogram is not None:
                yield _histogram(name, doc, (), {(): histogram})
        yield _gauge("journal_seq", "The last durable record.", (), {(): s.journal_seq})
        yield from _optional("sqlite_wal_bytes", "Size of SQLite's write-ahead log.", s.sqlite_wal_bytes)
        yield from _optional("disk_free_bytes", "Free space on the journal's disk.", s.disk_free_bytes)
        yield from _optional(
            "disk_full_days", "Days until the disk is full, by the trend of a day; absent if it does not shrink.",
            s.disk_full_days,
        )  # fmt: skip
        yield from _optional(
            "backup_age_seconds", "Age of the last backup; below 0 if it is dated ahead, absent without one.",
            s.backup_age_seconds,
        )  # fmt: skip
        yield from _optional("loop_lag_seconds", "How late the event loop wakes.", s.loop_lag_seconds)

    def _actor_families(self) -> Iterator[Metric]:
        waiting = {(actor.path,): actor.mailbox_size for actor in self._actors}
        restarts = {(actor.path,): actor.restarts for actor in self._actors}
        yield _gauge("mailbox_messages", "Messages that wait in an actor's mailbox.", ("actor",), waiting)
        yield _counter("actor_restarts", "Restarts of an actor.", ("actor",), restarts)

    def _edges(self) -> Iterator[Metric]:
        s = self._statistics
        lags = {(name,): lag for name, lag in s.connector_lag_seconds.items()}
        records = {(name,): count for name, count in s.connector_records_total.items()}
        errors = {(name,): count for name, count in s.connector_errors_total.items()}
        answers = {(method, path, str(status)): count for (method, path, status), count in self._answers.items()}
        labels = ("method", "route", "status")
        yield _gauge("connector_lag_seconds", "How far a connector is behind.", ("connector",), lags)
        yield _counter("connector_records", "Records that a connector brought.", ("connector",), records)
        yield _counter("connector_errors", "Polls of a connector that failed.", ("connector",), errors)
        yield _counter("http_answers", "Answers by route and status.", labels, answers)
        if s.trace_spans_total:
            spans = {(outcome,): count for outcome, count in s.trace_spans_total.items()}
            yield _counter("trace_spans", "Spans for OpenTelemetry: sent, dropped, failed.", ("outcome",), spans)
        yield _gauge("ready", "Whether new work is taken: what /health/ready tells.", (), {(): int(self._ready)})
        yield _gauge("build_info", "The version that runs.", ("version",), {(s.version,): 1})


@lru_cache(maxsize=8_192)
def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)


_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def render(families: Iterable[Metric]) -> bytes:
    """The text format, byte for byte as prometheus_client's own writer has it, in half of its time: a
    scrape is written on the loop, which the other one held for 77 ms with the most series that there can be."""
    lines = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        told = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {name} {told}\n# TYPE {name} {family.type}\n")
        for sample in family.samples:
            value = sample.value
            text = f"{int(value)}.0" if -1e6 < value < 1e6 and value == int(value) else floatToGoString(value)  # type: ignore[no-untyped-call]
            labels = ",".join([f'{key}="{_escaped(value)}"' for key, value in sorted(sample.labels.items())])
            lines.append(f"{sample.name}{{{labels}}} {text}\n" if labels else f"{sample.name} {text}\n")
    return "".join(lines).encode()


def _bounded(values: Mapping[Any, float]) -> Iterator[tuple[Labels, float]]:
    """The largest series, and one for all others."""
    if len(values) <= SERIES_MAX:
        yield from values.items()
        return
    ranked = sorted(values.items(), key=lambda item: item[1], reverse=True)
    yield from ranked[: SERIES_MAX - 1]
    yield (OTHER,) * len(ranked[0][0]), sum(value for _, value in ranked[SERIES_MAX - 1 :])


def _gauge(name: str, doc: str, labels: Labels, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, doc, labels=labels)
    for key, value in _bounded(values):
        family.add_metric(key, value)
    return family


def _optional(name: str, doc: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield _gauge(name, doc, (), {(): value})


def _counter(name: str, doc: str, labels: Labels, values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, doc, labels=labels)
    for key, value in _bounded(values):
        family.add_metric(key, value)
    return family


def _histogram(name: str, doc: str, labels: Labels, values: Mapping[Any, Histogram]) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, doc, labels=labels)
    for key, histogram in _bounded_histograms(values):
        total, buckets = 0, []
        for bound, count in zip((*map(_bound, histogram.bounds), "+Inf"), histogram.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric(key, buckets=buckets, sum_value=histogram.sum)
    return family


def _bounded_histograms(values: Mapping[Any, Histogram]) -> list[tuple[Labels, Histogram]]:
    """The busiest series, and one that adds up all others."""
    if len(values) <= SERIES_MAX:
        return list(values.items())
    ranked = sorted(values.items(), key=lambda item: sum(item[1].counts), reverse=True)
    rest = [histogram for _, histogram in ranked[SERIES_MAX - 1 :]]
    counts = tuple(map(sum, zip(*(histogram.counts for histogram in rest), strict=True)))
    together = Histogram(rest[0].bounds, counts, sum(histogram.sum for histogram in rest))
    return [*ranked[: SERIES_MAX - 1], ((OTHER,) * len(ranked[0][0]), together)]


def _bound(bound: float) -> str:
    return repr(float(bound))
