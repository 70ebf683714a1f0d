"""Deciding from the command line: show, ask, and send the hash of exactly what was shown."""

from __future__ import annotations

import sys
import time

import click
import msgspec

from actors.errors import InvalidInput, StaleApproval
from runtimed.cli.approval_card import form_lines, lines
from runtimed.cli.inputs import read_json
from runtimed.cli.shell import Shell
from runtimed.cli.text import cell
from wal.views import ApprovalView

HASH_DIGITS = 64
PREFIX_DIGITS_MIN = 8
CODE_DIGITS = 4
"""What is typed at high risk. It only stops reflexes: what binds is the whole hash, which the daemon checks."""
DEAD_SECONDS = 0.4
"""What is typed before the card can have been read is not an answer to it."""


def decide(
    shell: Shell,
    approval_id: str,
    *,
    approve: bool,
    yes: bool,
    reason: str | None,
    data: str | None,
    payload_hash: str | None,
    idempotency_key: str | None,
) -> None:
    """Decide and print the approval as it is then. Raises `InvalidInput`, `StaleApproval`, and what the daemon does."""
    filled_in = None if data is None else read_json(data, "--data")
    if payload_hash is not None:
        payload_hash = payload_hash.lower()
    if payload_hash is None or len(payload_hash) != HASH_DIGITS:
        payload_hash = _looked_at(shell, approval_id, payload_hash, approve, yes, reason, data is not None)
    view: ApprovalView = shell.ask(
        lambda client: client.decide(
            approval_id, approve=approve, payload_hash=payload_hash, reason=reason, data=filled_in,
            idempotency_key=idempotency_key,
        )
    )  # fmt: skip
    _say(shell, view, approve)


def _looked_at(
    shell: Shell, approval_id: str, prefix: str | None, approve: bool, yes: bool, reason: str | None, filled_in: bool
) -> str:
    """Fetch what is asked now; the hash of it, once it is certain that somebody has seen it."""
    approval = shell.ask(lambda client: client.approval(approval_id))
    if approval.status == "open" and approve:
        _check_complete(approval, reason, filled_in)
    if prefix is not None:
        _check_prefix(approval, prefix)
    else:
        for line in lines(shell, msgspec.json.decode(msgspec.json.encode(approval))):
            click.echo(line, err=True, color=shell.color and sys.stderr.isatty())
        if approval.status == "open" and not yes:
            _confirm(approval)
    return approval.payload_hash


def _check_complete(approval: ApprovalView, reason: str | None, filled_in: bool) -> None:
    """Say what is missing before anybody has confirmed anything."""
    if approval.risk == "high" and not (reason or "").strip():
        raise InvalidInput("approving at high risk needs a reason", hint="Say it with --reason TEXT.")
    form = msgspec.json.decode(approval.form)
    if form is not None and not filled_in:
        asked = ", ".join(form_lines(form))
        raise InvalidInput(f"this approval has a form: {asked}", hint="Fill it in with --data JSON, or --data @FILE.")


def _check_prefix(approval: ApprovalView, prefix: str) -> None:
    if len(prefix) < PREFIX_DIGITS_MIN:
        raise InvalidInput(f"--payload-hash: at least the first {PREFIX_DIGITS_MIN} digits")
    if not approval.payload_hash.startswith(prefix):
        raise StaleApproval(f"approval {approval.id} asks for {approval.payload_hash[:12]}.., not for {prefix[:12]}..")


def _confirm(approval: ApprovalView) -> None:
    """Ask on the terminal; anything but the right word changes nothing."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidInput(
            "there is no terminal to ask on; nothing was decided",
            hint=f"Give --payload-hash {approval.payload_hash[:12]} if this is what you approve, or --yes.",
        )
    wanted = approval.payload_hash[:CODE_DIGITS] if approval.risk == "high" else "yes"
    what = f"the first {CODE_DIGITS} digits of the payload's hash" if approval.risk == "high" else "yes"
    _forget_typed_ahead()
    click.echo(f"approve? type {what}: ", err=True, nl=False)
    if sys.stdin.readline().strip().lower() != wanted:
        click.echo("nothing was decided", err=True)
        raise click.exceptions.Exit(1)


def _forget_typed_ahead() -> None:
    import termios  # here, because elsewhere nobody needs it

    time.sleep(DEAD_SECONDS)
    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _say(shell: Shell, view: ApprovalView, approve: bool) -> None:
    if shell.output in ("json", "jsonl"):
        shell.print_json(msgspec.json.encode(view))
    elif shell.output == "id":
        shell.print(cell(view.id))
    elif view.status == "open":
        given = sum(vote.approve for vote in view.votes)
        shell.print(f"{cell(view.id)}: your yes is recorded; {given} of {view.quorum} needed")
    else:
        mine = view.votes[-1]
        who = cell(mine.by) + (f" ({cell(mine.via)})" if mine.via else "")
        shell.print(f"{cell(view.id)}: {view.status} by {who}")
