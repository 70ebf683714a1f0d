"""What wrong tokens may cost: a budget for each address, refilled with time. Beyond it the answer is 429.

A right token is never refused because of others' wrong ones: behind a proxy all clients have one address, and one of
them must not be able to lock the others out. With 256 bits nothing is to be found by guessing; what the budget bounds
is noise, and it makes a guesser visible to people.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

FAILURES_MAX: Final = 20
REFILL_S: Final = 3.0
"""One more failure is answered plainly after so long."""
ADDRESSES_MAX: Final = 4_096
"""The address that failed longest ago is forgotten first."""
SHOWN_MAX: Final = 5


class Guesses:
    """Counts failures by address; in memory, bounded. Instants are seconds of any steady clock."""

    def __init__(self) -> None:
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()  # failures held against it, and since when
        self.refused_total = 0

    def failed(self, address: str, now_s: float) -> float | None:
        """One more failure of this address: None while it is within its budget, else the seconds until it is again."""
        spent = self._now(address, now_s) + 1.0
        self._spent[address] = (min(spent, FAILURES_MAX + 1.0), now_s)
        self._spent.move_to_end(address)
        if len(self._spent) > ADDRESSES_MAX:
            self._spent.popitem(last=False)
        if spent <= FAILURES_MAX:
            return None
        self.refused_total += 1
        return REFILL_S

    def remarks(self, now_s: float) -> list[str]:
        """A sentence on each address that is beyond its budget at this moment, some of them."""
        beyond = [address for address in self._spent if self._now(address, now_s) >= FAILURES_MAX]
        shown = [f"{address} shows wrong tokens again and again, and is refused" for address in beyond[-SHOWN_MAX:]]
        more = len(beyond) - len(shown)
        return [*shown, f"so do {more} more addresses"] if more else shown

    def _now(self, address: str, now_s: float) -> float:
        spent, since_s = self._spent.get(address, (0.0, now_s))
        return max(0.0, spent - (now_s - since_s) / REFILL_S)

    def __len__(self) -> int:
        return len(self._spent)
