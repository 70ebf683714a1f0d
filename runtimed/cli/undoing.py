"""What a cancellation would undo: the compensations of a run in their order, before anybody asks for it.

Folded from the records that people are told; nothing is asked of the run, so it may do more until it is cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from runtimed.cli.explain import gather
from runtimed.cli.shell import Shell
from runtimed.cli.standing import ENDS, View
from runtimed.cli.text import cell, table

COMPLETIONS = ("step_completed", "compensation_completed")


class Undo(msgspec.Struct, frozen=True):
    """One compensation: what undoes which step (None for one that the code added), of which call, under which key."""

    undo: str
    step: str | None
    call: str
    idempotency_key: str


class Undoing(msgspec.Struct, frozen=True):
    """What would come of a cancellation. `settles` are attempts in flight, which end first and count with what they
    come to; `children` those that are cancelled too. `whole` is false where the history was too long to be read whole.
    """

    id: str
    status: str
    undo: list[Undo]
    settles: list[str]
    children: list[str]
    whole: bool = True


def to_undo(run_id: str, records: Iterable[View]) -> list[Undo]:
    """What is done and has not been undone, newest first, as the run itself would find it."""
    names: dict[str, tuple[str, str]] = {}
    done: dict[str, Undo] = {}
    generation = 0
    for record in records:
        kind, call, name = record["kind"], record["call"] or "", record["name"] or ""
        if kind == "run_continued":  # what was done before is not undone any more
            names.clear()
            done.clear()
            generation += 1
        elif kind == "step_scheduled" and record["data"].get("undo"):
            names[call] = (name, record["data"]["undo"])
        elif kind == "compensation_added":
            done.pop(call, None)
            done[call] = Undo(name, None, call, _key(run_id, generation, call, name))
        elif kind in COMPLETIONS or (kind == "step_resolved" and record["data"].get("happened")):
            if call.endswith("!"):
                done.pop(call.removesuffix("!"), None)
            elif call in names:
                step, undo = names.pop(call)
                done[call] = Undo(undo, step, call, _key(run_id, generation, call, undo))
    return list(reversed(done.values()))


def _key(run_id: str, generation: int, call: str, undo: str) -> str:
    """As `CurrentStep.idempotency_key` makes it."""
    return f"{run_id}/{generation}/{call}!/{undo}"


def open_children(records: Iterable[View]) -> list[str]:
    """The ids of children that have not ended."""
    children: dict[str, None] = {}
    for record in records:
        if record["kind"] == "child_started":
            children[record["data"]["child_id"]] = None
        elif record["kind"] == "child_ended":
            children.pop(record["data"]["child_id"], None)
    return list(children)


def preview(shell: Shell, ids: Sequence[str]) -> int:
    """Print what the cancellation of each of these runs would undo; nothing is asked of them."""
    found = []
    for run_id in ids:
        known = shell.read(lambda source: gather(source, run_id))  # noqa: B023 - awaited here
        run = known.run
        if run["status"] in ENDS:
            found.append(Undoing(run["id"], run["status"], [], [], []))
            continue
        undo = [] if run["status"] == "queued" else to_undo(run["id"], known.records)
        settles = [str(attempt) for attempt in known.attempts if not attempt.doubtful]
        found.append(Undoing(run["id"], run["status"], undo, settles, open_children(known.records), whole=known.whole))
    if shell.output == "json":
        shell.print_json(msgspec.json.encode(found[0] if len(found) == 1 else found))
    elif shell.output == "jsonl":
        for one in found:
            shell.print_json(msgspec.json.encode(one))
    elif shell.output == "id":
        for one in found:
            for each in one.undo:
                shell.print(cell(each.idempotency_key))
    else:
        for one in found:
            _tell(shell, one)
    return 0


def _tell(shell: Shell, found: Undoing) -> None:
    name = f"Run {cell(found.id)}"
    if found.status in ENDS:
        shell.print(f"{name} {ENDS[found.status]}: there is nothing to cancel.")
        return
    if found.undo:
        shell.print(f"{name} would be cancelled, and this undone in this order, each before the next:")
        rows = [(each.undo, each.step or "added by the code", each.call, each.idempotency_key) for each in found.undo]
        table(shell, ["UNDO", "OF", "CALL", "IDEMPOTENCY KEY"], rows)
    else:
        shell.print(f"{name} would be cancelled; nothing of it is to be undone.")
    for attempt in found.settles:
        shell.print(f"In flight: {attempt}. It settles first, and is undone too if it completes.")
    for child in found.children:
        shell.print(f"Child {cell(child)} has not ended, and is cancelled too.")
    if not found.whole:
        shell.print("Its history is longer than what was read: there is more to undo than is listed.")
    shell.print("Nothing was asked of it; it may do more until it is.")
