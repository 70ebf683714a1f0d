"""What a fault test finds afterwards: the journal held against the witness and against what was acknowledged."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.load import Ack
from tests.system.witness import value_of
from wal import records as r
from wal.codec import decode_entry
from wal.connections import open_reader
from wal.queries import Reader
from wal.records import Entry
from wal.verify import verify

ENDED_WITH = {"run_completed": "completed", "run_failed": "failed", "run_cancelled": "cancelled"}
MAY_REPEAT = ("session_touched", "run_cancel_requested", "run_paused", "run_resumed")
UNDOES = {"charge": "refund", "reserve": "release"}


class Sight(NamedTuple):
    """One line of the witness: an attempt `began`, or its effect is `done`."""

    what: str
    at_us: int
    key: str
    run: str
    name: str
    kind: str
    attempt: int
    tag: str


class Findings:
    """The journal and the witness's file of one test, read whole. `problems` are sentences; none is what we want."""

    def __init__(self, journal: Path, witness: Path | None = None) -> None:
        self.problems: list[str] = []
        self.journal = journal
        self.seqs, self.runs = _read(journal)
        with Reader.open(journal) as reader:
            self.open_runs = len(reader.open_runs())
        self.sights = list(_sights(witness)) if witness is not None else []

    def check_all(self, acks: Sequence[Ack]) -> None:
        """Everything."""
        self.check_file()
        self.check_acknowledged(acks)
        self.check_attempts()
        self.check_endings()

    def _say(self, sentence: str) -> None:
        self.problems.append(sentence)

    def check_file(self) -> None:
        """The file is whole, and what is derived from the records is what they say."""
        for problem in verify(self.journal).problems:
            self._say(f"verify: {problem}")

    # --- nothing that was acknowledged is lost

    def check_acknowledged(self, acks: Sequence[Ack]) -> None:
        """Each acknowledged thing is a record, once."""
        names = {entry.seq: run_id for run_id, entries in self.runs.items() for entry in entries}
        identities = {seq: _identity(entry.record, names.get(seq, "")) for seq, entry in self.seqs.items()}
        there = Counter(identities.values())
        for ack in acks:
            wanted = _wanted(ack)
            if there[wanted] != 1 and ack.kind not in MAY_REPEAT:
                self._say(f"acknowledged, and {there[wanted]} times in the journal: {ack}")
            elif not there[wanted]:
                self._say(f"acknowledged and lost: {ack}")
            if "seq" in ack.data and identities.get(ack.data["seq"]) != wanted:
                self._say(f"another record has the seq that was acknowledged: {ack}")

    # --- steps

    def check_attempts(self) -> None:
        """No attempt twice, none after the completion, one key for one call, and no completion without its effect."""
        began: dict[str, dict[int, int]] = defaultdict(dict)
        done: set[tuple[str, int]] = set()
        keys: dict[tuple[str, str], set[str]] = defaultdict(set)
        for sight in self.sights:
            keys[sight.run, sight.tag].add(sight.key)
            if sight.what == "done":
                done.add((sight.key, sight.attempt))
            elif sight.attempt in began[sight.key]:
                self._say(f"attempt {sight.attempt} of {sight.key} began twice")
            else:
                began[sight.key][sight.attempt] = sight.at_us
        for (run, tag), found in keys.items():
            if len(found) != 1:
                self._say(f"the call {tag} of {run} had {len(found)} idempotency keys: {sorted(found)}")
        for run_id, entries in self.runs.items():
            for entry in entries:
                if isinstance(entry.record, r.StepCompleted):
                    self._check_completion(run_id, entry, entry.record, began, done)

    def _check_completion(
        self,
        run_id: str,
        entry: Entry,
        record: r.StepCompleted,
        began: dict[str, dict[int, int]],
        done: set[tuple[str, int]],
    ) -> None:
        key = f"{run_id}/0/{record.key}/{record.name}"
        if (key, record.attempt) not in done:
            self._say(f"{key} completed in attempt {record.attempt}, of which the witness saw no effect")
        for attempt, at_us in began[key].items():
            if attempt > record.attempt or at_us > entry.at:
                self._say(f"attempt {attempt} of {key} began after its completion was recorded as {entry.seq}")
        if json.loads(bytes(record.result)) != value_of(key):
            self._say(f"{key} is recorded with another result than the witness gave")

    # --- endings

    def check_endings(self) -> None:
        """Every run is over; one that failed or was cancelled is undone, last first; one that completed is not."""
        if self.open_runs:
            self._say(f"{self.open_runs} runs are still open")
        for run_id, entries in self.runs.items():
            kinds = [entry.record.kind for entry in entries]
            ends = [ENDED_WITH[kind] for kind in kinds if kind in ENDED_WITH]
            if len(ends) != 1:
                self._say(f"{run_id} ended {len(ends)} times")
            elif not run_id.startswith("fan-"):  # where a block is undone while its run goes on
                self._check_undone(run_id, ends[0], [entry.record for entry in entries])

    def _check_undone(self, run_id: str, ending: str, records: list[r.Fact]) -> None:
        completed = [record for record in records if type(record) is r.StepCompleted and record.name in UNDOES]
        undone = [(record.key, record.name) for record in records if type(record) is r.CompensationCompleted]
        wanted = [] if ending == "completed" else [(f"{step.key}!", UNDOES[step.name]) for step in reversed(completed)]
        if undone != wanted:
            self._say(f"{run_id} {ending}: undone is {undone}, expected {wanted}")

    def figures(self) -> dict[str, Any]:
        """How much this was."""
        endings = Counter(entry.record.kind for entry in self.seqs.values() if entry.record.kind in ENDED_WITH)
        interrupted = sum(isinstance(entry.record, r.StepInterrupted) for entry in self.seqs.values())
        attempts = sum(sight.what == "began" for sight in self.sights)
        return {
            "records": len(self.seqs), "runs": len(self.runs), "attempts": attempts, "interrupted": interrupted,
            **{ENDED_WITH[kind]: count for kind, count in sorted(endings.items())},
        }  # fmt: skip


