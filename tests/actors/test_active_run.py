"""The runs in memory."""

from __future__ import annotations

from actors.active_run import ActiveRun, ActiveRuns


def test_forgetting_a_run_leaves_the_one_that_was_brought_in_anew() -> None:
    """To be forgotten once durable is said of an object: its run may be in memory again by then, as another one, whose
    attempts are in flight."""
    runs = ActiveRuns()
    before = runs.add(ActiveRun(4, "run-4", "order", 10))
    runs.remove(before)
    anew = runs.add(ActiveRun(4, "run-4", "order", 12))
    runs.idle[4] = anew
    runs.remove(before)
    assert runs.by_key == {4: anew} and runs.by_id == {"run-4": anew} and list(runs.idle) == [4]
    runs.remove(anew)
    assert not runs.by_key and not runs.by_id and not runs.idle
