"""Supervisors and their children as data, each field checked: who runs, when it is restarted, how long it may take."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

if TYPE_CHECKING:  # the pure core imports the specs, and shall not load trio by that
    from actors.mailbox import Mailbox

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "rest_for_one", "one_for_all"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]

CHILDREN_MAX: Final = 1_000
NAME_CHARACTERS_MAX: Final = 100


def _demand(holds: bool, what: str, expected: str, found: object) -> None:
    if not holds:
        raise ValueError(f"{what} must be {expected}, not {found!r}")


def _demand_one_of(literal: object, what: str, found: object) -> None:
    _demand(found in get_args(literal), what, "one of " + ", ".join(get_args(literal)), found)


class Backoff(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How long a restart waits: `initial_s`, times `factor` for each further crash in a row, at most `max_s`.

    Seconds, give or take the share `jitter`. A child that was up for the supervisor's `period_s` begins anew.
    """

    initial_s: float = 0.1
    factor: float = 4.0
    max_s: float = 5.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        _demand(0 <= self.initial_s < math.inf, "backoff initial_s", "at least 0 and finite", self.initial_s)
        _demand(1 <= self.factor < math.inf, "backoff factor", "at least 1 and finite", self.factor)
        _demand(self.initial_s <= self.max_s < math.inf, "backoff max_s", "at least initial_s and finite", self.max_s)
        _demand(0 <= self.jitter <= 1, "backoff jitter", "between 0 and 1", self.jitter)

    def delay_s(self, streak: int, chance: float) -> float:
        """Seconds to wait after the `streak`-th crash in a row (from 1); `chance` is uniform in [0, 1)."""
        # Past 64 doublings any max_s is reached; the cap keeps the power from overflowing.
        grown = min(self.initial_s * self.factor ** min(streak - 1, 64), self.max_s)
        return min(grown * (1 + self.jitter * (2 * chance - 1)), self.max_s)


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One child as data.

    `run(task_status)` is its whole life: it calls `task_status.started()` when it is ready, and ends when cancelled.
    `start_timeout_s` bounds the time until it is ready, `shutdown_timeout_s` the time from its cancellation to its end.
    `significant` may end the supervisor (see `SupervisorSpec.auto_shutdown`). `fatal` lists exceptions that no restart
    can cure. `mailbox`, `supervisor` (if the child is one) and `statistics` are what the tree shows of it.

    Raises ValueError naming the child, the field and the value.
    """

    name: str
    run: Callable[..., Awaitable[object]]
    restart: Restart = "permanent"
    significant: bool = False
    start_timeout_s: float = 60.0
    shutdown_timeout_s: float = 5.0
    fatal: tuple[type[BaseException], ...] = ()
    mailbox: Mailbox | None = None
    supervisor: object | None = (
        None  # a Supervisor, which checks that; naming its type here would make a ring of modules
    )
    statistics: Callable[[], dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        name_ok = 0 < len(self.name) <= NAME_CHARACTERS_MAX and "/" not in self.name
        _demand(name_ok, "child name", f"1 to {NAME_CHARACTERS_MAX} characters without '/'", self.name)
        what = f"child {self.name!r}:"
        _demand(callable(self.run), f"{what} run", "an async function of task_status", self.run)
        _demand_one_of(Restart, f"{what} restart", self.restart)
        _demand(self.start_timeout_s > 0, f"{what} start_timeout_s", "above 0", self.start_timeout_s)
        _demand(self.shutdown_timeout_s >= 0, f"{what} shutdown_timeout_s", "at least 0", self.shutdown_timeout_s)
        significant_ok = not (self.significant and self.restart == "permanent")
        _demand(significant_ok, f"{what} restart", "transient or temporary if significant", self.restart)


class SupervisorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A supervisor as data: its children in the order of their start, and what happens when one crashes.

    More than `restarts_max` restarts within `period_s` escalate. `auto_shutdown` ends the supervisor when any, or all,
    of its significant children are done. Raises ValueError naming the field and the value.
    """

    children: tuple[ChildSpec, ...]
    strategy: Strategy = "one_for_one"
    restarts_max: int = 3
    period_s: float = 60.0
    backoff: Backoff = Backoff()
    auto_shutdown: AutoShutdown = "never"

    def __post_init__(self) -> None:
        _demand(len(self.children) <= CHILDREN_MAX, "children", f"at most {CHILDREN_MAX}", len(self.children))
        names = [child.name for child in self.children]
        for name in names:
            _demand(names.count(name) == 1, "child name", "given once", name)
        _demand_one_of(Strategy, "strategy", self.strategy)
        _demand(self.restarts_max >= 0, "restarts_max", "at least 0", self.restarts_max)
        _demand(0 < self.period_s < math.inf, "period_s", "above 0 and finite", self.period_s)
        _demand_one_of(AutoShutdown, "auto_shutdown", self.auto_shutdown)
        if self.auto_shutdown == "never":
            significant = [child.name for child in self.children if child.significant]
            _demand(not significant, "auto_shutdown", f"set, since {significant} are significant", self.auto_shutdown)
