"""What the dashboard knows: a fold of a snapshot and the events after it, with what follows from them for people.

Pure: no I/O, no clock of its own (`now` is microseconds since the epoch and comes from the caller). The link feeds it,
screens read it. `apply` says what changed, so that only that is drawn, and what has to be asked for again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tui import connector_fold, fold
from tui.rates import Rates
from tui.states import OPEN_STATUSES, STATES, cost_of_kill, word_of
from wal.views import ActorView, ApprovalView, ConnectorView, EventView, RunView, SessionView

EVENTS_HELD_MAX = 5_000
RUNS_HELD_MAX = 2_000
NOTES_HELD_MAX = 4_000
APPROVALS_HELD_MAX = 200
"""So many open approvals are asked for, the newest; where there may be more, a count of them has a plus."""

RUNS, APPROVALS, ACTORS, HEALTH, SESSIONS, EVENTS, COUNTS, LINK, CONNECTORS = (
    "runs", "approvals", "actors", "health", "sessions", "events", "counts", "link", "connectors",
)  # fmt: skip
TOPICS = frozenset({RUNS, APPROVALS, ACTORS, HEALTH, SESSIONS, EVENTS, COUNTS, LINK, CONNECTORS})


class Change(msgspec.Struct, frozen=True):
    """What is different: topics, the runs that changed, and what must be asked for anew (runs by id, topics). Of the
    runs to ask for, `must_ask` are those that are asked for also where they are neither held nor on screen."""

    topics: frozenset[str] = frozenset()
    runs: frozenset[str] = frozenset()
    ask_runs: frozenset[str] = frozenset()
    must_ask: frozenset[str] = frozenset()
    ask: frozenset[str] = frozenset()
    events: int = 0

    def __or__(self, other: Change) -> Change:
        return Change(
            self.topics | other.topics,
            self.runs | other.runs,
            self.ask_runs | other.ask_runs,
            self.must_ask | other.must_ask,
            self.ask | other.ask,
            self.events + other.events,
        )

    def __bool__(self) -> bool:
        return bool(self.topics)


EVERYTHING = Change(topics=TOPICS)
NOTHING = Change()


class RunNote(NamedTuple):
    """What the events told of a run beyond its view: the step it is at, the attempt, and calls in flight; `once` are
    those of them that run at most once."""

    step: str = ""
    call: str = ""
    attempt: int = 1
    waits: str = ""
    in_flight: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()


class Need(NamedTuple):
    """One thing that needs a person: APPR, DOUBT, STUCK, or an actor or a connector that is DOWN; `kind` and `id` say
    what to open."""

    word: str
    kind: str
    id: str
    what: str
    run_id: str
    since: str | None
    until: str | None = None


class Kill9(NamedTuple):
    """What `kill -9` would cost now, in runs. LOST is 0 by construction: what was acknowledged is on disk."""

    safe: int
    redo: int
    doubt: int
    redo_ids: tuple[str, ...]
    doubt_ids: tuple[str, ...]
    lost: int = 0


class Model:
    """The state of the daemon as far as the dashboard has been told."""

    def __init__(self) -> None:
        self.seq = 0
        self.journal_number = 0  # goes up when another journal is read: what is kept by the seqs of the old one is void
        self.runs: OrderedDict[str, RunView] = OrderedDict()
        self.complete = False  # whether `runs` holds every open run
        self.counts: dict[str, int] = {}
        self.total = 0
        self.approvals: dict[str, ApprovalView] = {}
        self.decided: list[ApprovalView] = []
        self.actors: list[ActorView] = []
        self.sessions: list[SessionView] = []
        self.connectors: list[ConnectorView] = []
        self.health_status = ""
        self.reasons: list[str] = []
        self.checks: Mapping[str, list[dict[str, Any]]] = {}
        self.figures: dict[str, float] = {}
        self.events: deque[EventView] = deque(maxlen=EVENTS_HELD_MAX)
        self.rates = Rates()
        self.notes: OrderedDict[str, RunNote] = OrderedDict()
        self.daemon_version = ""
        self.started_at: str | None = None

    # --- the snapshot -------------------------------------------------------------------------------------------------

    def begin(self, seq: int) -> None:
        """A snapshot as of this seq comes. What the events told of runs is void if others came meanwhile; and where the
        seq is before the last, it is another journal, such as a backup that was put back."""
        if seq < self.seq:
            self.journal_number += 1
            self.events.clear()
            self.rates = Rates()
        if seq != self.seq:
            self.notes.clear()
        self.seq = seq

    def put_runs(self, runs: Iterable[RunView], *, complete: bool) -> None:
        """The open runs, newest first; `complete` if these are all."""
        self.runs = OrderedDict((run.id, run) for run in runs)
        self.complete = complete

    def put_run(self, run: RunView) -> Change:
        """A run that was asked for. An older view than the one held is left out."""
        held = self.runs.get(run.id)
        if held is not None and held.seq > run.seq:
            return NOTHING
        return self._keep(held, run)

    def put_counts(self, counts: Mapping[str, int]) -> None:
        """How many runs have each status."""
        self.counts = dict(counts)
        self.total = sum(counts.values())

    def put_approvals(self, views: Sequence[ApprovalView], decided: Sequence[ApprovalView] = ()) -> None:
        """The open approvals, and the last that were decided."""
        self.approvals = {view.id: view for view in views}
        self.decided = list(decided)

    def put_health(self, status: str, reasons: Sequence[str], checks: Mapping[str, list[dict[str, Any]]]) -> None:
        """Health per component."""
        self.health_status, self.reasons, self.checks = status, list(reasons), checks

    # --- events -------------------------------------------------------------------------------------------------------

    def apply(self, event: EventView) -> Change:
        """One committed record. Events that the snapshot holds already are only listed and counted."""
        topics = {EVENTS}
        self.events.append(fold.slim(event))
        self.rates.note(event)
        if event.kind == "daemon_started":
            data = fold.data_of(event.data)
            self.daemon_version, self.started_at = str(data.get("version", "")), event.at
        if event.seq <= self.seq:
            return Change(frozenset(topics), events=1)
        self.seq = event.seq
        ask = frozenset(_ASKS.get(event.kind, ()))
        if event.run_id is None:
            return self._connector_event(event) | Change(frozenset(topics), ask=ask, events=1)
        if event.run_id in self.runs and event.kind in _ENDS and self.approvals_of(event.run_id):
            ask |= {APPROVALS}
        self._note(event)
        return self._run_event(event) | Change(frozenset(topics), ask=ask, events=1)

    def _connector_event(self, event: EventView) -> Change:
        """What a record tells of a connector is shown at once; the rest is asked for."""
        if not connector_fold.is_about(event):
            return NOTHING
        self.connectors = connector_fold.advance(self.connectors, event)
        return Change(frozenset({CONNECTORS}))

    def _run_event(self, event: EventView) -> Change:
        assert event.run_id is not None
        try:
            return self._fold_run(event, event.run_id)
        except msgspec.DecodeError:  # a record of a newer daemon: the view that it makes of it can be asked for
            return _ask_for(event.run_id)

    def _fold_run(self, event: EventView, run_id: str) -> Change:
        held = self.runs.get(run_id)
        if event.kind == "run_started" and (held is None or event.seq > held.seq):
            run = fold.begin(event)  # a run that continues as new begins again under its id
            if held is None:
                self._count(None, run.status)
            return self._keep(held, run) | Change(frozenset({COUNTS}))
        after = None if held is None else fold.advance(held, event)
        if after is None:
            return _ask_for(run_id, surely=event.kind == "run_blocked")
        return self._keep(held, after)

    def _keep(self, held: RunView | None, run: RunView) -> Change:
        topics = {RUNS}
        if held is not None and held.status != run.status:
            self._count(held.status, run.status)
            topics.add(COUNTS)
        self.runs[run.id] = run
        if held is None:
            self.runs.move_to_end(run.id, last=False)
        self._bound()
        return Change(frozenset(topics), runs=frozenset({run.id}))

    def _count(self, before: str | None, after: str) -> None:
        if before is None:
            self.total += 1
        elif self.counts.get(before):
            self.counts[before] -= 1
        self.counts[after] = self.counts.get(after, 0) + 1

    def _bound(self) -> None:
        """Forget the oldest ended runs first, then the oldest: then not every open run is held any more. Blocked ones
        are kept, they need a person, up to as many again."""
        if len(self.runs) <= RUNS_HELD_MAX:
            return
        for run_id in [run.id for run in reversed(self.runs.values()) if run.status not in OPEN_STATUSES]:
            del self.runs[run_id]
            if len(self.runs) <= RUNS_HELD_MAX * 3 // 4:
                return
        while len(self.runs) > RUNS_HELD_MAX:
            oldest = next((run.id for run in reversed(self.runs.values()) if run.status != "blocked"), None)
            if oldest is None and len(self.runs) <= 2 * RUNS_HELD_MAX:
                return
            del self.runs[oldest or next(reversed(self.runs))]
            self.complete = False

    def _note(self, event: EventView) -> None:
        assert event.run_id is not None
        note = self.notes.pop(event.run_id, RunNote())
        self.notes[event.run_id] = note_after(note, event)
        if len(self.notes) > NOTES_HELD_MAX:
            self.notes.popitem(last=False)

    def note(self, run_id: str) -> RunNote:
        """What the events told of a run; the empty note if none did."""
        return self.notes.get(run_id, _NO_NOTE)

    # --- what follows -------------------------------------------------------------------------------------------------

    def words(self) -> dict[str, int]:
        """How many runs are in each state, by word. Exact where every open run is held; else what shares a status is
        told apart only among those held, the rest counted under the status's plainest word."""
        held: Counter[str] = Counter(word_of(run) for run in self.runs.values() if run.status in OPEN_STATUSES)
        per_status: Counter[str] = Counter(run.status for run in self.runs.values() if run.status in OPEN_STATUSES)
        words = {word: held.get(word, 0) for word in STATES}
        for status, word in _PLAINEST.items():
            words[word] += max(0, self.counts.get(status, 0) - per_status.get(status, 0))
        words["APPR"] = max(words["APPR"], len({view.run_id for view in self.approvals.values()}))
        return words

    def open_total(self) -> int:
        """How many runs have not ended."""
        return sum(self.counts.get(status, 0) for status in OPEN_STATUSES)

    def approvals_count(self) -> str:
        """How many approvals are open, as far as they are held."""
        return f"{len(self.approvals)}{'+' if len(self.approvals) >= APPROVALS_HELD_MAX else ''}"

    def approvals_of(self, run_id: str) -> list[ApprovalView]:
        """The open approvals of a run."""
        return [view for view in self.approvals.values() if view.run_id == run_id]

    def needs(self) -> list[Need]:
        """What needs a person, the most pressing first: approvals by their deadline, then doubts, then stuck runs, then
        actors that are down, then connectors that are quarantined."""
        asked = sorted(self.approvals.values(), key=lambda view: (view.expires_at or "9", view.requested_at or ""))
        needs = [
            Need(
                "APPR", "approval", view.id, f"#{view.id} {view.title}", view.run_id, view.requested_at, view.expires_at
            )
            for view in asked
        ]
        runs = [run for run in self.runs.values() if run.status == "blocked"]
        for wanted in ("DOUBT", "STUCK"):
            for run in runs:
                if word_of(run) == wanted:
                    error = run.error
                    what = run.workflow if error is None else f"{run.workflow} {error.type}"
                    if error is not None and wanted == "DOUBT":
                        what = error.step or run.workflow
                    needs.append(Need(wanted, "run", run.id, what, run.id, run.updated_at))
        for actor in self.actors:
            if actor.status == "failed":
                needs.append(Need("DOWN", "actor", actor.path, actor.path, "", None))
        for view in self.connectors:
            if view.status == "quarantined":
                needs.append(Need("DOWN", "connector", view.name, f"{view.name} {view.last_error or ''}", "", None))
        return needs

    def kill9(self) -> Kill9:
        """What `kill -9` would cost now. Runs that are not held are counted by their status."""
        costs: dict[str, list[str]] = {"SAFE": [], "REDO": [], "DOUBT": []}
        per_status: Counter[str] = Counter()
        for run in self.runs.values():
            note = self.note(run.id)
            cost = cost_of_kill(run, bool(note.in_flight), bool(note.once))
            if cost:
                costs[cost].append(run.id)
                per_status[run.status] += 1
        beyond = {status: max(0, self.counts.get(status, 0) - per_status[status]) for status in OPEN_STATUSES}
        redo = beyond["running"] + beyond["compensating"]
        return Kill9(
            safe=len(costs["SAFE"]) + sum(beyond.values()) - redo,
            redo=len(costs["REDO"]) + redo,
            doubt=len(costs["DOUBT"]),
            redo_ids=tuple(costs["REDO"][:20]),
            doubt_ids=tuple(costs["DOUBT"][:20]),
        )

    def actor_words(self) -> dict[str, int]:
        """How many actors are in each status."""
        return dict(Counter(actor.status for actor in self.actors))


