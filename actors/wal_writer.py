"""The WAL writer: the actor that owns the writer process, and the one place where records get their seq.

Others append records by a plain call and say what is to happen once they are durable; this actor sends all that waits
as one batch, awaits the receipt, and only then lets those things happen, in the order of their seqs. One batch is in
flight at a time: while it is, the next one grows. So there is group commit without a delay.

If the process dies, stops answering or reports a failed commit, the outcome of the batch is unknown: this actor ends
with `WriterGone` or `CommitFailed`, nothing is acknowledged any more, and whoever runs us must end. That is why it is
never restarted.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from actors.clock import Clock
from actors.errors import Draining
from actors.feed import Feed
from actors.journal_link import Link
from actors.statistics import COUNTS, Histogram, HistogramValues
from wal.errors import WriterGone
from wal.records import Entry, Fact

PRODUCTION_RECORDS_MAX = 20_000
PRODUCTION_BYTES_MAX = 128 << 20
"""Beyond so many records waiting for the disk, or so many bytes of payload in them, nothing new is taken in
(`WalWriter.crowded`)."""


class WriterStatistics(msgspec.Struct, frozen=True):
    """What was committed and how long it took (seconds, from sending a batch to its receipt)."""

    seq: int
    commits: int
    waiting_records: int
    commit_seconds: HistogramValues
    commit_records: HistogramValues
    wal_bytes: int
    db_bytes: int
    busy_since: float | None


class WalWriter:
    """Numbers records, batches them, and says when they are durable. See the module for its end."""

    def __init__(
        self,
        link: Link,
        clock: Clock,
        feed: Feed,
        *,
        batch_records_max: int,
        batch_bytes_max: int,
        farewell: Fact | None = None,
    ) -> None:
        self._link, self._clock, self._feed, self._farewell = link, clock, feed, farewell
        self._records_max, self._bytes_max = batch_records_max, batch_bytes_max
        self.seq = self.durable_seq = link.head.seq
        self._run_key = link.head.run_key
        self._pending: list[Entry] = []
        self._weights: list[int] = []  # beside `_pending`: payload bytes
        self._bytes = 0
        self._group_bytes = 0  # since the last cut
        self._whole = False  # what is appended until the next cut is never split
        self._cuts: list[int] = []  # lengths of `_pending` at which it may be cut
        self._then: deque[tuple[int, Callable[..., None], tuple[Any, ...]]] = deque()
        self._wake: trio.Event | None = None
        self._idle = False  # nothing is under way, and `run` waits to be woken
        self._begun: list[Entry] | None = None  # a batch that is on its way already
        self._stopping = False
        self._commits = 0
        self._seconds, self._sizes = Histogram(), Histogram(COUNTS)
        self.busy_since: float | None = None  # trio's clock: a batch is under way since then

    # --- for the other actors: plain calls

    def next_run_key(self) -> int:
        """A run key that was never used."""
        self._run_key += 1
        return self._run_key

    def append(self, record: Fact, run_key: int = 0, prev_seq: int = 0, at: int | None = None, weight: int = 0) -> int:
        """Put a record into the next batch; gives its seq. What is appended up to the next `cut` stays in one commit,
        unless it outgrows a whole batch and nobody has asked to `keep_whole`. `weight` is the size of its payload in
        bytes."""
        if self._stopping:
            raise Draining("the journal is closed")
        seq = self.seq = self.seq + 1
        self._pending.append(Entry(seq, run_key, prev_seq, self._clock.now_us() if at is None else at, record))  # type: ignore[arg-type]
        self._weights.append(weight)
        if weight:
            self._bytes += weight
            self._group_bytes += weight
            if self._group_bytes > self._bytes_max and not self._whole:
                self.cut()  # else one run that records much at once would make a frame that nobody can take
        if self._wake is not None:
            self._wake.set()
            self._wake = None
        return seq

    def cut(self) -> None:
        """A batch may end here."""
        self._cuts.append(len(self._pending))
        self._group_bytes, self._whole = 0, False

    def keep_whole(self) -> None:
        """Let what is appended up to the next `cut` be one commit, whatever its size: a command and its first answer,
        which must not be found one without the other."""
        self._whole = True

    def kick(self) -> None:
        """Send what waits, if nothing is under way: the disk begins a turn of the loop earlier than by `run` alone."""
        if self._idle and self._pending and self._begun is None:
            self._begun = self._take()
            self._link.begin(self._begun)

    def when_durable(self, seq: int, then: Callable[..., None], *args: Any) -> None:
        """Call `then(*args)`, in the order of seqs, once `seq` is durable. It must not raise or block."""
        if not self._then and seq <= self.durable_seq:
            then(*args)
        else:
            self._then.append((seq, then, args))

    async def wait_durable(self, seq: int) -> None:
        """Wait until `seq` is on disk."""
        if seq > self.durable_seq:
            event = trio.Event()
            self.when_durable(seq, event.set)
            await event.wait()

    @property
    def crowded(self) -> bool:
        """Whether so much waits for the disk that nothing new should be taken in."""
        return len(self._pending) > PRODUCTION_RECORDS_MAX or self._bytes > PRODUCTION_BYTES_MAX

    # --- the actor

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit batches until cancelled; what is pending then is committed first. Raises WriterGone or CommitFailed,
        after which nothing is durable any more."""
        task_status.started()
        try:
            while True:
                while not self._pending and self._begun is None:
                    self._wake, self._idle = trio.Event(), True
                    await self._wake.wait()
                self._idle = False
                await self._commit_batch()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._flush()
            raise

    async def _flush(self) -> None:
        """The last thing: commit what is pending, and that this was a clean end."""
        if self._farewell is not None:
            self.append(self._farewell)
        while self._pending or self._begun is not None:
            await self._commit_batch()
        self._stopping = True

    async def _commit_batch(self) -> None:
        batch, self._begun = self._begun or self._take(), None
        self.busy_since = trio.current_time()
        started = time.perf_counter()
        # A batch that was sent is awaited: its outcome is wanted.
        limit_s = self._link.commit_timeout_s
        with trio.CancelScope(shield=True, deadline=trio.current_time() + limit_s) as scope:
            await self._link.commit(batch)
        if scope.cancelled_caught:
            self._link.give_up()
            raise WriterGone(f"the writer process gave no receipt within {limit_s} s")
        self._seconds.observe(time.perf_counter() - started)
        self._sizes.observe(len(batch))
        self._commits += 1
        self.busy_since = None
        self._release(batch[-1].seq)

    def _take(self) -> list[Entry]:
        pending, cuts = self._pending, self._cuts
        size = self._fitting()
        if size < len(pending):
            where = bisect_right(cuts, size) - 1
            size = next((cut for cut in (cuts[max(where, 0) :]) if cut), len(pending))
        self._pending, self._weights = pending[size:], self._weights[size:]
        self._bytes = sum(self._weights)
        self._cuts = [cut - size for cut in cuts if cut > size]
        return pending[:size] if self._pending else pending

    def _fitting(self) -> int:
        """How many of the pending records fit into one batch, were it cut anywhere."""
        size = min(len(self._pending), self._records_max)
        if self._bytes <= self._bytes_max:
            return size
        total = 0
        for index, weight in enumerate(self._weights[:size]):
            total += weight
            if total > self._bytes_max:
                return max(index, 1)
        return size

    def _release(self, seq: int) -> None:
        self.durable_seq = seq
        then = self._then
        while then and then[0][0] <= seq:
            _, call, args = then.popleft()
            call(*args)
        self._feed.publish(seq)

    def statistics(self) -> WriterStatistics:
        """The figures of this moment."""
        return WriterStatistics(
            seq=self.durable_seq,
            commits=self._commits,
            waiting_records=len(self._pending),
            commit_seconds=self._seconds.values(),
            commit_records=self._sizes.values(),
            wal_bytes=self._link.wal_bytes,
            db_bytes=self._link.db_bytes,
            busy_since=self.busy_since,
        )
