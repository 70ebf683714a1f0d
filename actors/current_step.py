"""What a step may ask about itself while it runs: `runtimed.current_step()`."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from actors.errors import DefinitionError

if TYPE_CHECKING:
    from actors.flow.run_info import RunInfo


class StepUnwanted(Exception):
    """Raised by `heartbeat` in a step that has been cancelled: time to stop."""


class CurrentStep:
    """The attempt that is running. `deadline` is a Unix time in seconds, or None without a timeout."""

    __slots__ = ("_call_key", "_info", "attempt", "deadline", "detail", "kind", "name", "on_heartbeat", "unwanted")

    def __init__(self, kind: str, name: str, attempt: int, call_key: str, info: RunInfo) -> None:
        self.kind, self.name, self.attempt, self._call_key, self._info = kind, name, attempt, call_key, info
        self.deadline: float | None = None
        self.detail: Any = None
        self.unwanted = False
        self.on_heartbeat: Callable[[], None] | None = None

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this call, also after a crash: hand it to whoever acts for you."""
        return f"{self._info.id}/{self._info.generation}/{self._call_key}/{self.name}"

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._info.id

    @property
    def generation(self) -> int:
        """How often the run had continued as new."""
        return self._info.generation

    @property
    def trace_id(self) -> str | None:
        """The run's trace."""
        return self._info.trace_id

    @property
    def traceparent(self) -> str | None:
        """The trace header to send on."""
        return self._info.traceparent

    @property
    def session_id(self) -> str | None:
        """The run's session."""
        return self._info.session_id

    @property
    def tenant(self) -> str | None:
        """The run's tenant."""
        return self._info.tenant

    def heartbeat(self, detail: Any = None) -> None:
        """Say that the step is alive. Raises StepUnwanted once the step is not wanted any more, so that a `def` step,
        which nobody can stop from outside, can stop itself. Callable from the step's thread."""
        self.detail = detail
        if self.unwanted:
            raise StepUnwanted(f"step {self.name} of run {self.run_id} was cancelled")
        if self.on_heartbeat is not None:
            self.on_heartbeat()


CURRENT: ContextVar[CurrentStep] = ContextVar("runtimed_current_step")


def current_step() -> CurrentStep:
    """The attempt that runs here. Raises DefinitionError outside a step or a compensation."""
    try:
        return CURRENT.get()
    except LookupError:
        raise DefinitionError("current_step() is for the inside of a step or a compensation") from None