def _ask_for(run_id: str, *, surely: bool = False) -> Change:
    """The run has changed, and the events do not say into what; `surely` where it needs a person."""
    one = frozenset({run_id})
    return Change(frozenset({RUNS}), runs=one, ask_runs=one, must_ask=one if surely else frozenset())


_NO_NOTE = RunNote()
_ENDS = frozenset({"run_completed", "run_failed", "run_cancelled"})
_ASKS: Mapping[str, tuple[str, ...]] = {
    "approval_requested": (APPROVALS,),
    "approval_voted": (APPROVALS,),
    "approval_decided": (APPROVALS,),
    "approval_withdrawn": (APPROVALS,),
    "session_opened": (SESSIONS,),
    "session_touched": (SESSIONS,),
    "session_expired": (SESSIONS,),
    "session_closed": (SESSIONS,),
    "daemon_started": (HEALTH, ACTORS),
    "daemon_stopped": (HEALTH,),
}
"""Kind of event -> topics to ask for anew: what is no run is small, rare and asked for whole."""
_PLAINEST = {
    "queued": "WAIT",
    "running": "RUN",
    "waiting": "WAIT",
    "paused": "PAUS",
    "compensating": "COMP",
    "blocked": "STUCK",
    "completed": "DONE",
    "failed": "FAIL",
    "cancelled": "CANC",
}
_BEGINS = frozenset({"step_scheduled", "compensation_scheduled"})
_SETTLES = frozenset(
    {"step_completed", "step_failed", "step_unknown", "step_resolved", "compensation_completed", "compensation_failed"}
)


