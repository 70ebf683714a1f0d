"""What happened, held against what had to happen: the customers at the source, the runs here, the mails outside."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from examples.table import Row, exactly

CONNECTOR = "customers"


class Ledger(NamedTuple):
    """The ledger, read: customers by id and whether they are large, and the texts mailed to each."""

    customers: Mapping[str, bool]
    mails: Mapping[str, list[str]]
    repeated: int


def read_ledger(path: Path) -> Ledger:
    """Read a ledger. A repeat under the same key is no second mail."""
    customers: dict[str, bool] = {}
    mails: dict[str, list[str]] = {}
    repeated = 0
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["kind"] == "customer":
                customers[entry["customer"]] = entry["large"]
            elif entry["outcome"] == "done":
                mails.setdefault(entry["customer"], []).append(entry["text"])
            else:
                repeated += 1
    return Ledger(customers, mails, repeated)


def run_id(customer_id: str) -> str:
    """The id of a customer's run."""
    return f"{CONNECTOR}:{customer_id}"


def approves(customer_id: str) -> bool:
    """What our people say about a large customer: yes to two of three."""
    return int(customer_id.rpartition("_")[2]) % 3 != 0


def text_for(customer_id: str, large: bool) -> str:
    """What a customer had to be mailed."""
    return "your manager" if large and approves(customer_id) else "welcome"


def judge(ledger: Ledger, statuses: Mapping[str, str], approvals: list[dict[str, Any]]) -> list[Row]:
    """The table for what the ledger tells, the status of each run by its id, and what was asked of people."""
    customers, mails = ledger.customers, ledger.mails
    wanted = {run_id(one) for one in customers}
    times = Counter(len(mails.get(one, [])) for one in customers)
    right = sum(mails.get(one) == [text_for(one, large)] for one, large in customers.items())
    asked = Counter(each["run_id"] for each in approvals)
    large = [one for one, is_large in customers.items() if is_large]
    signed = sum(each["status"] in ("approved", "refused") and bool(each["votes"]) for each in approvals)
    again = f"{ledger.repeated:,} repeats got their first answer"
    return [
        Row("customers at the source", f"{len(customers):,}", "some signed up while they were read"),
        exactly("runs here", len(statuses), len(customers), "one a customer"),
        exactly("lost", len(wanted - statuses.keys()), 0),
        exactly("of nobody", len(statuses.keys() - wanted), 0),
        exactly("completed", Counter(statuses.values())["completed"], len(customers)),
        exactly("mailed twice", sum(count for number, count in times.items() if number > 1), 0, again),
        exactly("mailed what they had to", right, len(customers), "in the mailer's ledger"),
        exactly("asked about, once each", sum(asked[run_id(one)] == 1 for one in large), len(large), "large ones"),
        exactly("decided by people", signed, len(large)),
    ]


def of_connector(view: Mapping[str, Any], customers: int) -> list[Row]:
    """What the connector itself tells."""
    again = f"{view['repeated_total']:,} read again and recognised by their keys"
    right = view["records_total"] - view["repeated_total"] == customers and view["refused_total"] == 0
    return [
        Row("records it brought", f"{view['records_total']:,}", again, right),
        Row("its failed polls", f"{view['errors_total']:,}", "429 and 500 of the source, tried again"),
    ]
