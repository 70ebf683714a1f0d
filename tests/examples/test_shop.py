from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from examples.shop import feed, make_orders, orders, payments, verdict
from examples.shop.orders import COMPLETED, DECLINED, REFUSED, SOLD_OUT, WRONG
from examples.shop.processes import Daemon, outside
from examples.table import render


def test_the_orders_are_the_same_each_time(tmp_path: Path) -> None:
    """The generator writes the very file that is kept, so figures of two machines are about the same work."""
    make_orders.write(tmp_path / "orders.csv")
    assert (tmp_path / "orders.csv").read_bytes() == orders.FILE.read_bytes()
    assert len(orders.read()) == make_orders.ORDERS >= 2_000


def test_the_orders_meet_every_ending() -> None:
    """The file holds every ending, large orders that are approved, and as many wrong rows as were written."""
    expected = orders.read()
    endings = Counter(one.ending for one in expected)
    assert endings[WRONG] == len(make_orders.WRONG)
    assert min(endings[kind] for kind in (DECLINED, SOLD_OUT, REFUSED)) >= 10
    assert endings[COMPLETED] > 2_000
    assert any(one.review and one.ending == COMPLETED for one in expected)
    assert len({one.run_id for one in expected}) == len(expected)


def test_amounts_are_in_minor_units() -> None:
    """Two mugs at 14.50 are 2,900 cents; yen have no cents; what is no number stays for the daemon to refuse."""
    row = make_orders.orders()[0]
    assert orders.to_order({**row, "unit_price": "14.50", "quantity": "2", "currency": "EUR"})["amount"] == 2_900
    assert orders.to_order({**row, "unit_price": "2350", "quantity": "1", "currency": "JPY"})["amount"] == 2_350
    wrong = orders.to_order({**row, "quantity": "two"})
    assert (wrong["quantity"], wrong["amount"]) == ("two", None)


# --- the outside ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        outside(folder / "ledger.jsonl") as address,
        httpx2.AsyncClient(base_url=address, timeout=30.0) as client,
    ):
        yield client


def order_in_mood(kind: str, *moods: str) -> str:
    """An order whose first requests of this kind are treated so."""
    for number in range(100_000):
        order = f"SO-{number}"
        wish = payments.Wish(kind, "", 0, {"order": order})
        if all(payments.mood(wish, nth) == mood for nth, mood in enumerate(moods, start=1)):
            return order
    raise AssertionError(f"no order is treated {moods}")


def charge_body(order: str) -> dict[str, Any]:
    return {"order": order, "amount": 1_450, "currency": "EUR", "card": "tok_visa_1"}


@pytest.mark.trio
async def test_one_key_is_one_effect(tmp_path: Path) -> None:
    """A repeat of a key gets the first answer, also after an error that came after the effect; one charge is made."""
    order = order_in_mood("charge", "after", "before", "well")
    async with asking(tmp_path) as client:
        headers = {"Idempotency-Key": "k1"}
        answers = [await client.post("/charge", json=charge_body(order), headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 500, 200, 200]
    assert answers[2].json() == answers[3].json()
    ledger = verdict.read_ledger(tmp_path / "ledger.jsonl")
    assert ledger.effects[order] == ["charge"]
    assert ledger.charged[order] == 1_450
    assert ledger.outcomes == {"done": 1, "failed": 1, "repeated": 2}


@pytest.mark.trio
async def test_a_second_key_is_a_second_effect(tmp_path: Path) -> None:
    """The witness does not forgive: the same order under another key is charged again, and the ledger shows it."""
    order = order_in_mood("charge", "well")
    async with asking(tmp_path) as client:
        for key in ("k1", "k2"):
            await client.post("/charge", json=charge_body(order), headers={"Idempotency-Key": key})
    assert verdict.read_ledger(tmp_path / "ledger.jsonl").effects[order] == ["charge", "charge"]


@pytest.mark.trio
async def test_the_outside_refuses_what_it_must(tmp_path: Path) -> None:
    """A bad card is 402, sold-out goods are 409, a refund without a charge is nothing, nonsense is 400."""
    kinds = {kind: order_in_mood(kind, "well") for kind in ("charge", "reserve", "refund")}
    async with asking(tmp_path) as client:
        headers = {"Idempotency-Key": "k"}
        card = {**charge_body(kinds["charge"]), "card": "tok_declined_1"}
        assert (await client.post("/charge", json=card, headers=headers)).status_code == 402
        goods = {"order": kinds["reserve"], "sku": "CUP-RAKU-X", "quantity": 1}
        assert (await client.post("/reserve", json=goods, headers={"Idempotency-Key": "r"})).status_code == 409
        refund = await client.post("/refund", json={"order": kinds["refund"]}, headers={"Idempotency-Key": "f"})
        assert refund.json() == {"id": "none", "amount": 0}
        assert (await client.post("/charge", json=card)).status_code == 400
        assert (await client.post("/steal", json=card, headers=headers)).status_code == 400
        assert (await client.get("/charge")).status_code == 400


# --- the table ------------------------------------------------------------------------------------------------------


def perfect(expected: list[orders.Expected]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Statuses and ledger lines of a run in which all went as it had to."""
    statuses = {
        one.run_id: "completed" if one.ending == COMPLETED else "failed" for one in expected if one.ending != WRONG
    }
    lines = [
        {"kind": kind, "order": one.id, "outcome": "done", "amount": 5 if kind in ("charge", "refund") else 0}
        for one in expected
        for kind in verdict.EFFECTS[one.ending]
    ]
    return statuses, lines


def wrong_rows(tmp_path: Path, statuses: dict[str, str], lines: list[dict[str, Any]]) -> set[str]:
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    rows = verdict.judge(orders.read(), statuses, verdict.read_ledger(ledger))
    assert all(row.label in render(rows) for row in rows)
    return {row.label for row in rows if row.right is False}


def test_the_table_is_right_when_all_went_well(tmp_path: Path) -> None:
    """A perfect run has nothing wrong in its table."""
    assert wrong_rows(tmp_path, *perfect(orders.read())) == set()


def test_the_table_sees_what_went_wrong(tmp_path: Path) -> None:
    """A lost order, a double charge, a wrong refund, a shipment too many, a row that should not be: each shows."""
    expected = orders.read()
    first = {ending: next(one for one in expected if one.ending == ending) for ending in verdict.EFFECTS}
    statuses, lines = perfect(expected)
    del statuses[first[COMPLETED].run_id]
    assert {"lost", "completed", "ended as they had to"} <= wrong_rows(tmp_path, statuses, lines)
    statuses, lines = perfect(expected)
    lines.append({"kind": "charge", "order": first[COMPLETED].id, "outcome": "done", "amount": 5})
    assert wrong_rows(tmp_path, statuses, lines) == {"charged twice", "effects as expected"}
    statuses, lines = perfect(expected)
    next(line for line in lines if line["kind"] == "refund")["amount"] = 4
    assert wrong_rows(tmp_path, statuses, lines) == {"refunds that match"}
    statuses, lines = perfect(expected)
    lines.append({"kind": "ship", "order": first[REFUSED].id, "outcome": "done", "amount": 0})
    assert wrong_rows(tmp_path, statuses, lines) == {"effects as expected"}
    statuses, lines = perfect(expected)
    statuses[first[WRONG].run_id] = "completed"
    assert {"wrong rows recorded", "completed"} <= wrong_rows(tmp_path, statuses, lines)


def test_decisions_are_held_against_the_orders() -> None:
    """Each large order is asked about once, and answered as expected, by somebody, with a reason."""
    large = [one for one in orders.read() if one.review and one.ending in (COMPLETED, REFUSED)]

    def said(one: orders.Expected, **changes: Any) -> dict[str, Any]:
        yes = one.ending == COMPLETED
        vote = {"approve": yes, "by": "uid:7", "reason": "why"} | changes
        return {"run_id": one.run_id, "status": "approved" if vote["approve"] else "refused", "votes": [vote]}

    all_right = [said(one) for one in large]
    assert verdict.decisions(orders.read(), all_right).right
    assert len(large) >= 20
    wrong = [
        all_right[1:],
        [*all_right, all_right[0]],
        [said(large[0], reason=None), *all_right[1:]],
        [said(large[0], approve=large[0].ending == REFUSED), *all_right[1:]],
        [all_right[0] | {"status": "open", "votes": []}, *all_right[1:]],
    ]
    assert not any(verdict.decisions(orders.read(), each).right for each in wrong)


@pytest.mark.slow
@pytest.mark.trio
async def test_feeding_again_finds_the_same_runs(short_dir: Path) -> None:
    """What `make serve` names as a start puts orders in, says what became of them, and can be repeated."""
    async with outside(short_dir / "ledger.jsonl") as address:
        daemon = Daemon(short_dir, address, short_dir / "log")
        try:
            await daemon.start()
            assert await feed.feed(daemon.socket, 300) == "300 orders: 299 started, 0 there already, 1 refused"
            assert await feed.feed(daemon.socket, 300) == "300 orders: 0 started, 299 there already, 1 refused"
        finally:
            await daemon.stop()


def test_feeding_nobody_says_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a daemon it is a sentence and 3, not a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["feed"])
    assert feed.main() == 3
    assert "start it with `make serve`" in capsys.readouterr().out
