"""What a step may ask about itself while it runs: `runtimed.current_step()`."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal

from actors.errors import DefinitionError


class StepUnwanted(Exception):
    """Raised by `heartbeat` in a step that has been cancelled: time to stop."""


class CurrentStep:
    """The attempt that is running. `deadline` is a Unix time in seconds, or None without a timeout.

    `idempotency_key` is the same in every attempt of this call, also after a crash: hand it to whoever acts for you."""

    __slots__ = ("attempt", "deadline", "detail", "idempotency_key", "kind", "name", "on_heartbeat", "run_id", "session_id", "tenant", "trace_id", "traceparent", "unwanted")  # fmt: skip

    def __init__(
        self, *, kind: Literal["step", "compensation"], run_id: str, name: str, attempt: int, idempotency_key: str,
        trace_id: str | None, traceparent: str | None, session_id: str | None, tenant: str | None,
    ) -> None:  # fmt: skip
        self.kind, self.run_id, self.name, self.attempt = kind, run_id, name, attempt
        self.idempotency_key, self.trace_id, self.traceparent = idempotency_key, trace_id, traceparent
        self.session_id, self.tenant = session_id, tenant
        self.deadline: float | None = None
        self.detail: Any = None
        self.unwanted = False
        self.on_heartbeat: Callable[[], None] | None = None

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
