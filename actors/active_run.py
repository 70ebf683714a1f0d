"""A run that the saga coordinator holds in memory, and the table of them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.flow.driver import Flow
from actors.flow.run_info import RunInfo, info_of
from wal import records as r
from wal.rows import RunRow

if TYPE_CHECKING:
    from actors.step_runner import Attempt


class ActiveRun:
    """One run in memory. Without a `flow` it is asleep: its code is not loaded, and what arrives is `deferred`."""

    __slots__ = (
        "_info",
        "attempts",
        "begun",
        "blocked",
        "cancel_reason",
        "deferred",
        "ended",
        "final",
        "first",
        "flow",
        "id",
        "idle_since",
        "last_seq",
        "load_upto",
        "loading",
        "paused",
        "priority",
        "queue",
        "reload_when_settled",
        "run_key",
        "signal_ids",
        "start_at",
        "started_at",
        "waiting",
        "when_loaded",
        "workflow",
    )

    def __init__(self, run_key: int, id: str, workflow: str, last_seq: int) -> None:
        self.run_key, self.id, self.workflow, self.last_seq = run_key, id, workflow, last_seq
        self.flow: Flow | None = None
        self._info: RunInfo | None = None
        self.first: r.RunStarted | r.RunContinued | None = None  # what its history begins with, until `info` is made
        self.started_at = 0
        self.start_at: int | None = None  # it begins then (or in its turn in its queue), and has not begun
        self.queue: str | None = None
        self.priority = 0
        self.begun = False  # whether there may be more of it in the journal than its start
        self.loading = self.paused = self.blocked = self.ended = self.reload_when_settled = False
        self.load_upto = 0
        self.deferred: deque[tuple[r.Fact, int, int]] = deque()  # (record, seq, at): recorded and not applied yet
        self.attempts: dict[str, Attempt | None] = {}  # in flight by call key; None until the start is durable
        self.signal_ids: dict[str, int] = {}  # accepted here, to recognise a repeat before it is durable
        self.when_loaded: list[Callable[[], None]] = []
        self.waiting: r.RunWaiting | None = None
        self.cancel_reason: str | None = None
        self.final: r.Fact | None = None  # what ended it
        self.idle_since = 0.0

    @classmethod
    def from_row(cls, row: RunRow) -> ActiveRun:
        """A run as its row says it, asleep."""
        run = cls(row.run_key, row.id, row.workflow, row.last_seq)
        run.begun, run.paused = True, row.paused
        run.blocked = row.blocked
        run.queue, run.priority = row.queue, row.priority
        if row.phase == "queued":
            run.start_at = row.created_at
        return run

    @property
    def info(self) -> RunInfo | None:
        """What the run knows of itself, if its first record was seen. Made when asked for: many begin much later."""
        if self.first is not None and self._info is None:
            self._info, self.first = info_of(self.first), None  # the record is large, and has told all
        return self._info

    def begins_with(self, first: r.RunStarted | r.RunContinued) -> None:
        """From now on this is what its history begins with."""
        self.first, self._info = first, None

    @property
    def holds_back(self) -> bool:
        """Whether records wait instead of being applied."""
        return self.flow is None or self.paused or self.blocked


class ActiveRuns:
    """The runs in memory by key and by id, and those of them that idle, longest idle first."""

    def __init__(self) -> None:
        self.by_key: dict[int, ActiveRun] = {}
        self.by_id: dict[str, ActiveRun] = {}
        self.idle: OrderedDict[int, ActiveRun] = OrderedDict()

    def add(self, run: ActiveRun) -> ActiveRun:
        self.by_key[run.run_key] = run
        self.by_id[run.id] = run
        return run

    def remove(self, run: ActiveRun) -> None:
        """Forget this object, and it alone: the run may have been let go of, and brought in anew, meanwhile."""
        if self.by_key.get(run.run_key) is run:
            del self.by_key[run.run_key]
            self.idle.pop(run.run_key, None)
        if self.by_id.get(run.id) is run:
            del self.by_id[run.id]

    def __len__(self) -> int:
        return len(self.by_key)
