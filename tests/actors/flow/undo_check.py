"""What a journal says was done and undone, read without the core, and what must hold of it at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.actors.flow.programs import STEPS, Where
from wal import records as r

if TYPE_CHECKING:
    from tests.actors.flow.world import World


class Account:
    """Where in the journal each thing was done, was called to be undone, and was undone."""

    def __init__(self, journal: list[tuple[r.Fact, int]]) -> None:
        self.names: dict[str, str] = {}
        self.done: dict[str, int] = {}
        self.perhaps: set[str] = set()  # may have acted, and wants to be undone then too
        self.added: set[str] = set()  # by the code itself: its place is where the code was, perhaps before its record
        self.called: dict[str, int] = {}
        self.undone: dict[str, list[int]] = {}
        self.results: dict[str, object] = {}
        self.compensating = len(journal)
        for at, (fact, _) in enumerate(journal):
            self.read(at, fact)

    def read(self, at: int, fact: r.Fact) -> None:
        if isinstance(fact, r.CompensationScheduled):
            key = fact.key.removesuffix("!")
            assert key not in self.undone, f"{key} is called to be undone again"
            self.called.setdefault(key, at)
            self.check_arguments(key, fact)
        elif isinstance(fact, r.StepScheduled):
            self.names[fact.key] = fact.name
        elif isinstance(fact, r.CompensationCompleted) or (
            isinstance(fact, r.StepResolved) and fact.happened and fact.key.endswith("!")
        ):
            self.undone.setdefault(fact.key.removesuffix("!"), []).append(at)
        elif isinstance(fact, r.StepCompleted) or (isinstance(fact, r.StepResolved) and fact.happened):
            if self.can_be_undone(fact.key):
                self.done[fact.key] = at
                self.results[fact.key] = msgspec.json.decode(fact.result)
        elif isinstance(fact, r.CompensationAdded):
            self.done[fact.key] = at
            self.added.add(fact.key)
        elif isinstance(fact, r.RunCompensating):
            self.compensating = at
        if self.names.get(getattr(fact, "key", "")) == "gate":
            self.perhaps.add(fact.key)  # type: ignore[attr-defined]

    def can_be_undone(self, key: str) -> bool:
        return STEPS[self.names[key]].undo is not None

    def check_arguments(self, key: str, fact: r.CompensationScheduled) -> None:
        args, kwargs = msgspec.json.decode(fact.args)
        assert kwargs == {}
        if key in self.results:
            assert args[0] == self.results[key], f"{key} is undone with another result"


def check_undoing(world: World) -> None:
    """Completed steps are kept or undone exactly once; after a failure or a cancellation all are, in reverse order."""
    account = Account(world.whole)
    kept = isinstance(world.journal[-1][0], r.RunCompleted)
    for key in account.done:
        times = len(account.undone.get(key, []))
        assert times <= 1, f"{key} was undone {times} times"
        assert kept or times == 1, f"{key} was not undone"
    for key in account.called:
        assert key in account.done or key in account.perhaps, f"{key} was undone and never done"
    if not world.was_codeless:
        check_order(account, world.flow.context.scope_of)


def check_order(account: Account, scope_of: dict[str, Where]) -> None:
    """Reverse order of completion: within a block, and in the undoing of the whole run."""
    last: dict[Where | None, str] = {}
    for key, at in sorted(account.called.items(), key=lambda item: item[1]):
        if key not in account.done or key in account.added:
            continue
        scope = None if at > account.compensating else scope_of.get(key, (-1, at))
        before = last.get(scope)
        if before is not None and account.done[key] < account.called[before]:
            assert account.done[before] > account.done[key], f"{before} was undone before {key}"
        last[scope] = key
