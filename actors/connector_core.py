"""When a connector polls next, and what its failures mean: pure arithmetic, with time and chance handed in.

Theory of operation
-------------------
One value, `Standing`, and a function for each thing that can happen. Instants are seconds of one monotonic clock,
`chance` is uniform in [0, 1).

    what happened            next poll                                    status until then
    -----------------------  -------------------------------------------  -----------------
    a poll began             -                                            polling
    it ended, with records   interval halved, down to every / 8           ok
    it ended, with none      the interval is `every` again                ok
    it ended, more is there  at once (only if this one got further)       ok
    the source failed        1 s, 2, 4, 8 ... and what it asked for       backoff
    the 5th failure in a row a minute, 2, 4 ... 15: one probe after each  open_breaker
    the code crashed         as a failure                                 backoff
    the 5th crash in a row   none: a person resumes it                    quarantined
    a person holds it        none until it is resumed                     paused

Every wait but a Retry-After varies by +-10 %, so that what began together does not stay together. A Retry-After is a
lower bound: the wait is never shorter, and only ever longer by the jitter.

A *failure* is the source's (it is down, it refuses, it talks nonsense). A *crash* is the connector's own code. Both
are counted in a row: a poll that ends well forgets them. A failure between two crashes does not, because code that
breaks whenever the source is up is broken. `paused` and `quarantined` are facts of the journal; here they only say that
nothing is due.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

Status = Literal["ok", "polling", "paused", "backoff", "open_breaker", "quarantined"]
Held = Literal["paused", "quarantined"]

JITTER: Final = 0.1
BUSY_FACTOR_MAX: Final = 8
FIRST_POLL_WITHIN_S: Final = 1.0
AGAIN_S: Final = 0.1
BACKOFF_FIRST_S: Final = 1.0
FAILURES_MAX: Final = 5
BREAKER_FIRST_S: Final = 60.0
BREAKER_MAX_S: Final = 900.0
CRASHES_MAX: Final = 5
RETRY_AFTER_S_MAX: Final = 86_400.0


class Standing(msgspec.Struct, frozen=True):
    """How a connector stands. `every_s` is what its declaration says, `interval_s` what is kept at the moment; `due` is
    the instant of its next poll, infinite for none. `failures` and `crashes` are counted in a row, crashes among the
    failures too."""

    every_s: float
    interval_s: float
    due: float
    polling: bool = False
    failures: int = 0
    crashes: int = 0
    held: Held | None = None

    @property
    def status(self) -> Status:
        """The status in one word of the contract."""
        if self.held is not None:
            return self.held
        if self.polling:
            return "polling"
        if self.failures >= FAILURES_MAX:
            return "open_breaker"
        return "backoff" if self.failures else "ok"

    @property
    def broken(self) -> bool:
        """Whether its code has crashed so often in a row that it must be quarantined."""
        return self.crashes >= CRASHES_MAX


def initial(every_s: float, now: float, chance: float) -> Standing:
    """A connector that begins: its first poll comes within a second, and not all of them in the same instant."""
    return Standing(every_s, every_s, now + chance * min(FIRST_POLL_WITHIN_S, every_s))


def begin(standing: Standing) -> Standing:
    """A poll begins."""
    return msgspec.structs.replace(standing, polling=True, due=math.inf)


def ended(standing: Standing, now: float, chance: float, *, records: int, more: bool) -> Standing:
    """A poll ended well. It brought `records` new ones; `more` says that it got further and the source has more."""
    busiest = standing.every_s / BUSY_FACTOR_MAX
    interval = max(standing.interval_s / 2, busiest) if records else standing.every_s
    wait = 0.0 if more else _jittered(interval, chance)
    return _rested(standing, now + wait, interval_s=interval, failures=0, crashes=0)


def at(standing: Standing, due: float) -> Standing:
    """The next poll comes at an instant that something else than an interval decides."""
    return _rested(standing, due)


def failed(standing: Standing, now: float, chance: float, *, retry_after_s: float | None = None) -> Standing:
    """The source failed; `retry_after_s` is what it asked for."""
    return _failed(standing, now, chance, retry_after_s, standing.crashes)


def crashed(standing: Standing, now: float, chance: float) -> Standing:
    """The connector's code crashed. After so many in a row it is `broken`: whoever sees that has it quarantined."""
    return _failed(standing, now, chance, None, standing.crashes + 1)


def interrupted(standing: Standing, now: float) -> Standing:
    """The poll was broken off by nobody's fault (a restart of ours, a reset): the next one comes very soon."""
    return _rested(standing, now + AGAIN_S)


def poll_now(standing: Standing, now: float) -> Standing:
    """Somebody wants a poll now. It changes nothing while one is under way, or while the connector is held."""
    if standing.polling or standing.held is not None:
        return standing
    return msgspec.structs.replace(standing, due=min(standing.due, now))


def hold(standing: Standing, held: Held) -> Standing:
    """The journal says that the connector is held."""
    return msgspec.structs.replace(standing, held=held, polling=False, due=math.inf)


def release(standing: Standing, now: float) -> Standing:
    """The journal says that it is not held (any more): it begins anew, at once, if it was."""
    if standing.held is None:
        return standing
    return Standing(standing.every_s, standing.every_s, now)


def _failed(standing: Standing, now: float, chance: float, retry_after_s: float | None, crashes: int) -> Standing:
    failures = standing.failures + 1
    if failures >= FAILURES_MAX:
        # The exponent is bounded, because a source may be down for a year and a float may not.
        wait = min(BREAKER_FIRST_S * 2.0 ** min(failures - FAILURES_MAX, 30), BREAKER_MAX_S)
    else:
        wait = BACKOFF_FIRST_S * 2.0 ** (failures - 1)
    wait = _jittered(wait, chance)
    if retry_after_s is not None and retry_after_s > 0:  # false for what is no number, too
        wait = max(wait, min(retry_after_s, RETRY_AFTER_S_MAX) * (1 + JITTER * chance))
    return _rested(standing, now + wait, interval_s=standing.every_s, failures=failures, crashes=crashes)


def _rested(standing: Standing, due: float, **changes: float | int) -> Standing:
    if standing.held is not None:
        due = math.inf
    return msgspec.structs.replace(standing, polling=False, due=due, **changes)


def _jittered(seconds: float, chance: float) -> float:
    return seconds * (1 + JITTER * (2 * chance - 1))
