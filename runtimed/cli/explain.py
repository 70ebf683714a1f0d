"""A run in words: how it stands, why, what it waits for, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from runtimed.cli.shell import Shell
from runtimed.cli.source import PAGE_MAX, Source
from runtimed.cli.text import cell, instant

RECORDS_MAX = 5_000
"""How much of a history is read; the explanation says so if there is more."""

_ENDS = {"completed": "has completed", "failed": "has failed", "cancelled": "was cancelled"}
_UNSETTLED = ("step_scheduled", "compensation_scheduled")
_SETTLING = {"step_completed", "step_failed", "step_resolved", "compensation_completed", "compensation_failed"}


def explain(shell: Shell, run_id: str) -> None:
    """Print the explanation; as JSON `{"run", "because": [...], "next": [...]}`."""
    body, records = shell.read(lambda source: _gather(source, run_id))
    run = msgspec.json.decode(body)
    because, following = list(_because(run, records)), list(_next(run, records))
    if shell.output != "text":
        shell.print_json(msgspec.json.encode({"run": msgspec.Raw(body), "because": because, "next": following}))
        return
    for sentence in because:
        shell.print(sentence)
    for command in following:
        shell.print(f"  {shell.style('next:', dim=True)} {command}")


async def _gather(source: Source, run_id: str) -> tuple[bytes, list[dict[str, Any]]]:
    body = await source.run(run_id)
    records: list[dict[str, Any]] = []
    after: str | None = "0"
    while after is not None and len(records) < RECORDS_MAX:
        page = msgspec.json.decode(await source.history(run_id, after=int(after), limit=PAGE_MAX))
        records += page["items"]
        after = page["next"]
    return body, records


def _because(run: dict[str, Any], records: list[dict[str, Any]]) -> Iterator[str]:
    yield _headline(run)
    error = run["error"]
    if error is not None:
        step = f" in step {cell(error['step'])}" if error["step"] else ""
        yield f"The cause{step}: {cell(error['type'])}: {cell(error['message'])}."
    if run["status"] in ("waiting", "paused", "queued"):
        yield from _open_calls(run, records)
    yield from _steps(records)
    if len(records) >= RECORDS_MAX:
        yield f"Only the first {RECORDS_MAX:,} records of its history were read."


def _headline(run: dict[str, Any]) -> str:
    name = f"Run {cell(run['id'])} of {cell(run['workflow'])}"
    if run["status"] in _ENDS:
        return f"{name} {_ENDS[run['status']]} at {instant(run['ended_at'])}."
    if run["status"] == "waiting":
        until = f" until {instant(run['waiting_until'])}" if run["waiting_until"] else ""
        return f"{name} is waiting for {cell(run['waiting_on'])}{until}, since {instant(run['updated_at'])}."
    return f"{name} is {run['status']}, since {instant(run['updated_at'])}."


def _open_calls(run: dict[str, Any], records: list[dict[str, Any]]) -> Iterator[str]:
    noted = [record for record in records if record["kind"] == "run_waiting"]
    for call in noted[-1]["data"].get("calls", []) if noted else []:
        yield f"It has call {cell(call['key'])} open: {cell(call['kind'])} {cell(call.get('name'))}."


def _steps(records: list[dict[str, Any]]) -> Iterator[str]:
    kinds = [record["kind"] for record in records]
    done, undone = kinds.count("step_completed"), kinds.count("compensation_completed")
    failed = kinds.count("step_failed")
    if done or failed or undone:
        yield f"{done} steps are done, {failed} attempts failed, {undone} compensations are done."
    settled = {record["call"] for record in records if record["kind"] in _SETTLING}
    for record in records:
        if record["kind"] in _UNSETTLED and record["call"] not in settled:
            yield f"Call {cell(record['call'])}, {cell(record['name'])}, has begun and has no outcome yet."


def _next(run: dict[str, Any], records: list[dict[str, Any]]) -> Iterator[str]:
    run_id, status = cell(run["id"]), run["status"]
    if status == "blocked":
        unknown = [record for record in records if record["kind"] == "step_unknown"]
        for record in unknown[-1:]:
            yield f"runtimed runs resolve {run_id} {cell(record['call'])} --happened|--did-not-happen --reason WHY"
        yield f"runtimed runs retry {run_id}    (once the cause is mended)"
        yield f"runtimed runs cancel {run_id}    (undoes what is done)"
    if status == "waiting" and run["waiting_on"] == "signal":
        noted = [record for record in records if record["kind"] == "run_waiting"]
        calls = noted[-1]["data"].get("calls", []) if noted else []
        for call in [call for call in calls if call["kind"] == "signal"]:
            yield f"runtimed runs signal {run_id} {cell(call.get('name'))} VALUE"
    if status == "paused":
        yield f"runtimed runs resume {run_id}"
    yield f"runtimed runs history {run_id}"
