"""Errors as a person reads them: what, why, what to run next, and the exit code of the contract."""

from __future__ import annotations

import click

from runtimed.escape import escape
from wal.errors import RuntimedError

INTERRUPTED = 130
PIPE_CLOSED = 1  # as click does it where it meets the closed pipe first
PARTLY_DONE = 8

_NEXT = {
    "run_not_found": "See what there is: runtimed runs list",
    "approval_not_found": "See what there is: runtimed approvals list --status all",
    "approval_closed": "See who decided: runtimed approvals show ID",
    "already_voted": "Somebody else has to decide now: runtimed approvals show ID",
    "session_not_found": "See what there is: runtimed sessions list",
    "state_not_found": "See what there is: runtimed state list SCOPE",
    "unknown_workflow": "See what is registered: runtimed check",
    "run_ended": "See how it ended: runtimed runs show ID",
    "not_blocked": "See what it does: runtimed runs explain ID",
    "session_ended": "Open another: runtimed sessions open",
    "run_failed": "See what happened: runtimed runs explain ID",
    "run_cancelled": "See what happened: runtimed runs explain ID",
    "timed_out": "Try again, or allow more with --timeout SECONDS",
    "invalid_id": "An id is 1 to 200 characters of A-Z a-z 0-9 . _ : -",
    "config": "Check it: runtimed check --config FILE",
    "internal": "Look at the daemon's log; runtimed doctor",
}

_INSTEAD = {
    "stale_payload": "Look at it again and decide anew: runtimed approvals show ID",
    "actor_not_found": "See what there is: runtimed actors tree",
    "invalid_cursor": "Take the cursor of the page before as it is, with the same filters",
}
"""Where the daemon's own hint speaks of HTTP."""


def tell(error: RuntimedError) -> None:
    """Say on stderr what happened and what to do about it."""
    click.echo(f"error: {escape(str(error), keep=chr(10))}", err=True)
    hint = _INSTEAD.get(error.code) or error.hint or _NEXT.get(error.code, "")
    if hint:
        click.echo(f" next: {escape(hint)}", err=True)
