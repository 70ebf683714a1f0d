"""How a run stands, out of its view and its records: what it waits for, what is in flight, what a kill would cost.

Pure: it is given decoded JSON and gives sentences. Text from outside is escaped by `cell` where it enters a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from runtimed.cli.text import cell, instant
from wal.telling import BEGINNINGS, past_of

View = dict[str, Any]
ENDS = {"completed": "has completed", "failed": "has failed", "cancelled": "was cancelled"}
_SETTLING = ("step_completed", "compensation_completed", "step_resolved")
_FAILING = ("step_failed", "compensation_failed")
_BEGINNING = ("step_scheduled", "compensation_scheduled")


class Attempt(NamedTuple):
    """An attempt of a step that began and has no outcome; `doubtful` if nobody will know it by itself. A kill makes one
    so that is delivered `at_most_once`."""

    call: str
    name: str
    number: int
    since: str
    doubtful: bool = False
    at_most_once: bool = False

    def __str__(self) -> str:
        return f"{cell(self.name)} (call {cell(self.call)}, attempt {self.number})"


def with_past(records: Iterable[View]) -> Iterator[View]:
    """A history in which what a fork took over stands before the record that says so, as other records do."""
    for record in records:
        if record["kind"] == "run_forked":
            told = past_of(msgspec.json.encode(record["data"]))
            yield from (msgspec.json.decode(msgspec.json.encode(one)) for one in told if one.kind not in BEGINNINGS)
        yield record


def open_attempts(records: Iterable[View]) -> list[Attempt]:
    """The attempts without an outcome, oldest first: what a kill would interrupt, or has left in doubt."""
    begun: dict[str, Attempt] = {}
    names: dict[str, tuple[str, int]] = {}  # of calls that wait for their next attempt
    left: dict[str, Attempt] = {}  # what was under way where a fork was forked: it is not under way here
    for record in records:
        kind, call = record["kind"], record["call"] or ""
        if kind in _BEGINNING:
            once = bool(record["data"].get("at_most_once"))
            begun[call] = Attempt(call, record["name"] or "", 1, record["at"], at_most_once=once)
        elif kind in _SETTLING or kind in _FAILING:
            attempt = begun.pop(call, None)
            if kind in _FAILING and record["data"].get("retry_at") is not None:
                names[call] = (record["name"] or (attempt.name if attempt else ""), (record["attempt"] or 1) + 1)
        elif kind == "step_interrupted":
            begun[call] = Attempt(call, record["name"] or "", (record["attempt"] or 1) + 1, record["at"])
        elif kind == "timer_fired" and call in names:
            name, number = names.pop(call)
            begun[call] = Attempt(call, name, number, record["at"])
        elif kind == "step_unknown" and (attempt := begun.get(call) or left.get(call)) is not None:
            begun[call] = attempt._replace(doubtful=True)
        elif kind == "run_forked":
            left, begun = begun, {}
    return list(begun.values())


def kill_cost(run: View, attempts: Sequence[Attempt]) -> tuple[str, str]:
    """What `kill -9` would cost now, as a word and in words: SAFE, REDO or DOUBT; empty for a run that has ended."""
    if run["status"] in ENDS:
        return "", ""
    doubtful = [attempt for attempt in attempts if attempt.doubtful]
    if doubtful:
        return "DOUBT", f"a person is asked about {doubtful[0]} already, and would be again"
    once = [attempt for attempt in attempts if attempt.at_most_once]
    if once:
        return "DOUBT", f"whether {once[0]} happened, a person would be asked: it is delivered at most once"
    if attempts and run["status"] != "blocked":
        more = f" and {len(attempts) - 1} more" if len(attempts) > 1 else ""
        return "REDO", f"{attempts[0]}{more} would run again with the same idempotency key"
    return "SAFE", f"nothing is lost or repeated; all is on disk up to record {run['seq']}"


def waits_for(run: View, records: Sequence[View], approvals: Sequence[View]) -> tuple[str, str]:
    """What a waiting run waits for, and what would wake it, each as words."""
    noted = next((record for record in reversed(records) if record["kind"] == "run_waiting"), None)
    calls = (noted["data"].get("calls") or []) if noted is not None else []
    asked = {each["call"]: each for each in approvals if each["status"] == "open"}
    told = [_call_in_words(call, asked.get(call["key"]), records) for call in calls]
    if not told:
        told = [(cell(run["waiting_on"]), "what it waits for")]
    if noted is not None and noted["data"].get("more"):  # very many: those that were named before are not named again
        told.append((f"{noted['data']['more']} more", "what those wait for"))
    what, wakes = " and ".join(each[0] for each in told), " or ".join(dict.fromkeys(each[1] for each in told))
    if run["waiting_until"] is not None and not any(call["kind"] == "timer" for call in calls):
        wakes += " or its deadline"
    return what, wakes


def _call_in_words(call: View, approval: View | None, records: Sequence[View]) -> tuple[str, str]:
    kind, name = call["kind"], cell(call.get("name"))
    if kind == "signal":
        return f"the signal {name}", f"the signal {name}"
    if kind == "timer":
        due = next(
            (r["data"].get("due_at") for r in records if r["kind"] == "timer_set" and r["call"] == call["key"]), None
        )
        when = f" at {instant(due)}" if due is not None else ""
        return f"the timer of call {cell(call['key'])}", f"its timer{when}"
    if kind == "approval" and approval is not None:
        given = sum(vote["approve"] for vote in approval["votes"])
        whose = " or ".join(cell(role) for role in approval["roles"]) or "anyone who may approve"
        return (
            f'approval {cell(approval["id"])} "{cell(approval["title"])}" ({given} of {approval["quorum"]} votes)',
            f"a decision of {whose}",
        )
    if kind == "approval":
        return f'the approval "{name}"', "a decision"
    if kind == "child":
        return f"child run {name}", f"the end of {name}"
    return f"the next attempt of {name} (call {cell(call['key'])})", f"the next attempt of {name}"


def since(run: View, records: Sequence[View]) -> str:
    """Since when a run stands as it does."""
    kinds = {
        "waiting": "run_waiting",
        "paused": "run_paused",
        "blocked": "run_blocked",
        "compensating": "run_compensating",
    }
    wanted = kinds.get(run["status"])
    found = next((record["at"] for record in reversed(records) if record["kind"] == wanted), run["updated_at"])
    return instant(found) or "-"
