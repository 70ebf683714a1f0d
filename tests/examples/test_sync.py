"""The sync's outside, its flow and its table."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from examples import processes
from examples.sync import demo, flows, outside, verdict
from examples.sync.outside import KEY, Asked, Outside
from runtimed.models import Customer


def source(customers: int = 250, later: int = 20) -> tuple[Outside, io.StringIO]:
    ledger = io.StringIO()
    return Outside(ledger, customers, later), ledger


def page(out: Outside, *, key: str = KEY, **query: Any) -> outside.Answer:
    """A page of the customers, asked for until it is given."""
    words = {name.replace("_gte", "[gte]"): str(value) for name, value in query.items()}
    while True:
        answer = out.handle(Asked("GET", "/v1/customers", words, {"authorization": f"Bearer {key}"}, {}))
        if answer.status not in (429, 500):
            return answer


def mail(out: Outside, customer: str, key: str) -> outside.Answer:
    return out.handle(Asked("POST", "/mail", {}, {"idempotency-key": key}, {"customer": customer, "text": "welcome"}))


# --- the outside ------------------------------------------------------------------------------------------------------


def test_the_source_lists_newest_first_page_by_page_and_grows() -> None:
    """Everybody who was there is met once; who signs up meanwhile is newer, and met by the next look."""
    out, _ = source()
    seen: list[str] = []
    answer = page(out, limit=100)
    while True:
        seen += [one["id"] for one in answer.body["data"]]
        if not answer.body["has_more"]:
            break
        answer = page(out, limit=100, starting_after=seen[-1])
    assert seen == [f"cus_{number:05}" for number in reversed(range(250))]
    newest = outside.customer(249)["created"]
    later = page(out, limit=100, created_gte=newest).body["data"]
    assert len(out.customers) > 250 and {one["id"] for one in later} >= {f"cus_{n:05}" for n in range(250, 260)}


def test_the_source_has_bad_moments_and_no_bad_days() -> None:
    """Some pages are refused the first time, with Retry-After or without; never a second time."""
    out, _ = source(customers=1_200)
    headers = {"authorization": f"Bearer {KEY}"}
    refused = []
    for number in range(1_200):
        asked = Asked("GET", "/v1/customers", {"limit": "1", "starting_after": f"cus_{number:05}"}, headers, {})
        first = out.handle(asked)
        if first.status != 200:
            refused.append(first.status)
            assert (first.status == 429) == (("Retry-After", "1") in first.headers)
            assert out.handle(asked).status == 200
    assert set(refused) == {429, 500} and 200 < len(refused) < 400


def test_the_source_refuses_what_it_must() -> None:
    """A wrong key, an object to go on after that is not there, an unknown address, a mail without a key."""
    out, _ = source()
    assert page(out, key="sk_wrong").status == 401
    assert page(out, starting_after="cus_none").status == 400
    assert out.handle(Asked("GET", "/v1/invoices", {}, {}, {})).status == 404
    assert out.handle(Asked("POST", "/mail", {}, {}, {"customer": "cus_1"})).status == 400


def test_one_key_is_one_mail() -> None:
    """A repeat gets the first answer, also after an error that came after the effect; a second key is a second mail."""
    out, ledger = source(customers=1, later=0)
    broken = next(f"cus_{n}" for n in range(10_000) if 0.03 <= outside.draw("mail", f"cus_{n}") < 0.06)
    assert [mail(out, broken, "k1").status for _ in range(3)] == [500, 200, 200]
    assert mail(out, broken, "k2").status == 500
    outcomes = [json.loads(line).get("outcome") for line in ledger.getvalue().splitlines()]
    assert outcomes == [None, "done", "repeated", "repeated", "done"]


@pytest.mark.trio
async def test_the_outside_answers_over_http(tmp_path: Path) -> None:
    """The process prints its address, serves, and ends with its caller; nonsense is 400."""
    script = demo.HERE / "outside.py"
    async with processes.outside(script, "--ledger", str(tmp_path / "ledger")) as address:
        async with httpx2.AsyncClient(base_url=address, timeout=30.0) as client:
            headers = {"Authorization": f"Bearer {KEY}"}
            answer = await client.get("/v1/customers", params={"limit": 3}, headers=headers)
            assert [one["object"] for one in answer.json()["data"]] == ["customer"] * 3
            assert (await client.post("/mail", content=b"{", headers={"Idempotency-Key": "k"})).status_code == 400
    assert len(verdict.read_ledger(tmp_path / "ledger").customers) == outside.CUSTOMERS


# --- the flow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extras", "seats"),
    [({"metadata": {"seats": "750"}}, 750), ({"metadata": {}}, 1), ({}, 1), ({"metadata": {"seats": "many"}}, 1)],
)
def test_seats_are_read_from_what_stripe_keeps_as_text(extras: dict[str, Any], seats: int) -> None:
    """A customer without the number, or with nonsense in its place, has one seat."""
    assert flows.seats_of(Customer(source="stripe", id="cus_1", extras=extras)) == seats


# --- the table --------------------------------------------------------------------------------------------------------

Outcome = tuple[dict[str, str], list[dict[str, Any]], list[dict[str, Any]]]


def perfect() -> Outcome:
    """Statuses, ledger lines and approvals of a sync in which all went as it had to."""
    ids = {f"cus_{number:05}": outside.is_large(number) for number in range(200)}
    statuses = {verdict.run_id(one): "completed" for one in ids}
    lines: list[dict[str, Any]] = [{"kind": "customer", "customer": one, "large": large} for one, large in ids.items()]
    lines += [
        {"kind": "mail", "customer": one, "text": verdict.text_for(one, large), "outcome": "done"}
        for one, large in ids.items()
    ]
    approvals = [
        {"run_id": verdict.run_id(one), "status": "approved", "votes": [{"by": "uid:1"}]}
        for one, large in ids.items()
        if large
    ]
    return statuses, lines, approvals


def wrong_rows(tmp_path: Path, outcome: Outcome) -> set[str]:
    statuses, lines, approvals = outcome
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    rows = verdict.judge(verdict.read_ledger(ledger), statuses, approvals)
    return {row.label for row in rows if row.right is False}


def test_the_table_is_right_when_all_went_well(tmp_path: Path) -> None:
    """A perfect sync has nothing wrong in its table, with large customers whom people said yes and no to."""
    statuses, lines, approvals = perfect()
    assert wrong_rows(tmp_path, (statuses, lines, approvals)) == set()
    assert {verdict.approves(each["run_id"]) for each in approvals} == {True, False}


def test_the_table_sees_what_went_wrong(tmp_path: Path) -> None:
    """Somebody lost, mailed twice, mailed the wrong thing, asked about twice, a run of nobody: each shows."""
    statuses, lines, approvals = perfect()
    del statuses["customers:cus_00007"]
    assert wrong_rows(tmp_path, (statuses, lines, approvals)) == {"runs here", "lost", "completed"}
    statuses, lines, approvals = perfect()
    statuses["customers:cus_99999"] = "completed"
    assert wrong_rows(tmp_path, (statuses, lines, approvals)) == {"runs here", "of nobody", "completed"}
    statuses, lines, approvals = perfect()
    lines.append({"kind": "mail", "customer": "cus_00003", "text": "welcome", "outcome": "done"})
    assert wrong_rows(tmp_path, (statuses, lines, approvals)) == {"mailed twice", "mailed what they had to"}
    statuses, lines, approvals = perfect()
    lines[-1]["text"] = "your manager" if lines[-1]["text"] == "welcome" else "welcome"
    assert wrong_rows(tmp_path, (statuses, lines, approvals)) == {"mailed what they had to"}
    statuses, lines, approvals = perfect()
    assert wrong_rows(tmp_path, (statuses, lines, [*approvals, approvals[0]])) == {
        "asked about, once each", "decided by people",
    }  # fmt: skip
    assert wrong_rows(tmp_path, (statuses, lines, [{**approvals[0], "votes": []}, *approvals[1:]])) == {
        "decided by people",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("records", "repeated", "refused", "right"),
    [(200, 0, 0, True), (203, 3, 0, True), (203, 0, 0, False), (200, 0, 1, False)],
)
def test_the_connector_tells_the_same(records: int, repeated: int, refused: int, right: bool) -> None:
    """What it brought beyond what it had read before is the number of customers, and nothing was set aside."""
    view = {"records_total": records, "repeated_total": repeated, "refused_total": refused, "errors_total": 2}
    assert verdict.of_connector(view, 200)[0].right is right