def _read(journal: Path) -> tuple[dict[int, Entry], dict[str, list[Entry]]]:
    """All entries by seq, and those of each run by its id."""
    connection = open_reader(journal)
    try:
        names = dict(connection.execute("select run_key, id from runs"))
        rows = connection.execute("select seq, run_key, prev_seq, at, body from records order by seq")
        seqs = {row[0]: decode_entry(*row) for row in rows}
    finally:
        connection.close()
    runs: dict[str, list[Entry]] = {name: [] for name in names.values()}
    for entry in seqs.values():
        if entry.run_key:
            runs[names[entry.run_key]].append(entry)
    return seqs, runs


def _sights(witness: Path) -> Iterator[Sight]:
    for line in witness.read_text(encoding="utf-8").splitlines():
        seen = json.loads(line)
        yield Sight(**{name: seen[name] for name in Sight._fields})


def _identity(record: r.Fact, run_id: str) -> tuple[object, ...]:
    """What a record acknowledges, in the words of `_wanted`."""
    match record:
        case r.RunStarted():
            return record.kind, record.id, json.dumps(json.loads(bytes(record.input)))
        case r.SignalReceived():
            return record.kind, run_id, record.name, record.signal_id, json.loads(bytes(record.value))
        case r.StateWritten(key=""):
            return record.kind, record.name, record.version, json.dumps(json.loads(bytes(record.value)))
        case r.ApprovalDecided():
            return record.kind, run_id, record.approved
        case r.SessionOpened() | r.SessionTouched() | r.SessionClosed():
            return record.kind, record.id
    return record.kind, run_id


def _wanted(ack: Ack) -> tuple[object, ...]:
    match ack.kind:
        case "run_started":
            return ack.kind, ack.subject, json.dumps(ack.data["input"])
        case "signal_received":
            return ack.kind, ack.subject, ack.data["name"], ack.data["signal_id"], ack.data["value"]
        case "approval_decided":
            return ack.kind, ack.subject, ack.data["approved"]
        case "state_written":
            return ack.kind, ack.subject, ack.data["version"], json.dumps(ack.data["value"])
    return ack.kind, ack.subject
