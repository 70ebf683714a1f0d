"""What a workflow may wait for: calls. Awaiting one yields it to the flow and nothing else.

A leaf call has a key (its fiber path), and asks for something that the outside answers with a record. A group
(gather, race) is made of branches. `Settle` is ours: it waits until a scope's attempts have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from actors.errors import DefinitionError, PayloadTooLarge
from wal import records as r
from wal.codec import PAYLOAD_DEPTH_MAX, payload_fault

if TYPE_CHECKING:
    from actors.flow.definitions import Step
    from actors.flow.fibers import Fiber, Scope
    from actors.flow.run_info import RunInfo

encode = msgspec.json.encode
NULL = Raw(b"null")
ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class Cancelled(BaseException):
    """Thrown at the waits of a cancelled fiber. Not an Exception, so that `except Exception` does not stop it.

    `by_defect` says that a bug elsewhere caused it: saga blocks then do not compensate, because a bug must not."""

    def __init__(self, by_defect: bool = False) -> None:
        super().__init__("cancelled")
        self.by_defect = by_defect


class Parked(BaseException):
    """Raised by ctx calls made while a run's code is being closed: there is nobody left to answer."""


class State(IntEnum):
    """Where a call that needs attempts or a timer stands."""

    NEW = 0  # asked for, not yet recorded
    ACTIVE = 1  # recorded: an attempt may run, or a timer is set
    BACKOFF = 2  # the last attempt failed; a timer will start the next
    HELD = 3  # nothing happens until a person acts (a defect, an unknown outcome, a compensation that failed)
    SETTLED = 4  # its outcome is recorded


PLAIN_BYTES_MAX = PAYLOAD_DEPTH_MAX
"""A payload no longer than this cannot nest too deeply, and is below every limit that may be set."""


def payload(value: Any, limit_bytes: int, what: str) -> Raw:
    """A value as the JSON that will be recorded. Raises PayloadTooLarge, TypeError."""
    data = encode(value)
    if len(data) > PLAIN_BYTES_MAX:
        check_payload(data, limit_bytes, what)
    return Raw(data)


def check_payload(data: bytes, limit_bytes: int, what: str) -> None:
    """Raises PayloadTooLarge, or ValueError for what is nested so deeply that it could not be read back."""
    if len(data) > limit_bytes:
        raise PayloadTooLarge(f"{what} is {len(data)} bytes, over the limit of {limit_bytes}")
    if data.count(b"[") + data.count(b"{") > PAYLOAD_DEPTH_MAX:  # a cheap bound: only then is it worth a closer look
        fault = payload_fault(data)
        if fault is not None:
            raise ValueError(f"{what} cannot be kept: {fault}")


class Call:
    """Base of leaf calls. `open` says that a fiber waits on it; `unsettling` that what is round it is not undone before
    it has ended, once it is recorded."""

    __slots__ = ("fiber", "key", "open", "state")
    kind = "call"
    shielded = unsettling = False
    fiber: Fiber
    key: str

    def __init__(self) -> None:
        self.open = False
        self.state = State.NEW
        self.key = ""

    def __await__(self) -> Generator[Call, Any, Any]:
        if self.key:
            raise DefinitionError(f"the {self.kind} call {self.key} was awaited before; make a new one")
        return (yield self)

    @property
    def name(self) -> str:
        return ""

    def of_run(self, info: RunInfo) -> None:
        """The call is this run's: what it asks for is named after it."""

    def fact(self, now_us: int) -> r.Fact | None:
        """The record that opening this call writes, or None where it needs none."""
        return None

    def withdrawn(self) -> r.Fact:
        """The record that says that this call, which was recorded, is not wanted any more."""
        return r.TimerCancelled(self.key)

    def matches(self, record: r.Fact) -> bool:
        """Whether a recorded fact is the one that this call would write."""
        raise AssertionError(f"{self.kind} writes no record")

    def __repr__(self) -> str:
        return f"{self.kind} {self.name!r} (call {self.key})".replace(" ''", "")