def note_after(note: RunNote, event: EventView) -> RunNote:
    """What is known of a run beyond its view, after one more event."""
    call, name = event.call or "", event.name or ""
    if event.kind == "run_started" or event.kind in _ENDS:
        return RunNote()
    if event.kind in _BEGINS:
        once = note.once | {call} if fold.data_of(event.data).get("at_most_once") else note.once
        return RunNote(name, call, 1, "", note.in_flight | {call}, once)
    if event.kind == "step_interrupted":
        return RunNote(name, call, (event.attempt or 1) + 1, "", note.in_flight | {call}, note.once)
    if event.kind in _SETTLES:
        attempt = (event.attempt or 1) + (1 if event.kind.endswith("_failed") else 0)
        step = name or note.step
        return RunNote(step, call, attempt, "", note.in_flight - {call}, note.once - {call})
    if event.kind == "timer_fired" and call and call == note.call:
        return note._replace(in_flight=note.in_flight | {call}, waits="")
    if event.kind == "run_waiting":
        return _waiting_note(note, event)
    return note


def _waiting_note(note: RunNote, event: EventView) -> RunNote:
    calls = fold.data_of(event.data).get("calls") or []
    named = [(str(one.get("key", "")), str(one.get("name") or one.get("kind") or "")) for one in calls]
    if not named:
        return note._replace(in_flight=frozenset(), once=frozenset())
    key, name = named[0]
    return RunNote(name, key, note.attempt if key == note.call else 1, ", ".join(text for _, text in named[:3]))
