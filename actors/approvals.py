"""Deciding approvals: who may, about what, and when it is settled.

Everything is checked before anything is recorded: that the approval is open and in time, that the decision is about
what was shown, that this person may decide and has not yet, and that what was filled in fits the form. The form's type
lives in the workflow's code, so the run is woken for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actors import messages as m
from actors.active_run import ActiveRun
from actors.errors import (
    AlreadyVoted,
    ApprovalClosed,
    ApprovalNotFound,
    Conflict,
    InvalidInput,
    NotAllowed,
    PayloadTooLarge,
    StaleApproval,
)
from actors.flow.approval import ApprovalCall
from actors.mailbox import Letter
from actors.saga_engine import SagaEngine
from wal import records as r
from wal.approvals import ApprovalRow
from wal.codec import payload_fault
from wal.errors import RuntimedError
from wal.queries import Reader
from wal.views import ApprovalView, Vote, rfc3339

REASON_CHARACTERS_MAX = 4_000


class ApprovalDesk:
    """Handles `DecideApproval`. `open_run` brings a run into memory, `accept` answers once all is durable, `repeat`
    gives the first answer to a request that had one."""

    def __init__(
        self,
        engine: SagaEngine,
        reader: Reader,
        open_run: Callable[[str], ActiveRun],
        accept: Callable[[Letter, m.Message], None],
        repeat: Callable[[Letter], bool],
        at_path: Callable[[Exception, str, Any], str],
    ) -> None:
        self._engine, self._reader, self._open_run = engine, reader, open_run
        self._accept, self._repeat, self._at_path = accept, repeat, at_path
        self._undurable: dict[str, ApprovalView] = {}

    def decide(self, command: m.DecideApproval, letter: Letter) -> None:
        """Check what the journal can say; then wake the run for the rest."""
        row = self._find(command.approval_id)
        self._check(command, row)
        run = self._open_run(row.view.run_id)
        if run.flow is not None and not run.deferred:
            self._vote(run, command, letter)
        else:  # paused, it may have answers that its code has not seen yet, and that a decision comes after
            run.when_loaded.append(lambda: self._loaded(run, command, letter))
            self._engine.go_on(run)

    def _loaded(self, run: ActiveRun, command: m.DecideApproval, letter: Letter) -> None:
        try:
            if not self._repeat(letter):  # its first try may have waited for the same load
                self._vote(run, command, letter)
        except RuntimedError as error:
            letter.refuse(error)
        self._engine.close_group()

    def _find(self, approval_id: str) -> ApprovalRow:
        row = self._reader.approval_row(approval_id)
        if row is None:
            raise ApprovalNotFound(f"there is no approval {approval_id[:40]!r}")
        newer = self._undurable.get(approval_id)
        return row if newer is None else ApprovalRow(row.run_key, newer)

    def _check(self, command: m.DecideApproval, row: ApprovalRow) -> None:
        view, by = row.view, command.origin.by
        if view.status != "open":
            raise ApprovalClosed(f"approval {view.id} is {view.status}{_by_whom(view)}")
        now = rfc3339(self._engine.clock.now_us()) or ""
        if view.expires_at is not None and now >= view.expires_at:
            # The timer that refuses it may be late: the run is paused, or the daemon was down.
            raise ApprovalClosed(f"approval {view.id} could be decided until {view.expires_at}; it is {now}")
        if command.payload_hash is not None and command.payload_hash != view.payload_hash:
            raise StaleApproval(
                f"approval {view.id} asks for {view.payload_hash[:12]}.., "
                f"the decision is about {command.payload_hash[:12]!r}"
            )
        if view.roles and command.roles is not None and not command.roles & set(view.roles):
            raise NotAllowed(
                f"approval {view.id} is for {' or '.join(view.roles)}; "
                f"{by or 'you'} has {', '.join(sorted(command.roles)) or 'no role'}",
                hint="Somebody with that role decides, or [access.groups] gives it to you.",
            )
        if view.four_eyes and by is not None and by == self._starter(row.run_key):
            raise NotAllowed(f"{by} started run {view.run_id}; approval {view.id} needs somebody else's eyes")
        for vote in view.votes:
            if vote.by == by:
                raise AlreadyVoted(f"{by} has voted on approval {view.id} already, at {vote.at}")
        self._check_words(command, view)

    def _check_words(self, command: m.DecideApproval, view: ApprovalView) -> None:
        reason = (command.reason or "").strip()
        if not reason and (not command.approve or view.risk == "high"):
            what = "a refusal" if not command.approve else "approving at high risk"
            raise InvalidInput(f"$.reason: {what} needs a reason")
        if len(reason) > REASON_CHARACTERS_MAX:
            raise InvalidInput(f"$.reason: at most {REASON_CHARACTERS_MAX} characters")
        limit = self._engine.limits.payload_max_bytes
        if len(command.data) > limit:
            raise PayloadTooLarge(f"the data is {len(command.data)} bytes, over the limit of {limit}")
        if (fault := payload_fault(bytes(command.data))) is not None:
            raise InvalidInput(f"$.data: it {fault}")

    def _starter(self, run_key: int) -> str | None:
        history = self._reader.history(run_key, last_seq=self._first_seq(run_key))
        started = history[0].record if history else None
        return started.by if isinstance(started, r.RunStarted) else None

    def _first_seq(self, run_key: int) -> int:
        row = self._reader.run_by_key(run_key)
        return 0 if row is None else row.first_seq

    def _vote(self, run: ActiveRun, command: m.DecideApproval, letter: Letter) -> None:
        row = self._find(command.approval_id)
        self._check(command, row)  # once more: others may have voted while the run was loaded
        view, engine = row.view, self._engine
        flow = run.flow
        call = flow.calls.get(view.call) if flow is not None and flow.halted is None else None
        if run.ended or not isinstance(call, ApprovalCall) or not call.open:
            raise _not_awaited(run, view)
        if command.approve and call.decoder is not None:
            try:
                call.decoder.decode(command.data)
            except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
                why = self._at_path(error, "$.data", call.decoder.type)
                raise InvalidInput(f"the form of approval {view.id}: {why}") from None
        by, reason = command.origin.by, (command.reason or "").strip() or None
        voted = r.ApprovalVoted(
            view.call, command.approve, by, reason, command.data, command.via, command.origin.trace_id
        )
        now = engine.clock.now_us()
        vote = Vote(by, command.approve, reason, rfc3339(now) or "", command.via)
        votes = [*view.votes, vote]
        status = _status_after(votes, view.quorum)
        # The vote changes nothing for the code. What it settles follows at once, in the same commit: no kill can leave
        # an approval that is settled and open.
        seq = engine.append(run, voted, len(command.data), now)
        if status != "open":
            names = ", ".join(each.by or "" for each in votes if each.approve is command.approve)
            decided = r.ApprovalDecided(view.call, status == "approved", names or None, reason, command.data)
            seq = engine.deliver_all(run, decided, len(command.data))
        decided_at = vote.at if status != "open" else None
        fresh = msgspec.structs.replace(view, votes=votes, status=status, decided_at=decided_at)
        self._undurable[view.id] = fresh
        engine.writer.when_durable(seq, self._forget, view.id, fresh)
        self._accept(letter, m.ApprovalReply(approval=fresh, decided=status != "open", seq=seq))

    def _forget(self, approval_id: str, view: ApprovalView) -> None:
        if self._undurable.get(approval_id) is view:
            del self._undurable[approval_id]


def _status_after(votes: list[Vote], quorum: int) -> str:
    """One no refuses; as many different people as the quorum approve."""
    if not votes[-1].approve:
        return "refused"
    return "approved" if len({vote.by for vote in votes if vote.approve}) >= quorum else "open"


def _not_awaited(run: ActiveRun, view: ApprovalView) -> RuntimedError:
    hold = run.flow.hold if run.flow is not None else None
    if hold is None:
        return ApprovalClosed(f"approval {view.id} is not awaited by its run any more")
    return Conflict(
        f"run {run.id!r} is blocked ({hold.code}) and cannot take a decision; approval {view.id} stays open",
        hint=f"`runtimed runs explain {run.id}` says what to mend; decide once the run goes on.",
    )


def _by_whom(view: ApprovalView) -> str:
    """Who decided, when and why: people who came too late want to know whom to ask."""
    if not view.votes or view.status not in ("approved", "refused"):
        return f" since {view.decided_at}" if view.decided_at else ""
    last = view.votes[-1]
    who = f"{last.by} ({last.via})" if last.via else last.by
    return f": decided by {who} at {last.at}" + (f", saying {last.reason[:200]!r}" if last.reason else "")
