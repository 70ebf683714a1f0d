"""What the audit says of a command that was carried out: one record beside what it changed, in the same commit. Pure.

Whoever answers a command asks here once everything is recorded, so a refusal leaves nothing. What a program does that
holds the runtime itself (no `via`) is its own affair and is not audited; nor is a repeat that changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import messages as m
from actors.schedules import PREFIX as SCHEDULE
from wal import records as r

Told = tuple[str, str]
"""An action and its target."""


def audited(command: m.Message, reply: m.Message) -> r.CallAudited | None:
    """The record of a command and what came of it; None for one that is not audited."""
    origin: m.Origin = getattr(command, "origin", m.NOBODY)
    tell = ACTIONS.get(type(command))
    if origin.via is None or tell is None:
        return None
    told = tell(command, reply)
    if told is None:
        return None
    return call(*told, origin, getattr(command, "reason", None))


def call(action: str, target: str, origin: m.Origin, reason: str | None = None) -> r.CallAudited:
    """The record of a call by `origin`; its own reason counts where the command has none."""
    return r.CallAudited(action, target, origin.by, origin.via, reason or origin.reason, origin.trace_id)


def _started(command: m.StartRuns, reply: m.StartedRuns) -> Told | None:
    """One record a request, however many runs it started: the batch's first names it."""
    ids = [item.run.id for item in reply.items if item.created and item.run is not None]
    if not ids:
        return None
    return "run.start", ids[0] if len(ids) == 1 else f"{ids[0]} and {len(ids) - 1} more"


def _opened(command: m.OpenSession, reply: m.SessionReply) -> Told | None:
    return ("session.open", reply.session.id) if reply.created else None


def _decided(command: m.DecideApproval, reply: m.ApprovalReply) -> Told:
    return "approval.approve" if command.approve else "approval.deny", command.approval_id


def _on(action: str, field: str) -> Callable[[Any, Any], Told]:
    """An action on what one field of the command names."""
    return lambda command, reply: (action, getattr(command, field))


def _on_state(action: str) -> Callable[[Any, Any], Told]:
    return lambda command, reply: (action, f"{command.scope}/{command.key}")


def _on_source(verb: str) -> Callable[[Any, Any], Told]:
    """On a connector, or on a schedule, which is one inside and none to people."""

    def told(command: Any, reply: Any) -> Told:
        name = command.name.removeprefix(SCHEDULE)
        return f"{'connector' if name == command.name else 'schedule'}.{verb}", name

    return told


ACTIONS: dict[type[m.Message], Callable[[Any, Any], Told | None]] = {
    m.StartRuns: _started,
    m.SignalRun: _on("run.signal", "run_id"),
    m.CancelRun: _on("run.cancel", "run_id"),
    m.PauseRun: _on("run.pause", "run_id"),
    m.ResumeRun: _on("run.resume", "run_id"),
    m.RetryRun: _on("run.retry", "run_id"),
    m.ResolveCall: _on("run.resolve", "run_id"),
    m.ForkRun: lambda command, reply: ("run.fork", f"{command.run_id} as {reply.id}"),
    m.DecideApproval: _decided,
    m.OpenSession: _opened,
    m.TouchSession: _on("session.touch", "id"),
    m.CloseSession: _on("session.close", "id"),
    m.PutState: _on_state("state.put"),
    m.DeleteState: _on_state("state.delete"),
    m.PauseConnector: _on_source("pause"),
    m.ResumeConnector: _on_source("resume"),
    m.ResetConnector: _on("connector.reset", "name"),
    m.CreateToken: _on("token.create", "id"),
    m.RevokeToken: lambda command, reply: ("token.revoke", reply.id),
    m.NoteSecret: lambda command, reply: (f"secret.{command.action}", command.name),
}
"""What each command of a person is called. Commands that are not here are the runtime's own."""
