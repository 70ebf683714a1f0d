"""Children as a workflow sees them: a run that it starts, and the wait for how that ends.

A child is a run of its own: with its own history, its own saga, and its own place in every list. Starting it is one
record of the parent, in the commit that starts the child; its end is one more, in the commit that ends it. So neither
can be without the other, whatever crashes. A child that completed is not undone when its parent fails: say what undoes
it with `ctx.add_compensation`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING

from msgspec import Raw

from actors.errors import ChildFailed
from actors.flow.calls import Call
from actors.flow.definitions import NAME, Workflow
from wal import records as r

if TYPE_CHECKING:
    from actors.flow.fibers import Scope
    from actors.flow.run_info import RunInfo


def child_id_for(parent_id: str, key: str, generation: int = 0) -> str:
    """The id of a child that was given none: its parent's with the call's key (and before it the generation, of a
    parent that continued as new), or a digest where that is no id."""
    place = f"g{generation}:{key}" if generation else key
    made = f"{parent_id}:{place.replace('/', '-')}"
    return made if NAME.match(made) else blake2b(made.encode(), digest_size=16).hexdigest()


class ChildStartCall(Call):
    """`ctx.start_child(workflow, input)`; answered with the child as soon as it is recorded."""

    __slots__ = ("given_id", "input", "make_handle", "parent", "workflow")
    kind = "child_start"

    def __init__(
        self,
        workflow: Workflow,
        input: Raw,
        given_id: str | None,
        make_handle: Callable[[ChildStartCall], Child],
    ) -> None:
        super().__init__()
        self.workflow, self.input, self.given_id = workflow, input, given_id
        self.make_handle = make_handle

    def of_run(self, info: RunInfo) -> None:
        self.parent = info

    @property
    def name(self) -> str:
        return self.workflow.name

    @property
    def child_id(self) -> str:
        return self.given_id or child_id_for(self.parent.id, self.key, self.parent.generation)

    def fact(self, now_us: int) -> r.Fact:
        return r.ChildStarted(self.key, self.workflow.name, self.child_id, self.input)

    def matches(self, record: r.Fact) -> bool:
        return (
            type(record) is r.ChildStarted
            and (record.key, record.name, record.child_id) == (self.key, self.workflow.name, self.child_id)
            and (bytes(record.input) == bytes(self.input) or self._means_the_same(record.input))
        )

    def _means_the_same(self, recorded: Raw) -> bool:
        try:
            return bool(self.workflow.input.decode(recorded) == self.workflow.input.decode(self.input))
        except Exception:  # noqa: BLE001 - a type's own check may raise anything
            return False


class ChildResultCall(Call):
    """The wait for a child's end. With `owns`, leaving the wait cancels the child, and what is round it is undone only
    when the child has ended. Without a `workflow` nobody is to be answered."""

    __slots__ = ("child_id", "owns", "scope", "start_key", "workflow")
    kind = "child"
    unsettling = True

    def __init__(self, workflow: Workflow | None, start_key: str, child_id: str, owns: bool) -> None:
        super().__init__()
        self.workflow, self.start_key, self.child_id, self.owns = workflow, start_key, child_id, owns
        self.scope: Scope | None = None

    @property
    def name(self) -> str:
        return self.child_id


class Child:
    """A child that was started: its `id`, and `result()` to wait for."""

    __slots__ = ("_make_call", "id", "workflow")

    def __init__(self, id: str, workflow: str, make_call: Callable[[], ChildResultCall]) -> None:
        self.id, self.workflow, self._make_call = id, workflow, make_call

    def result(self) -> ChildResultCall:
        """Await the child's result, as its workflow's type. Raises ChildFailed if it ended otherwise."""
        return self._make_call()

    def __repr__(self) -> str:
        return f"<child run {self.id} of {self.workflow}>"


def failed(record: r.ChildEnded) -> ChildFailed:
    """A child's end that is no result, as the exception that its parent gets."""
    error = record.error
    said = f": {error.type}: {error.message}" if error is not None else ""
    message = f"child run {record.child_id} is {record.status}{said}"
    return ChildFailed(message, child_id=record.child_id, status=record.status, cause_type=error.type if error else "")
