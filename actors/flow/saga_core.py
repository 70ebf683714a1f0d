"""What must be undone: a ledger, folded from records alone.

Theory of operation. Every completed step that declares a compensation, and every undo that the workflow added
itself, is an entry, in the order of completion. Undoing a scope means its entries in reverse. An entry leaves the
ledger when its compensation has completed. Because the ledger reads only records (`StepScheduled` gives the
arguments, `StepCompleted` the result), it is the same whether the run's code is alive, replayed, or cannot be replayed
any more: a blocked run whose code contradicts its records can still be cancelled and undone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Raw

from actors.flow.calls import encode
from actors.flow.definitions import Step, missing_step
from actors.flow.signatures import ARGUMENTS
from wal import records as r

if TYPE_CHECKING:
    from actors.flow.fibers import Scope

UNDO_MARK = "!"


class Undo:
    """One thing to undo: the key of what was done, the compensating step and its recorded arguments."""

    __slots__ = ("args", "key", "scope", "step")

    def __init__(self, key: str, step: Step, args: Raw, scope: Scope | None) -> None:
        self.key, self.step, self.args, self.scope = key, step, args, scope


def undo_args(result: Raw, args: Raw) -> Raw:
    """The arguments of a compensation: the step's result, then the step's own arguments."""
    positional, keywords = ARGUMENTS.decode(args)
    listed = b",".join([bytes(result), *(bytes(item) for item in positional)])
    named = b",".join(b"%s:%s" % (encode(name), bytes(value)) for name, value in keywords.items())
    return Raw(b"[[%s],{%s}]" % (listed, named))


class UndoLedger:
    """The entries of one run. `steps` are the registered steps by name."""

    __slots__ = ("_entries", "_expected", "_steps", "_within")

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._steps = steps
        self._expected: dict[str, tuple[Step, Raw]] = {}
        self._entries: dict[str, Undo] = {}
        self._within: dict[Scope, dict[str, Undo]] = {}  # the same by the scopes that they are in, but for the run's

    def expect(self, key: str, step: Step, args: Raw) -> None:
        """A step was scheduled; its arguments are wanted if it completes."""
        if step.undo is not None:
            self._expected[key] = (step, args)

    def fold(self, record: r.Fact) -> None:
        """Take in one record where no code is there to say more, as a halted replay does."""
        if type(record) is r.StepScheduled:
            if (step := self.step_of(record)) is not None:
                self.expect(record.key, step, record.args)
        elif type(record) is r.CompensationAdded:
            self.add(record.key, self._steps.get(record.name) or missing_step(record.name), record.args, None)
        elif type(record) is r.CompensationCompleted:
            self.done(record.key.removesuffix(UNDO_MARK))
        elif type(record) is r.StepCompleted or (type(record) is r.StepResolved and record.happened):
            if record.key.endswith(UNDO_MARK):
                self.done(record.key.removesuffix(UNDO_MARK))
            elif (expected := self._expected.get(record.key)) is not None:  # the last that is said of it counts
                self.completed(record.key, *expected, record.result, None)
        elif (type(record) is r.StepFailed and record.retry_at is None and not record.defect) or type(
            record
        ) is r.StepUnknown:
            expected = self._expected.get(record.key)
            if expected is not None:
                self.unknown(record.key, *expected, None)
            # An unknown outcome may still be resolved, and what was cancelled be made again by code that wants it.
            if type(record) is r.StepFailed and not record.cancelled:
                self._expected.pop(record.key, None)

    def step_of(self, record: r.StepScheduled) -> Step | None:
        """The step of this record; where it is not registered, one in its place if it must be undone. What undoes it
        is named in the record, so that nothing is passed over because its code is gone."""
        step = self._steps.get(record.name)
        if step is None and record.undo is not None:
            step = missing_step(record.name, self._steps.get(record.undo) or missing_step(record.undo))
        return step

    def give_up(self) -> None:
        """Whatever is expected still may have acted."""
        for key, (step, args) in self._expected.items():
            if key not in self._entries:
                self.unknown(key, step, args, None)

    def completed(self, key: str, step: Step, args: Raw, result: Raw, scope: Scope | None) -> None:
        """A step is done: what undoes it, if anything does, comes on top."""
        if step.undo is not None:
            self._put(Undo(key, step.undo, undo_args(result, args), scope))

    def unknown(self, key: str, step: Step, args: Raw, scope: Scope | None) -> None:
        """A step ended without a value and may have acted: undone only where its compensation asks for that."""
        if step.undo is not None and step.on_unknown:
            self._put(Undo(key, step.undo, undo_args(Raw(b"null"), args), scope))

    def add(self, key: str, step: Step, args: Raw, scope: Scope | None) -> None:
        """The workflow added an undo of its own."""
        self._put(Undo(key, step, args, scope))

    def done(self, key: str) -> None:
        """The compensation of this key has completed."""
        self._take(key)
        self._expected.pop(key, None)

    def newest_first(self, scope: Scope | None = None) -> list[Undo]:
        """What is left to undo in a scope and inside it (in the outermost, or None: in the whole run), newest first."""
        if scope is None or scope.parent is None:
            return list(reversed(self._entries.values()))
        return list(reversed(self._within.get(scope, {}).values()))

    def _put(self, entry: Undo) -> None:
        """On top of all scopes that it is in: thousands of blocks may be undone one by one, each to find its own."""
        self._take(entry.key)
        self._entries[entry.key] = entry
        for scope in _inner(entry.scope):
            self._within.setdefault(scope, {})[entry.key] = entry

    def _take(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            for scope in _inner(entry.scope):
                del self._within[scope][key]
                if not self._within[scope]:
                    del self._within[scope]

    def __len__(self) -> int:
        return len(self._entries)


def _inner(scope: Scope | None) -> Iterator[Scope]:
    """A scope and those round it, without the outermost, which is the run."""
    while scope is not None and scope.parent is not None:
        yield scope
        scope = scope.parent
