"""The promises of `actors.supervisor_spec`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from actors.supervisor_spec import Backoff, ChildSpec, SupervisorSpec


async def run(task_status: object) -> None:
    """A child that is never started here."""


def child(name: str = "a", **fields: Any) -> ChildSpec:
    return ChildSpec(name=name, run=run, **fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": ""}, "child name must be 1 to 100 characters without '/', not ''"),
        ({"name": "a/b"}, "child name must be 1 to 100 characters without '/', not 'a/b'"),
        ({"run": 3}, "child 'a': run must be an async function of task_status, not 3"),
        (
            {"restart": "sometimes"},
            "child 'a': restart must be one of permanent, transient, temporary, not 'sometimes'",
        ),
        ({"start_timeout_s": 0}, "child 'a': start_timeout_s must be above 0, not 0"),
        ({"shutdown_timeout_s": -1}, "child 'a': shutdown_timeout_s must be at least 0, not -1"),
        ({"shutdown_timeout_s": math.nan}, "child 'a': shutdown_timeout_s must be at least 0, not nan"),
        ({"significant": True}, "child 'a': restart must be transient or temporary if significant, not 'permanent'"),
    ],
)
def test_bad_child_is_refused_by_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    """A bad field of a child is refused in one line that names the child, the field and the value."""
    with pytest.raises(ValueError) as caught:
        ChildSpec(**({"name": "a", "run": run} | fields))
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"children": (child(), child())}, "child name must be given once, not 'a'"),
        ({"children": tuple(child(str(n)) for n in range(1001))}, "children must be at most 1000, not 1001"),
        ({"strategy": "all"}, "strategy must be one of one_for_one, rest_for_one, one_for_all, not 'all'"),
        ({"restarts_max": -1}, "restarts_max must be at least 0, not -1"),
        ({"period_s": 0}, "period_s must be above 0 and finite, not 0"),
        (
            {"auto_shutdown": "yes"},
            "auto_shutdown must be one of never, any_significant, all_significant, not 'yes'",
        ),
        (
            {"children": (child(restart="transient", significant=True),)},
            "auto_shutdown must be set, since ['a'] are significant, not 'never'",
        ),
    ],
)
def test_bad_supervisor_is_refused_by_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    """A bad field of a supervisor is refused in one line that names the field and the value."""
    with pytest.raises(ValueError) as caught:
        SupervisorSpec(**({"children": (child(),)} | fields))
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"initial_s": -1}, "backoff initial_s must be at least 0 and finite, not -1"),
        ({"factor": 0.5}, "backoff factor must be at least 1 and finite, not 0.5"),
        ({"max_s": 0.01}, "backoff max_s must be at least initial_s and finite, not 0.01"),
        ({"jitter": 1.5}, "backoff jitter must be between 0 and 1, not 1.5"),
    ],
)
def test_bad_backoff_is_refused_by_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    """A bad backoff is refused in one line that names the field and the value."""
    with pytest.raises(ValueError) as caught:
        Backoff(**fields)
    assert str(caught.value) == sentence


def test_backoff_grows_up_to_its_maximum() -> None:
    """The delay is multiplied by each crash in a row, jitter moves it both ways, and the maximum holds for both."""
    backoff = Backoff(initial_s=0.1, factor=4, max_s=5, jitter=0.2)
    assert [backoff.delay_s(streak, 0.5) for streak in (1, 2, 3, 4, 10_000)] == pytest.approx([0.1, 0.4, 1.6, 5, 5])
    assert backoff.delay_s(1, 0.0) == pytest.approx(0.08)
    assert backoff.delay_s(1, 0.999_999_999) == pytest.approx(0.12)
    assert backoff.delay_s(9, 0.999_999_999) == 5
