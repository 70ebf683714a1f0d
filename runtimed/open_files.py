"""How many files the daemon may have open: as many as its connections and its own work want, where it may have them.

Most shells and container engines give a process 1,024 and let it take more, because `select` knows no higher numbers:
neither we nor what we stand on uses that. The connections that `http.max_connections` allows want more than 1,024.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

SPARE: Final = 128
"""What the daemon needs besides its connections: the journal, readers, what steps open."""
ENOUGH: Final = 65_536
"""What is taken where it can be had, as in the systemd unit. Not the hard limit: children inherit it, it may be a
billion in a container, and there are programs that close each number up to it when they start."""


def wanted(max_connections: int) -> int:
    """How many the settings promise: on the socket and on TCP each so many connections."""
    return 2 * max_connections + SPARE


def attainable(soft: int, hard: int, files: int) -> int:
    """The soft limit that a daemon gives itself: never less than it had, never beyond the hard one."""
    if soft == resource.RLIM_INFINITY:
        return soft
    goal = max(soft, files, ENOUGH)
    return goal if hard == resource.RLIM_INFINITY else min(goal, hard)


def raise_limit(max_connections: int) -> None:
    """Raise this process's soft limit. For the daemon's own process: one that embeds us has its own mind about it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = attainable(soft, hard, wanted(max_connections))
    if goal != soft:
        with contextlib.suppress(OSError, ValueError):  # then it is as it was, and the doctor says what that means
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
