"""How long the disk will last: free space, looked at now and then, as a line into the future. Pure."""

from __future__ import annotations

from collections import deque

SAMPLE_S = 300.0
WINDOW_S = 86_400.0
"""A day: what happens once a day (a backup, a rotation of logs) is in it, so that its ups and downs cancel out."""
OLD_ENOUGH_S = 1_800.0
"""Before that a restore or a first backup would look like a disk that is full by noon."""
DAY_S = 86_400.0


class DiskTrend:
    """Keeps at most a day of samples. Times are of any clock that only goes forward."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=int(WINDOW_S / SAMPLE_S) + 1)

    def note(self, at_s: float, free_bytes: int) -> None:
        """So much is free now; a sample is kept every five minutes."""
        if not self._samples or at_s - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((at_s, free_bytes))

    def full_in_days(self, at_s: float, free_bytes: int) -> float | None:
        """Days until nothing is free, if it goes on as since the oldest sample; None if it does not shrink, or if that
        is too young to tell."""
        if not self._samples:
            return None
        since_s, before = self._samples[0]
        elapsed_s, used = at_s - since_s, before - free_bytes
        if elapsed_s < OLD_ENOUGH_S or used <= 0:
            return None
        return free_bytes / (used / elapsed_s) / DAY_S
