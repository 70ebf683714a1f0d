"""How often a source may be asked: a budget shared by all connectors with one credential. Pure: time is handed in.

Theory of operation
-------------------
A token bucket: it holds at most `rate` tokens, gains `rate` in each `period_s`, and a request takes one. What a source
said itself (429, 503, Retry-After) comes on top: until that instant nobody with this credential asks, because the limit
is the credential's and not the connector's.

Nobody reserves a place: who finds no token is told how long to wait and asks again. So somebody who gives up while
waiting wastes nothing, and a hold that is set meanwhile holds those who wait already. With few connectors a credential
(there are at most 1,000 in all) the asking again costs nothing worth naming.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from actors.connector_spec import ConnectorSpec

HOLD_S_MAX: Final = 86_400.0
"""The longest that a source may have us wait in one go; one that names a year made a mistake."""


class RateBudget:
    """One credential's budget: `rate` requests in each `period_s`; without a rate only what the source says counts.

    Instants are those of one monotonic clock, in seconds.
    """

    __slots__ = ("_at", "_rate", "_tokens", "held_until", "period_s")

    def __init__(self, rate: float | None = None, period_s: float = 1.0) -> None:
        if rate is not None and not (rate > 0 and period_s > 0):
            raise ValueError(f"a rate of {rate!r} in {period_s!r} s is not above 0")
        self._rate, self.period_s = rate, period_s
        self._tokens = self._burst
        self._at = self.held_until = float("-inf")

    @property
    def _burst(self) -> float:
        return 0.0 if self._rate is None else max(1.0, self._rate)

    @property
    def per_second(self) -> float:
        """Requests a second that it allows in the long run."""
        return float("inf") if self._rate is None else self._rate / self.period_s

    def take(self, now: float) -> float:
        """Take a place for one request: 0.0 if it may go now, else the seconds after which to ask again."""
        if now < self.held_until:
            return self.held_until - now
        if self._rate is None:
            return 0.0
        if now > self._at:
            gained = (now - self._at) * self._rate / self.period_s
            self._tokens = min(self._burst, self._tokens + gained)
            self._at = now
        if self._tokens >= 1.0 - 1e-9:  # a wait that was computed from a fraction may end a rounding error early
            self._tokens = max(0.0, self._tokens - 1.0)
            return 0.0
        return (1.0 - self._tokens) * self.period_s / self._rate

    def wait(self, now: float) -> float:
        """Seconds until `take` would give a place, without taking it; 0.0 if it would now."""
        if self._rate is None or now < self.held_until:
            return max(0.0, self.held_until - now)
        gained = max(0.0, now - self._at) * self._rate / self.period_s if now > self._at else 0.0
        tokens = min(self._burst, self._tokens + gained)
        return 0.0 if tokens >= 1.0 - 1e-9 else (1.0 - tokens) * self.period_s / self._rate

    def hold(self, now: float, seconds: float) -> None:
        """The source said so: nobody asks for so many seconds (at most a day). A shorter hold ends no longer one."""
        self.held_until = max(self.held_until, now + min(max(seconds, 0.0), HOLD_S_MAX))


class RateBudgets:
    """The budgets of all connectors: one a credential, and one for each connector that names none.

    Where connectors with one credential name different rates, the strictest counts. As many as connectors, at most.
    """

    def __init__(self, specs: Iterable[ConnectorSpec] = ()) -> None:
        self._budgets: dict[tuple[str, str], RateBudget] = {}
        for spec in specs:
            made = RateBudget(spec.rate, spec.rate_period)
            there = self._budgets.get(_owner(spec))
            if there is None or made.per_second < there.per_second:
                self._budgets[_owner(spec)] = made

    def of(self, spec: ConnectorSpec) -> RateBudget:
        """The budget of this connector. Raises KeyError for one that was not among the specs."""
        return self._budgets[_owner(spec)]

    def __len__(self) -> int:
        return len(self._budgets)


def _owner(spec: ConnectorSpec) -> tuple[str, str]:
    """Two kinds of name, so that a credential called as a connector is called shares nothing with it by accident."""
    return ("connector", spec.name) if spec.credential is None else ("credential", spec.credential)
