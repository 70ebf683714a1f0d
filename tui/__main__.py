"""`python -P -m tui`: look at the terminal, decide how to draw, run the dashboard, leave the terminal as it was."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from tui.launch import main

    sys.exit(main())
