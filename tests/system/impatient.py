"""The command `runtimed` with a writer that is given up after seconds, not after half a minute, for tests of that."""

from __future__ import annotations

import sys

from runtimed import opening, runtime
from runtimed.__main__ import main

opening.COMMIT_TIMEOUT_S = 3.0
runtime.WRITER_LATE_S = 0.5

if __name__ == "__main__":
    sys.exit(main())
