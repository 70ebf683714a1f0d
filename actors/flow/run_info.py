"""What a flow is told beforehand: what the run knows of itself, and how far its history had come; and why it may stand
still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from actors.flow.saga_core import UNDO_MARK
from wal import records as r


class RunInfo(msgspec.Struct, frozen=True):
    """What a run knows of itself from its first record."""

    id: str
    workflow: str
    input: Raw
    generation: int = 0
    session_id: str | None = None
    tenant: str | None = None
    classification: str = "platform"
    trace_id: str | None = None
    traceparent: str | None = None
    parent_id: str | None = None
    parent_call: str | None = None
    signals: Mapping[str, list[Raw]] = {}
    children: Sequence[str] = ()


def info_of(first: r.RunStarted | r.RunContinued) -> RunInfo:
    """What a run knows of itself, from the record that its history begins with."""
    started = first if isinstance(first, r.RunStarted) else first.started
    return RunInfo(
        started.id,
        started.workflow,
        started.input,
        0 if isinstance(first, r.RunStarted) else first.generation,
        started.session_id,
        started.tenant,
        started.classification,
        started.trace_id,
        started.traceparent,
        started.parent_id,
        started.parent_call,
        {} if isinstance(first, r.RunStarted) else first.signals,
        () if isinstance(first, r.RunStarted) else first.children,
    )


class Hold(msgspec.Struct, frozen=True):
    """Why a run stands still: the code of the block, what to read, the call, and the traceback of a defect."""

    code: str
    message: str
    key: str = ""
    traceback: str | None = None


class History(msgspec.Struct, frozen=True):
    """What replay must know beforehand: the patches that were marked, and how far each fiber had come."""

    patches: frozenset[str] = frozenset()
    furthest: Mapping[str, int] = {}

    @classmethod
    def of(cls, records: Sequence[r.Fact]) -> History:
        furthest: dict[str, int] = {}
        patches = set()
        for record in records:
            if type(record) is r.PatchMarked:
                patches.add(record.id)
            elif type(record) is r.RunContinued:
                continue  # its call is of the round before: of this one nothing is past
            elif type(record) is r.RunForked:
                for fiber, index in record.reached.items():
                    furthest[fiber] = max(furthest.get(fiber, -1), index)
            keys = [call.key for call in record.calls] if type(record) is r.RunWaiting else [getattr(record, "key", "")]
            for key in keys:
                _note_key(furthest, key)
        return cls(frozenset(patches), furthest)

    def has_passed(self, fiber: str, index: int) -> bool:
        """Whether there is a record of a call at or after this one: of the fiber itself, or behind its group, which
        says that the fiber had ended."""
        if self.furthest.get(fiber, -1) >= index:
            return True
        while fiber:
            fiber, _, group = fiber.rpartition("/")[0].rpartition(".")
            if self.furthest.get(fiber, -1) > int(group):
                return True
        return False


def _note_key(furthest: dict[str, int], key: str) -> None:
    path = key.removesuffix(UNDO_MARK)
    while path:
        fiber, _, index = path.rpartition(".")
        furthest[fiber] = max(furthest.get(fiber, -1), int(index))
        path = fiber.rpartition("/")[0]
