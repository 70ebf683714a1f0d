"""Children between their parents and themselves: started, ended and cancelled in the commit that says so.

A record of one run that concerns another is followed by the other's record in the same commit, in an order that a cut
anywhere between the two can be mended from: a parent's `child_started` before its child's `run_started`, and its
`child_ended` before its child's own end, so that whoever has something to do yet is found running. What a parent is
told moves its code later, by `settle`, before the commit may end (`RunAdvancer.close_group`), and so are children
cancelled: neither a parent that starts a thousand of them one after the other nor a family of many generations costs
recursion. `mend` finds what a cut has left, when a parent is loaded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from actors import messages as m
from actors.active_run import ActiveRun
from actors.errors import RunEnded, RunNotFound
from actors.flow.run_info import RunInfo
from wal import records as r
from wal.errors import RuntimedError
from wal.records import ErrorData
from wal.views import RunDetail

if TYPE_CHECKING:
    from actors.flow.driver import Flow


class Children:
    """`start` makes a child's run, `open_run` finds a run that has not ended, `cancel` cancels one, `find` reads one;
    `tell` records an answer of an open run that is applied by `go_on`."""

    def __init__(
        self,
        start: Callable[[RunInfo, r.ChildStarted], None],
        open_run: Callable[[str], ActiveRun],
        cancel: Callable[[m.CancelRun], int],
        find: Callable[[str], RunDetail | None],
        tell: Callable[[ActiveRun, r.Fact, int], None],
        go_on: Callable[[ActiveRun], None],
    ) -> None:
        self._start, self._open_run, self._cancel, self._find = start, open_run, cancel, find
        self._tell_run, self._go_on = tell, go_on
        self.left: deque[Callable[[], None]] = deque()  # what has to be done yet before this commit may end
        self._owed: Counter[int] = Counter()  # by run key: cancellations of children that it has recorded

    def settle(self) -> None:
        """Let those go on that were told something, cancel those that nobody wants, and so on until nothing is left."""
        while self.left:
            self.left.popleft()()

    def owes(self, run: ActiveRun) -> bool:
        """Whether a child of this run has yet to be cancelled. Until then the run says neither that it waits nor that
        it is over, so that a crash finds it running, and `mend` does the rest."""
        return run.run_key in self._owed

    def recorded(self, run: ActiveRun, info: RunInfo, fact: r.Fact) -> None:
        """A run has recorded a fact; what follows from it for a child is recorded now."""
        if isinstance(fact, r.ChildStarted):
            try:
                self._start(info, fact)
            except RuntimedError as error:  # the id is taken, the workflow is gone: the parent is to know
                said = ErrorData(type(error).__name__, str(error))
                self._tell(run, r.ChildEnded(fact.key, fact.child_id, "refused", error=said))
        elif isinstance(fact, r.ChildCancelled):
            self._cancel_later(run, info, fact.child_id)

    def ending(self, info: RunInfo, fact: r.Fact) -> None:
        """A run is about to record its end; its parent, if it has one, is told how."""
        if info.parent_id is None or info.parent_call is None:
            return
        try:
            parent = self._open_run(info.parent_id)
        except (RunEnded, RunNotFound):
            return  # it has not waited for this
        if isinstance(fact, r.RunCompleted):
            told = r.ChildEnded(info.parent_call, info.id, "completed", fact.result)
        elif isinstance(fact, r.RunFailed):
            error = ErrorData(fact.error.type, fact.error.message, fact.error.step)
            told = r.ChildEnded(info.parent_call, info.id, "failed", error=error)
        else:
            told = r.ChildEnded(info.parent_call, info.id, "cancelled")
        self._tell(parent, told)

    def mend(self, run: ActiveRun, flow: Flow) -> None:
        """A parent was loaded: do what a crash between two commits may have left of what its records say."""
        seen: set[str] = set()
        told = {(each.key, each.child_id) for each, _, _ in run.deferred if type(each) is r.ChildEnded}
        for key, (started, cancelled) in list(flow.children.items()):
            child, again = self._find(started.child_id), started.child_id in seen
            seen.add(started.child_id)
            if child is None or again or child.parent_id != run.id:
                if not cancelled:  # it is made now, or refused now
                    self.recorded(run, flow.info, started)
            elif child.ended_at is not None:
                if (key, started.child_id) not in told:  # else it was what had this run loaded
                    self._tell(run, _end_of(child, key))
            elif cancelled:
                self._cancel_later(run, flow.info, started.child_id)
        for child_id, cancelled in flow.left_behind.items():
            if cancelled:
                self._cancel_later(run, flow.info, child_id)

    def _tell(self, parent: ActiveRun, told: r.ChildEnded) -> None:
        self._tell_run(parent, told, len(told.result))
        self.left.append(partial(self._go_on, parent))

    def _cancel_later(self, run: ActiveRun, info: RunInfo, child_id: str) -> None:
        self._owed[run.run_key] += 1
        self.left.append(partial(self._cancelled, run, info, child_id))

    def _cancelled(self, run: ActiveRun, info: RunInfo, child_id: str) -> None:
        reason = f"its parent {info.id} does not want it any more"
        try:
            self._cancel(m.CancelRun(run_id=child_id, reason=reason, origin=m.BY_US))
        except (RunEnded, RunNotFound):
            pass  # it ended by itself, or was refused
        self._owed[run.run_key] -= 1
        if not self._owed[run.run_key]:
            del self._owed[run.run_key]
            self.left.append(partial(self._go_on, run))


def _end_of(child: RunDetail, key: str) -> r.ChildEnded:
    if child.status == "completed":
        return r.ChildEnded(key, child.id, "completed", child.result)
    error = child.error
    data = ErrorData(error.type, error.message, error.step) if error is not None and child.status == "failed" else None
    return r.ChildEnded(key, child.id, child.status, error=data)