class AttemptCall(Call):
    """A call that runs attempts of a step: `StepCall`, or `UndoCall` for a compensation."""

    __slots__ = (
        "arg_count",
        "args",
        "attempt",
        "due_at",
        "first_at",
        "first_attempt",
        "interruptions",
        "scope",
        "step",
    )
    unsettling = True
    scheduled: type[r.StepScheduled] = r.StepScheduled

    def __init__(self, step: Step, args: Raw, arg_count: int) -> None:
        self.open = False
        self.state = State.NEW
        self.key = ""
        self.step, self.args, self.arg_count = step, args, arg_count
        self.attempt = self.first_attempt = 1  # the retry policy counts from the first, which a person's retry moves
        self.interruptions = 0
        self.due_at: int | None = None  # of the next attempt, in backoff
        self.first_at = 0  # when attempt 1 was allowed to start, for Retry.max_duration
        self.scope: Scope | None = None

    @property
    def name(self) -> str:
        return self.step.name

    def fact(self, now_us: int) -> r.Fact:
        undo = self.step.undo
        if undo is None and self.step.delivery == "at_least_once":  # the hot path
            return self.scheduled(self.key, self.step.name, self.args)
        return self.scheduled(
            self.key,
            self.step.name,
            self.args,
            self.step.delivery == "at_most_once",
            None if undo is None else undo.name,
        )

    def matches(self, record: r.Fact) -> bool:
        return (
            type(record) is self.scheduled
            and record.key == self.key
            and record.name == self.step.name
            and (bytes(record.args) == bytes(self.args) or self._means_the_same(record.args))
        )

    def _means_the_same(self, recorded: Raw) -> bool:
        """Whether other bytes are the same arguments: a set in another order, a field that has got a default since."""
        try:
            return bool(self.step.signature.decode(recorded) == self.step.signature.decode(self.args))
        except Exception:  # noqa: BLE001 - a type's own check may raise anything
            return False


class StepCall(AttemptCall):
    """`ctx.step(fn, ...)`."""

    __slots__ = ()
    kind = "step"


class UndoCall(AttemptCall):
    """A compensation being carried out; never cancelled."""

    __slots__ = ("undone_key",)
    kind = "compensation"
    scheduled = r.CompensationScheduled
    shielded = True
    unsettling = False

    def __init__(self, step: Step, args: Raw, undone_key: str, key: str) -> None:
        super().__init__(step, args, -1)
        self.undone_key, self.key = undone_key, key

    def __await__(self) -> Generator[Call, Any, Any]:
        return (yield self)


class TimerCall(Call):
    """`ctx.sleep(seconds)` or `ctx.sleep_until(instant)`."""

    __slots__ = ("due_at", "seconds")
    kind = "timer"

    def __init__(self, seconds: float | None, due_at: int | None) -> None:
        super().__init__()
        self.seconds, self.due_at = seconds, due_at

    def fact(self, now_us: int) -> r.Fact:
        if self.seconds is not None:
            self.due_at = now_us + round(self.seconds * 1e6)
        assert self.due_at is not None
        return r.TimerSet(self.key, self.due_at)

    def matches(self, record: r.Fact) -> bool:
        if type(record) is r.TimerSet and record.key == self.key:
            self.due_at = record.due_at
            return True
        return False


class SignalCall(TimerCall):
    """`ctx.signal(name)`; a timer only where it has a timeout."""

    __slots__ = ("decoder", "signal_name")
    kind = "signal"

    def __init__(self, name: str, decoder: msgspec.json.Decoder[Any], timeout: float | None) -> None:
        super().__init__(timeout, None)
        self.signal_name, self.decoder = name, decoder

    @property
    def name(self) -> str:
        return self.signal_name


class EmitCall(Call):
    """`ctx.emit(value)`; answered as soon as it is recorded."""

    __slots__ = ("value",)
    kind = "emit"

    def __init__(self, value: Raw) -> None:
        super().__init__()
        self.value = value

    def fact(self, now_us: int) -> r.Fact:
        return r.OutputEmitted(self.key, self.value)

    def matches(self, record: r.Fact) -> bool:
        return type(record) is r.OutputEmitted and record.key == self.key and bytes(record.value) == bytes(self.value)


