"""The command `runtimed`, and `python -P -m runtimed`."""

from __future__ import annotations

import sys

from runtimed.siblings import check_siblings


def main() -> int:
    """Run the command line; the exit code."""
    try:
        check_siblings()  # before anything of ours is imported: a user's actors.py must not be run as ours
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - nothing of ours may be loaded yet
        return 78
    from runtimed.cli.main import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
