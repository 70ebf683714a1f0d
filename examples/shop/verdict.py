"""What happened, held against what had to happen: the runs' endings and the outside's ledger, as one table."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from examples.shop.orders import COMPLETED, DECLINED, REFUSED, SOLD_OUT, WRONG, Expected
from examples.table import Row, exactly

# The effects that each ending leaves outside, in their order.
EFFECTS: dict[str, tuple[str, ...]] = {
    COMPLETED: ("charge", "reserve", "ship"),
    DECLINED: (),
    SOLD_OUT: ("charge", "refund"),
    REFUSED: ("charge", "reserve", "release", "refund"),
    WRONG: (),
}


class Ledger(NamedTuple):
    """The ledger, read: the effects of each order in their order, amounts, and how requests were answered."""

    effects: Mapping[str, list[str]]
    charged: Counter[str]
    refunded: Counter[str]
    outcomes: Counter[str]


def read_ledger(path: Path) -> Ledger:
    """Read a ledger. A refund of nothing (no charge was found) is no effect."""
    effects: defaultdict[str, list[str]] = defaultdict(list)
    charged: Counter[str] = Counter()
    refunded: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            kind, order, outcome, amount = entry["kind"], entry["order"], entry["outcome"], entry["amount"]
            outcomes[outcome] += 1
            if outcome != "done" or (kind == "refund" and amount == 0):
                continue
            effects[order].append(kind)
            if kind == "charge":
                charged[order] += amount
            elif kind == "refund":
                refunded[order] += amount
    return Ledger(effects, charged, refunded, outcomes)


def _endings(expected: list[Expected], statuses: Mapping[str, str]) -> list[Row]:
    accepted = [one for one in expected if one.ending != WRONG]
    ends = Counter(one.ending for one in accepted)
    failures = [name for name in (DECLINED, SOLD_OUT, REFUSED) if ends[name]]
    recorded_wrong = sum(one.run_id in statuses for one in expected if one.ending == WRONG)
    lost = sum(one.run_id not in statuses for one in accepted)
    right_end = sum(
        statuses.get(one.run_id) == ("completed" if one.ending == COMPLETED else "failed") for one in accepted
    )
    found = Counter(statuses.values())
    return [
        Row("orders in the file", f"{len(expected):,}"),
        exactly("wrong rows recorded", recorded_wrong, 0, f"{len(expected) - len(accepted)} refused at the door"),
        exactly("lost", lost, 0, f"{len(accepted):,} accepted"),
        exactly("completed", found["completed"], ends[COMPLETED]),
        exactly(
            "failed", found["failed"], len(accepted) - ends[COMPLETED], ", ".join(f"{n} {ends[n]}" for n in failures)
        ),
        exactly("ended as they had to", right_end, len(accepted)),
    ]


def _outside(expected: list[Expected], ledger: Ledger) -> list[Row]:
    effects = ledger.effects
    to_undo = sum("refund" in EFFECTS[one.ending] for one in expected)
    undone = sum("refund" in effects.get(one.id, ()) for one in expected)
    matching = sum(ledger.refunded[order] == ledger.charged[order] for order in ledger.refunded)
    as_told = sum(tuple(effects.get(one.id, ())) == EFFECTS[one.ending] for one in expected)
    twice = {kind: sum(done.count(kind) > 1 for done in effects.values()) for kind in ("charge", "ship")}
    repeated = f"{ledger.outcomes['repeated']:,} repeats got their first answer"
    return [
        exactly("undone", undone, to_undo, "refund after release, newest first"),
        exactly("refunds that match", matching, to_undo, "the amount of the charge"),
        exactly("charged twice", twice["charge"], 0, repeated),
        exactly("shipped twice", twice["ship"], 0),
        exactly("effects as expected", as_told, len(expected), "per order, in order, in the outside's ledger"),
    ]


def judge(expected: list[Expected], statuses: Mapping[str, str], ledger: Ledger) -> list[Row]:
    """The table for `expected` orders, the status of each run by its id, and the ledger."""
    return _endings(expected, statuses) + _outside(expected, ledger)


def decisions(expected: list[Expected], approvals: list[dict[str, Any]]) -> Row:
    """Whether people were asked about each large order once, and what they said is on record with who and why."""
    asked = {one.run_id: one.ending for one in expected if one.review and one.ending in (COMPLETED, REFUSED)}
    right = 0
    for approval in approvals:
        yes = asked.pop(approval["run_id"], None) == COMPLETED
        status, votes = "approved" if yes else "refused", approval["votes"]
        signed = len(votes) == 1 and votes[0]["approve"] is yes and votes[0]["by"] and votes[0]["reason"]
        right += bool(signed and approval["status"] == status)
    return exactly("decided by people", right, len(approvals) + len(asked), "each once, with who, when and why")