class ContinueCall(Call):
    """`ctx.continue_as_new(input)`; never answered: the code that awaits it is put away."""

    __slots__ = ("input",)
    kind = "continue"

    def __init__(self, input: Raw) -> None:
        super().__init__()
        self.input = input

    def matches(self, record: r.Fact) -> bool:
        return False  # a history that is replayed begins behind the record that this becomes


RUN_SCOPE = "run:"
"""The scope of whichever run asks; its id is put behind it when it asks."""


class StateCall(Call):
    """Base of the state surface's calls; the coordinator answers them with a record at once."""

    __slots__ = ("item", "scope_name")
    kind = "state"
    answers: tuple[type[r.Fact], ...] = ()

    def __init__(self, scope_name: str, item: str) -> None:
        super().__init__()
        self.scope_name, self.item = scope_name, item

    def of_run(self, info: RunInfo) -> None:
        if self.scope_name.startswith(RUN_SCOPE):
            self.scope_name = f"{RUN_SCOPE}{info.id}"

    @property
    def name(self) -> str:
        return f"{self.scope_name}/{self.item}"

    def matches(self, record: r.Fact) -> bool:
        return (
            isinstance(record, self.answers)
            and isinstance(record, (r.StateRead, r.StateWritten, r.StateRefused))
            and (record.key, record.scope, record.name) == (self.key, self.scope_name, self.item)
        )


class StateGet(StateCall):
    """`.get(key)` or `.get_versioned(key)`."""

    __slots__ = ("decoder", "default", "versioned")
    kind = "state_get"
    answers = (r.StateRead,)

    def __init__(
        self, scope_name: str, item: str, decoder: msgspec.json.Decoder[Any], default: Any, versioned: bool
    ) -> None:
        super().__init__(scope_name, item)
        self.decoder, self.default, self.versioned = decoder, default, versioned


class StatePut(StateCall):
    """`.put(key, value)` or, with `value` None, `.delete(key)`."""

    __slots__ = ("expect_version", "value")
    kind = "state_put"
    answers = (r.StateWritten, r.StateRefused)

    def __init__(self, scope_name: str, item: str, value: Raw | None, expect_version: int | None) -> None:
        super().__init__(scope_name, item)
        self.value, self.expect_version = value, expect_version

    def matches(self, record: r.Fact) -> bool:
        if not super().matches(record):
            return False
        if isinstance(record, r.StateRefused):
            return record.expected == self.expect_version
        assert isinstance(record, r.StateWritten)
        return record.deleted == (self.value is None) and bytes(record.value) == bytes(self.value or NULL)


class GroupCall:
    """`ctx.gather(...)` or `ctx.race(...)`: branches that run as fibers of their own.

    With `undo_losers` each branch has a scope of its own, and that coroutine function is awaited when all have ended,
    with the group and with the exception that decided it, if one did."""

    __slots__ = ("items", "key", "loser_scopes", "names", "undo_losers")

    def __init__(
        self,
        items: Sequence[Call | GroupCall | Coroutine[Any, Any, Any]],
        names: tuple[str, ...] | None,
        undo_losers: Callable[[GroupCall, Exception | None], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.items, self.names, self.undo_losers = items, names, undo_losers
        self.loser_scopes: list[Scope] = []
        self.key = ""

    def __await__(self) -> Generator[Any, Any, Any]:
        if self.key:
            raise DefinitionError(f"the group call {self.key} was awaited before; make a new one")
        if self.undo_losers is None:
            return (yield self)
        try:
            outcome = yield self
        except Exception as error:
            yield from self.undo_losers(self, error).__await__()
            raise
        yield from self.undo_losers(self, None).__await__()
        return outcome

    def close(self) -> None:
        """Close the coroutines that were handed in and will not be started."""
        for item in self.items:
            close_item(item)


class Settle:
    """Waits until no attempt of a scope is in flight. Ours; has no key and no record."""

    __slots__ = ("scope",)

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __await__(self) -> Generator[Settle, Any, Any]:
        return (yield self)


def close_item(item: object) -> None:
    """Close what was handed to a group, if it can be closed; a call needs nothing."""
    if isinstance(item, GroupCall) or hasattr(item, "cr_frame"):
        item.close()  # type: ignore[attr-defined]


async def awaited(call: Any) -> Any:
    """A branch that is just one call."""
    return await call
