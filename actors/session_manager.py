"""The session manager: opens, touches, expires and closes sessions, and has the runs of an ended one cancelled.

Tokens are handled here as well (`actors.token_desk`): to revoke one must not wait behind a flood of starts.

That a session has ended is recorded first. The saga coordinator is told after that, and told again after a restart for
every ended session whose runs are not all over: so a crash in between loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import trio

from actors import messages as m
from actors import session_core as core
from actors.answers import Answers
from actors.checks import check_id, check_words
from actors.clock import Clock
from actors.errors import Conflict, MailboxFull, SessionNotFound
from actors.mailbox import Letter, Mailbox
from actors.saga_commands import REPLIES
from actors.session_core import Session
from actors.token_desk import TokenDesk
from actors.wal_writer import WalWriter
from wal import records as r
from wal.errors import RuntimedError
from wal.queries import Reader
from wal.views import SessionView, rfc3339

EXPIRING_PAGE = 100
ATTRIBUTES_BYTES_MAX = 1 << 20
TELL_AGAIN_S = 1.0


class SessionManager:
    """The actor."""

    def __init__(
        self,
        mailbox: Mailbox,
        reader: Reader,
        writer: WalWriter,
        clock: Clock,
        answers: Answers,
        tell_coordinator: Callable[[m.SessionEnded], None],
        new_id: Callable[[], str],
        tokens: TokenDesk,
        recheck_s: float = 1.0,
    ) -> None:
        self.mailbox, self._reader, self._writer, self._clock = mailbox, reader, writer, clock
        self._answers, self._tell, self._recheck_s = answers, tell_coordinator, recheck_s
        self._new_id = new_id
        self._undurable: dict[str, tuple[Session, int]] = {}
        self._untold: dict[str, m.SessionEnded] = {}
        self._next_us: int | None = None
        self._sooner = trio.Event()
        self._handlers: dict[type[m.Message], Callable[[Any, Letter], None]] = {
            m.OpenSession: self._open,
            m.TouchSession: self._touch,
            m.CloseSession: self._close,
            **tokens.handlers(self._answer),
        }

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        await self._writer.wait_durable(self._writer.seq)
        self._undurable.clear()
        for session_id in self._reader.ended_sessions_with_open_runs():
            self._end(session_id, cancel=True, reason=f"session {session_id} ended")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._expire_when_due)
            task_status.started()
            while True:
                letters = iter(await self.mailbox.take())
                try:
                    for letter in letters:
                        self._handle(letter)
                except BaseException:
                    self.mailbox.put_back(letters)
                    raise

    def _handle(self, letter: Letter) -> None:
        message = letter.message
        try:
            check_words(message, ATTRIBUTES_BYTES_MAX)
            known = self._answers.find(message.origin.request)
            if known is not None:
                reply = msgspec.json.decode(known.body, type=REPLIES[type(message)])
                self._writer.when_durable(known.seq, letter.reply, reply)
                return
            self._handlers[type(message)](message, letter)
        except RuntimedError as error:
            letter.refuse(error)
        self._writer.cut()

    # --- commands

    def _open(self, command: m.OpenSession, letter: Letter) -> None:
        core.check(command.ttl, command.on_close, command.classification)
        session_id = check_id(command.id, "session id") if command.id is not None else self._new_id()
        existing = self._find(session_id)
        if existing is not None:
            asked = (command.tenant, command.subject, command.ttl, command.on_close, command.classification)
            there = (existing.tenant, existing.subject, existing.ttl, existing.on_close, existing.classification)
            if asked != there or existing.status != "open":
                raise Conflict(f"session {session_id!r} exists with other properties, or has ended")
            self._accept(letter, existing, created=False)
            return
        now, origin = self._clock.now_us(), command.origin
        session = Session(
            session_id,
            "open",
            command.tenant,
            command.subject,
            command.classification,
            command.ttl,
            core.expiry(command.ttl, now),
            command.on_close,
            command.attributes,
            origin.trace_id,
            now,
        )
        record = r.SessionOpened(
            session.id,
            session.tenant,
            session.subject,
            session.classification,
            session.ttl,
            session.expires_at,
            session.on_close,
            command.attributes,
            origin.trace_id,
            origin.by,
        )
        self._record(record, session, now)
        self._accept(letter, session, created=True)

    def _touch(self, command: m.TouchSession, letter: Letter) -> None:
        now = self._clock.now_us()
        session = core.move(self._need(command.id, now), "touch", now)
        self._record(r.SessionTouched(session.id, session.expires_at, command.origin.by), session, now)
        self._accept(letter, session)

    def _close(self, command: m.CloseSession, letter: Letter) -> None:
        now = self._clock.now_us()
        session = core.move(self._need(command.id, now), "close", now)
        self._record(r.SessionClosed(session.id, command.reason, command.origin.by), session, now)
        self._end(
            session.id, cancel=session.on_close == "cancel", reason=command.reason or f"session {session.id} was closed"
        )
        self._accept(letter, session)

    def _accept(self, letter: Letter, session: Session, *, created: bool = False) -> None:
        self._answer(letter, m.SessionReply(session=view(session), created=created, seq=self._writer.seq))

    def _answer(self, letter: Letter, reply: m.Message) -> None:
        self._answers.accept(letter.message, reply)
        self._writer.when_durable(self._writer.seq, letter.reply, reply)

    # --- expiry

    async def _expire_when_due(self) -> None:
        while True:
            self._sooner = trio.Event()
            self._expire_due()
            for session_id, message in list(self._untold.items()):
                self._tell_coordinator(session_id, message)
            with trio.move_on_after(self._wait_s()):
                await self._sooner.wait()

    def _expire_due(self) -> None:
        now = self._clock.now_us()
        rows = self._reader.expiring_sessions(limit=EXPIRING_PAGE)
        for session_id, _ in rows:
            session = self._find(session_id)
            if (
                session is not None
                and session.status == "open"
                and session.expires_at is not None
                and session.expires_at <= now
            ):
                self._expire(session, now)
        waiting = [s for s, _ in self._undurable.values() if s.status == "open" and s.expires_at is not None]
        later = [row.expires_at for row in rows if row.expires_at > now] + [
            s.expires_at for s in waiting if s.expires_at
        ]
        self._next_us = (
            now if rows and rows[-1].expires_at <= now and len(rows) == EXPIRING_PAGE else min(later, default=None)
        )

    def _expire(self, session: Session, now: int) -> None:
        expired = core.move(session, "expire", now)
        self._record(r.SessionExpired(session.id), expired, now)
        self._writer.cut()
        self._end(session.id, cancel=session.on_close == "cancel", reason=f"session {session.id} expired")

    def _wait_s(self) -> float:
        if self._untold:
            return TELL_AGAIN_S
        if self._next_us is None:
            return math.inf
        return max(0.05, min((self._next_us - self._clock.now_us()) / 1e6, self._recheck_s))

    def recheck(self) -> None:
        """Look at the clock now: it may have jumped."""
        self._sooner.set()

    def _end(self, session_id: str, *, cancel: bool, reason: str) -> None:
        self._tell_coordinator(session_id, m.SessionEnded(id=session_id, cancel_runs=cancel, reason=reason))

    def _tell_coordinator(self, session_id: str, message: m.SessionEnded) -> None:
        try:
            self._tell(message)
        except MailboxFull:
            self._untold[session_id] = message  # the coordinator is overloaded: it is told again in a while
            self._sooner.set()
        else:
            self._untold.pop(session_id, None)

    # --- the sessions

    def _find(self, session_id: str) -> Session | None:
        waiting = self._undurable.get(session_id)
        if waiting is not None:
            return waiting[0]
        found = self._reader.session(session_id)
        return None if found is None else of_view(found)

    def _need(self, session_id: str, now: int) -> Session:
        session = self._find(check_id(session_id, "session id"))
        if session is None:
            raise SessionNotFound(f"there is no session {session_id!r}")
        if session.status == "open" and session.expires_at is not None and session.expires_at <= now:
            self._expire(session, now)
            session = self._undurable[session_id][0]
        return session

    def _record(self, record: r.Fact, session: Session, now: int) -> None:
        weight = len(msgspec.json.encode(record.attributes)) if isinstance(record, r.SessionOpened) else 0
        seq = self._writer.append(record, at=now, weight=weight)
        self._undurable[session.id] = (session, seq)
        self._writer.when_durable(seq, self._forget, session.id, seq)
        if session.status == "open" and session.expires_at is not None:
            self._sooner.set()

    def _forget(self, session_id: str, seq: int) -> None:
        waiting = self._undurable.get(session_id)
        if waiting is not None and waiting[1] <= seq:
            del self._undurable[session_id]


def view(session: Session) -> SessionView:
    """A session as the contract shows it."""
    return SessionView(
        session.id,
        session.status,
        session.tenant,
        session.subject,
        session.classification,
        session.ttl,
        rfc3339(session.expires_at),
        session.on_close,
        dict(session.attributes),
        session.trace_id,
        rfc3339(session.created_at),
        rfc3339(session.closed_at),
    )


def of_view(found: SessionView) -> Session:
    """A session back from its view."""
    return Session(
        found.id,
        found.status,
        found.tenant,
        found.subject,
        found.classification,
        found.ttl,
        _us(found.expires_at),
        found.on_close,
        found.attributes,
        found.trace_id,
        _us(found.created_at) or 0,
        _us(found.closed_at),
    )


def _us(instant: str | None) -> int | None:
    if instant is None:
        return None
    moment = datetime.fromisoformat(instant)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond
