"""The command `runtimed` with a writer that is late after half a second, for tests of that.

Once SIGUSR2 has come, a commit is given up after a second. Not from the beginning: on a machine that stands still for a
while, that would be the start's.
"""

from __future__ import annotations

import signal
import sys

from actors.journal_link import ProcessLink
from runtimed import opening, runtime
from runtimed.__main__ import main

SOON_S = 1.0
limits_s = [opening.COMMIT_TIMEOUT_S]


def give_up_soon(number: int, frame: object) -> None:
    """From now on."""
    limits_s.append(SOON_S)


runtime.WRITER_LATE_S = 0.5
ProcessLink.commit_timeout_s = property(lambda link: limits_s[-1], lambda link, given: None)  # type: ignore[assignment]

if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, give_up_soon)
    sys.exit(main())
