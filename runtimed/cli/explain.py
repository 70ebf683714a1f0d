"""A run in words: one sentence that says how it stands, since when, what would wake it and what a kill would cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from runtimed.cli.shell import Shell
from runtimed.cli.source import PAGE_MAX, Source
from runtimed.cli.standing import ENDS, Attempt, View, kill_cost, open_attempts, since, waits_for, with_past
from runtimed.cli.text import cell, instant

RECORDS_MAX = 5_000
"""How much of a history is read from its beginning; of a longer one the last record too, and that is said."""
_SUMS = {
    "step_completed": ("step is done", "steps are done"),
    "step_failed": ("attempt has failed", "attempts have failed"),
    "compensation_completed": ("compensation is done", "compensations are done"),
}
_KILL_STYLES: dict[str, dict[str, Any]] = {"SAFE": {"fg": "green"}, "REDO": {"fg": "yellow"}, "DOUBT": {"fg": "red"}}


class Gathered(msgspec.Struct, frozen=True):
    """What is known of a run: its view as it came and decoded, its records, those that a fork took over in their
    place among them, its approvals."""

    body: bytes
    run: View
    records: list[View]
    approvals: list[View]
    whole: bool
    asleep: str | None = None  # why nothing will wake it

    @property
    def attempts(self) -> list[Attempt]:
        """What is in flight, or in doubt: then the run is blocked, or nobody needs to know."""
        blocked = self.run["status"] == "blocked"
        return [attempt for attempt in open_attempts(self.records) if blocked or not attempt.doubtful]


def explain(shell: Shell, run_id: str) -> None:
    """Print it; as JSON `{"run", "sentence", "kill9", "because": [...], "next": [...]}`."""
    known = shell.read(lambda source: gather(source, run_id))
    word, cost = kill_cost(known.run, known.attempts)
    told, details, following = sentence(known), list(_details(known)), list(_next(known))
    if shell.output == "id":
        shell.print(cell(known.run["id"]))
        return
    if shell.output != "text":
        document = {
            "run": msgspec.Raw(known.body), "sentence": told, "kill9": word or None, "because": [told, *details],
            "next": following,
        }  # fmt: skip
        shell.print_json(msgspec.json.encode(document))
        return
    shell.print(told)
    for detail in details:
        shell.print(detail)
    if word:
        shell.print(f"If killed now: {shell.style(word, **_KILL_STYLES[word])}, {cost}.")
    for command in following:
        shell.print(f"  {shell.style('next:', dim=True)} {command}")


async def gather(source: Source, run_id: str) -> Gathered:
    """Read all that an explanation needs."""
    body = await source.run(run_id)
    run = msgspec.json.decode(body)
    records: list[View] = []
    after: str | None = "0"
    while after is not None and len(records) < RECORDS_MAX:
        page = msgspec.json.decode(await source.history(run_id, after=int(after), limit=PAGE_MAX))
        records += page["items"]
        after = page["next"]
    if after is not None:
        page = msgspec.json.decode(await source.history(run_id, after=max(0, run["seq"] - 1), limit=PAGE_MAX))
        records += page["items"]
    approvals: list[View] = []
    if run["waiting_on"] == "approval" or any(record["kind"] == "approval_requested" for record in records):
        approvals = msgspec.json.decode(await source.approvals(run_id=run["id"], limit=PAGE_MAX))["items"]
    asleep = None if run["status"] in (*ENDS, "blocked", "paused") else await source.why_asleep(run["id"])
    return Gathered(body, run, list(with_past(records)), approvals, after is None, asleep)


def sentence(known: Gathered) -> str:
    """The one sentence."""
    run, records = known.run, known.records
    name = f"Run {cell(run['id'])} of {cell(run['workflow'])}"
    status, began = run["status"], since(run, records)
    word, _ = kill_cost(run, known.attempts)
    if status in ENDS:
        return f"{name} {ENDS[status]} at {instant(run['ended_at'])}."
    ending = f"; kill -9 now: {word}."
    if status == "waiting":
        what, wakes = waits_for(run, records, known.approvals)
        until = f" until {instant(run['waiting_until'])}" if run["waiting_until"] else ""
        return f"{name} waits for {what} since {began}{until}; what wakes it: {wakes}{ending}"
    if status == "blocked":
        return f"{name} is blocked since {began}{_why_blocked(run)}; what wakes it: a person alone{ending}"
    if status == "paused":
        return f"{name} is paused since {began}{_by_whom(records)}; what wakes it: `runs resume`{ending}"
    if status == "queued":
        if run["waiting_on"] == "queue":
            queue = f"the queue {cell(run['queue'])}"
            wakes = f"a place in {queue}, by the end of another of its runs or by its rate"
            return f"{name} waits for its turn in {queue} since {began}; what wakes it: {wakes}{ending}"
        until = f" until {instant(run['waiting_until'])}" if run["waiting_until"] else ""
        return f"{name} is queued since {began}{until}; it begins by itself{ending}"
    doing = "is undoing what it did" if status == "compensating" else "is running"
    return f"{name} {doing} since {began}{_at_what(known.attempts)}{ending}"


def _why_blocked(run: View) -> str:
    error = run["error"]
    if error is None:
        return ""
    step = f" in {cell(error['step'])}" if error["step"] else ""
    return f" by {cell(error['type'])}{step}"


def _by_whom(records: Sequence[View]) -> str:
    paused: View = next((record["data"] for record in reversed(records) if record["kind"] == "run_paused"), {})
    by = f" by {cell(paused['by'])}" if paused.get("by") else ""
    return by + (f' ("{cell(paused["reason"])}")' if paused.get("reason") else "")


def _at_what(attempts: Sequence[Attempt]) -> str:
    if not attempts:
        return "; it goes on by itself"
    more = f" and {len(attempts) - 1} more" if len(attempts) > 1 else ""
    return f": {attempts[0]}{more} since {instant(attempts[0].since)}; it goes on when that ends"


def _details(known: Gathered) -> Iterator[str]:
    run, records = known.run, known.records
    error = run["error"]
    if error is not None:
        step = f" in step {cell(error['step'])}" if error["step"] else ""
        yield f"The cause{step}: {cell(error['type'])}: {cell(error['message'])}."
    forked = next((record["data"] for record in records if record["kind"] == "run_forked"), None)
    if forked is not None:
        origin = f"{cell(forked['from_id'])} at record {forked['from_seq']}"
        yield f"It is a fork of {origin}: what that had done is done here."
    kinds = [record["kind"] for record in records]
    counts = [(kinds.count(kind), words) for kind, words in _SUMS.items()]
    if sums := [f"{count} {one if count == 1 else many}" for count, (one, many) in counts if count]:
        yield f"So far: {', '.join(sums)}."
    for attempt in known.attempts:
        yield f"Call {cell(attempt.call)}, {cell(attempt.name)}, has begun and has no outcome yet."
    if known.asleep is not None:
        yield f"Nothing will wake it: {cell(known.asleep)}. That is a defect of ours: please report it."
    if not known.whole:
        yield f"Only the first {RECORDS_MAX:,} records of its history were read, and the last."


def _next(known: Gathered) -> Iterator[str]:
    run = known.run
    run_id, status = cell(run["id"]), run["status"]
    if known.asleep is not None:
        yield f"runtimed runs cancel {run_id}    (undoes what is done)"
    if status == "blocked":
        yield from _unblock(run, run_id, known.attempts)
    elif status == "waiting":
        for approval in known.approvals:
            if approval["status"] == "open":
                yield f"runtimed approvals show {cell(approval['id'])}"
        noted = next((record for record in reversed(known.records) if record["kind"] == "run_waiting"), None)
        for call in (noted["data"].get("calls") or []) if noted else []:
            if call["kind"] == "signal":
                yield f"runtimed runs signal {run_id} {cell(call.get('name'))} VALUE"
    elif status == "paused":
        yield f"runtimed runs resume {run_id}"
    yield f"runtimed runs history {run_id}"


def _unblock(run: View, run_id: str, attempts: Sequence[Attempt]) -> Iterator[str]:
    doubtful = [attempt for attempt in attempts if attempt.doubtful]
    for attempt in doubtful[:1]:
        yield f"runtimed runs resolve {run_id} {cell(attempt.call)} --happened|--did-not-happen --reason WHY"
    if run["error"] is None or run["error"]["type"] != "outcome_unknown":
        yield f"runtimed runs retry {run_id}    (once the cause is mended)"
    yield f"runtimed runs cancel {run_id}    (undoes what is done)"
