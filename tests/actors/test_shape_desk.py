from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from actors import messages as m
from actors.errors import SchemaNarrowed, SourceError, SourceGarbled
from actors.shape_desk import ACCEPT_SHAPE, ShapeDesk
from wal.views import RunView


def shape(*properties: str) -> Raw:
    return Raw(msgspec.json.encode({"type": "object", "properties": {name: {} for name in properties}}))


class World:
    """The coordinator and the journal, as far as shapes are concerned."""

    def __init__(self) -> None:
        self.known: dict[str, Raw] = {}
        self.asked: list[str] = []
        self.runs: dict[str, bool] = {}  # id: whether it has ended
        self.problem: m.ProblemData | None = None
        self.desk = self.fresh()

    def fresh(self) -> ShapeDesk:
        return ShapeDesk("crm", self.ask, self.read)

    async def read(self, connector: str, stream: str) -> Raw | None:
        assert connector == "crm"
        return self.known.get(stream)

    async def ask(self, command: Any) -> Any:
        self.asked.append(type(command).__name__)
        if isinstance(command, m.NoteShape):
            self.known[command.stream] = command.shape
        if not isinstance(command, m.StartRuns):
            return m.Accepted(seq=1, id="crm")
        (item,) = command.items
        assert item.workflow == ACCEPT_SHAPE and item.id is not None
        if self.problem is not None:
            return m.StartedRuns(items=[m.StartedRun(problem=self.problem)])
        created = item.id not in self.runs
        self.runs.setdefault(item.id, False)
        at = "2026-01-01T00:00:00Z" if self.runs[item.id] else None
        fields = {field.name: None for field in msgspec.structs.fields(RunView)}
        run = RunView(**{**fields, "id": item.id, "ended_at": at})  # type: ignore[arg-type]
        return m.StartedRuns(items=[m.StartedRun(run=run, created=created)])


@pytest.mark.trio
async def test_what_is_new_or_wider_is_taken_over_once() -> None:
    """A shape is recorded when it is new or wider, and not again while it stays the same, by this poll or the next."""
    world = World()
    await world.desk.settle("people", shape("id"))
    await world.desk.settle("people", shape("id", "name"))
    await world.desk.settle("people", shape("id", "name"))
    await world.fresh().settle("people", shape("id", "name"))
    assert world.asked == ["NoteShape", "NoteShape"]


@pytest.mark.trio
async def test_what_narrows_pauses_first_and_then_asks_once() -> None:
    """The pause comes before the question, so that a yes is never undone by it; who crashes here and comes again finds
    the open question; a question that was answered with no is asked anew."""
    world = World()
    await world.desk.settle("people", shape("id", "name"))
    for _ in range(2):
        with pytest.raises(SchemaNarrowed, match="stream people narrows: property name is gone"):
            await world.fresh().settle("people", shape("id"))
    assert world.asked[1:] == ["PauseConnector", "StartRuns"] * 2
    (first,) = world.runs
    world.runs[first] = True
    with pytest.raises(SchemaNarrowed):
        await world.fresh().settle("people", shape("id"))
    assert list(world.runs) == [first, first.removesuffix(".1") + ".2"]
    assert world.known["people"] == shape("id", "name")


@pytest.mark.trio
async def test_what_cannot_be_settled_is_told() -> None:
    """A schema that is no object is garbled; a question that cannot be asked fails the poll and says why."""
    world = World()
    with pytest.raises(SourceGarbled, match="the schema of stream people is no JSON object"):
        await world.desk.settle("people", Raw(b"[]"))
    await world.desk.settle("people", shape("id"))
    world.problem = m.ProblemData(status=413, code="payload_too_large", detail="the input is too large")
    with pytest.raises(SourceError, match=r"nobody can be asked .*: the input is too large"):
        await world.desk.settle("people", shape())
