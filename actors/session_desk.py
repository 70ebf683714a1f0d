"""What sessions mean to runs, inside the coordinator: whose a run is, and what the end of a session brings about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actors import messages as m
from actors.checks import check_id
from actors.errors import RunEnded, RunNotFound, SessionEnded, SessionNotFound
from actors.mailbox import Letter
from actors.run_advancer import RunAdvancer
from wal.queries import Reader

CANCEL_SLICE = 200
"""So many of a session's runs are cancelled in one turn; a session may have a hundred thousand."""


class SessionDesk:
    """Handles what `handlers` lists. `cancel_run` cancels one run; `report`, set by the coordinator, has a fact handled
    in its turn."""

    report: Callable[[m.Message], None]

    def __init__(
        self,
        engine: RunAdvancer,
        reader: Reader,
        cancel_run: Callable[[m.CancelRun], int],
    ) -> None:
        self._engine, self._writer, self._reader = engine, engine.writer, reader
        self._cancel_run = cancel_run
        self._ended: dict[str, None] = {}
        self._cancelling: set[str] = set()  # sessions whose runs are being cancelled
        self.handlers: dict[type[m.Message], Callable[[Any, Letter], None]] = {
            m.SessionEnded: self._session_ended,
            m.CancelRuns: self._cancel_some,
        }

    def owner_of(self, session_id: str) -> tuple[str | None, str]:
        """An open session's tenant and classification. Raises SessionNotFound, SessionEnded."""
        session = self._reader.session(check_id(session_id, "session id"))
        if session is None:
            raise SessionNotFound(f"there is no session {session_id!r}")
        if session.status != "open" or session_id in self._ended:
            raise SessionEnded(f"session {session_id!r} is {session.status if session.status != 'open' else 'closing'}")
        return session.tenant, session.classification

    def _session_ended(self, command: m.SessionEnded, letter: Letter) -> None:
        self._ended[command.id] = None
        if len(self._ended) > 1_000:  # older ones are durable, and so are seen in the journal
            self._ended.pop(next(iter(self._ended)))
        letter.reply(None)
        if command.cancel_runs and command.id not in self._cancelling:
            self._cancelling.add(command.id)
            self._cancel_next(m.CancelRuns(session_id=command.id, reason=command.reason))

    def _cancel_next(self, command: m.CancelRuns) -> None:
        """Once all that is recorded now is in the journal, which is where its runs are looked for."""
        self._writer.when_durable(self._writer.seq, self.report, command)

    def _cancel_some(self, command: m.CancelRuns, letter: Letter) -> None:
        """Cancel the next runs of a session, each by itself. They come by their keys, and a child's is greater than its
        parent's: so one that was started until its parent's turn came is found too."""
        keys = self._reader.open_run_keys(command.session_id, after=command.after, limit=CANCEL_SLICE)
        for _, run_id in keys:
            try:
                self._cancel_run(m.CancelRun(run_id=run_id, reason=command.reason, origin=m.BY_US))
            except (RunEnded, RunNotFound):
                continue  # it ended by itself first, and may have been forgotten
            self._engine.close_group()
        if keys:
            self._cancel_next(msgspec.structs.replace(command, after=keys[-1][0]))
        else:
            self._cancelling.discard(command.session_id)
