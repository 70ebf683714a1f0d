"""`runs cancel --dry-run`: what a cancellation would undo, in its order, with nothing asked of the run."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from actors.errors import ForkRefused
from runtimed.cli.main import run
from runtimed.cli.standing import with_past
from runtimed.cli.undoing import Undo, to_undo
from tests.actors.flow.harness import drive
from tests.actors.flow.world import Forked, World, simulate
from wal import records as r
from wal.telling import heading, record_data
from wal.views import RunDetail, rfc3339

AT = "2026-01-31T12:00:{:02}.000000Z"


def record(seq: int, kind: str, call: str | None = None, name: str | None = None, **data: Any) -> dict[str, Any]:
    return {"seq": seq, "at": AT.format(seq), "kind": kind, "call": call, "name": name, "attempt": None, "data": data}


HISTORY = [
    record(1, "run_started", input=1),
    record(2, "step_scheduled", "0", "charge", args=[[1], {}], undo="refund"),
    record(3, "step_completed", "0", "charge", result="c"),
    record(4, "compensation_added", "1", "tell", args=[[], {}]),
    record(5, "child_started", "2", "pack", child_id="r1:2"),
    record(6, "step_scheduled", "3", "ship\x1b", args=[[], {}], undo="fetch_back"),
]
REFUND = {"undo": "refund", "step": "charge", "call": "0", "idempotency_key": "r1/0/0!/refund"}
TELL = {"undo": "tell", "step": None, "call": "1", "idempotency_key": "r1/0/1!/tell"}


@pytest.fixture
def dry(fake: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Ask for the dry run of r1 as it stands in these records: lines, ids, and JSON."""

    def ask(records: list[dict[str, Any]], status: str = "running") -> tuple[list[str], list[str], Any]:
        view = RunDetail(
            id="r1", workflow="checkout", status=status, updated_at=AT.format(9), ended_at=AT.format(9), seq=9
        )
        fake.on("GET", "/v1/runs/r1", fake.Reply(200, json.loads(msgspec.json.encode(view))))
        fake.on("GET", "/v1/runs/r1/history", fake.Reply(200, {"items": records, "next": None, "total": 3, "seq": 9}))
        told = []
        for output in ("text", "id", "json"):
            assert run(["runs", "cancel", "r1", "--dry-run", "-o", output, "--socket", str(fake.socket)]) == 0
            told.append(capsys.readouterr().out)
        assert {request.method for request in fake.requests} == {"GET"}
        return told[0].splitlines(), told[1].split(), json.loads(told[2])

    return ask


def test_what_would_be_undone_is_listed_newest_first(dry: Any) -> None:
    """Undos with the steps and keys that they are of, what is in flight, and the children; only read."""
    lines, keys, document = dry(HISTORY)
    assert keys == ["r1/0/1!/tell", "r1/0/0!/refund"]
    assert document == {
        "id": "r1", "status": "running", "undo": [TELL, REFUND], "settles": ["ship\\x1b (call 3, attempt 1)"],
        "children": ["r1:2"], "whole": True,
    }  # fmt: skip
    assert [line.split()[0] for line in lines[2:4]] == ["tell", "refund"]
    assert "In flight: ship\\x1b (call 3, attempt 1). It settles first, and is undone too if it completes." in lines
    assert "Child r1:2 has not ended, and is cancelled too." in lines


@pytest.mark.parametrize("status", ["queued", "completed"])
def test_where_there_is_nothing_to_undo(dry: Any, status: str) -> None:
    """A run that has not begun, or is over, is said to be so."""
    lines, keys, document = dry(HISTORY[:1], status)
    assert (keys, document["undo"]) == ([], [])
    assert ("nothing of it is to be undone" if status == "queued" else "there is nothing to cancel") in lines[0]


def told(world: World) -> list[dict[str, Any]]:
    """The records of a world as the command reads them."""
    records = []
    for seq, (fact, at) in enumerate(world.journal, start=1):
        kind, call, name, attempt = heading(fact)
        data = msgspec.json.decode(record_data(msgspec.json.encode(fact).decode()))
        records.append({
            "seq": seq, "at": rfc3339(at), "kind": kind, "call": call, "name": name, "attempt": attempt, "data": data,
        })  # fmt: skip
    return records


@pytest.mark.slow
@pytest.mark.parametrize("kind", [World, Forked])
def test_it_is_what_the_core_would_undo(kind: type[World]) -> None:
    """At any record of any program, forks among them, the list is that of the ledger in the core; but for steps that
    only may have acted, of which the records do not say whether their undo asks for that."""
    compared = 0
    for seed in range(150):
        try:
            world = simulate(seed, kind=kind)
        except ForkRefused:
            continue
        if world.was_redeployed or world.was_codeless:
            continue
        upto = world.rng.randint(1, len(world.journal))
        flow = drive(world.workflow, world.steps, world.journal[:upto], extra=world.extra)
        said = {fact.key for fact in flow.asks if isinstance(fact, r.CompensationAdded)}  # and not recorded yet
        left = [one for one in flow._undo.newest_first() if one.step.name != "ungate" and one.key not in said]
        expected = [(one.key, one.step.name) for one in left]
        found: list[Undo] = to_undo("r1", with_past(told(world)[:upto]))
        assert [(one.call, one.undo) for one in found if one.undo != "ungate"] == expected, seed
        compared += bool(expected)
        flow.close()
    assert compared > 20
