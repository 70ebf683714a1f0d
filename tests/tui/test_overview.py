"""The overview: what needs people, in five seconds."""

from __future__ import annotations

import pytest

from tests.tui import goldens
from tests.tui.driving import driven
from tests.tui.fake_daemon import NOW, FakeDaemon, approval, at, event, run
from tests.tui.hostile import HOSTILE
from tests.tui.screen_text import screen_lines
from tui.overview_text import event_lines, state_lines
from wal.views import ActorView, ErrorView

pytestmark = pytest.mark.anyio


@pytest.fixture
def daemon() -> FakeDaemon:
    """What the sketches show: people asked, a doubt, a run that is stuck, runs in every state."""
    fake = FakeDaemon()
    fake.runs = [
        run("c0ffee", "payout", "blocked", ago=10_000.0, error=ErrorView("outcome_unknown", "crash", "wire_transfer")),
        run("5d1e77", "etl_nightly", "blocked", ago=2_460.0, error=ErrorView("code_error", "KeyError: 'x'")),
        *(run(f"8810b{n}", "order_saga", ago=4.0) for n in range(3)),
        *(run(f"a11ce{n}", "dunning", "waiting", waiting_on="timer", ago=9_000.0) for n in range(7)),
        run("7f3a2c", "refund_saga", "waiting", waiting_on="approval", ago=840.0),
        run("5d1e90", "etl_nightly", "waiting", waiting_on="retry", ago=540.0),
        run("bada55", "trip_saga", "compensating", ago=60.0),
        run("dead01", "order_saga", "failed", ago=900.0, ended_at=at(600)),
    ]
    fake.approvals = [
        approval("812", "refund EUR 1240.00", "7f3a2c"),
        approval("809", "deploy billing v88", "19bc04", requested_at=at(7_300), expires_at=None),
    ]
    paths = ("root", "root/engine", "root/engine/coordinator", "root/journal")
    fake.actors = [ActorView(path, "up", 0, None, 0, 0) for path in paths]
    fake.actors.append(ActorView("root/sessions", "restarting", 3, None, 9, 100, "ConnectionReset"))
    fake.figures |= {"disk_free_bytes": 65_498_251_264.0}
    fake.events = [
        event(5, "step_completed", "8810aa", ago=70.0, name="charge", call="1", result=1),
        event(6, "run_completed", "8810aa", ago=5.0, workflow="order_saga", result=1),
        event(
            7, "run_failed", "dead01", ago=600.0, workflow="order_saga", error={"type": "CardDeclined", "message": "no"}
        ),
    ]
    return fake


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 15), (120, 30)])
async def test_it_looks_like_the_sketch(daemon: FakeDaemon, size: tuple[int, int]) -> None:
    """At each size the panels stand where they should, to the cell."""
    async with driven(daemon, size=size) as shown:
        await shown.sees("Needs you (4)", "#812 refund")
        if size[0] >= 80:
            await shown.sees("order_saga")
        await goldens.check(f"overview_{size[0]}x{size[1]}", shown)


@pytest.mark.slow
async def test_it_looks_the_same_in_ascii(daemon: FakeDaemon) -> None:
    """Without UTF-8 the same panels, in ASCII alone."""
    async with driven(daemon, ascii=True) as shown:
        await shown.sees("Needs you (4)", "#812 refund", "order_saga")
        assert shown.text.isascii()
        await goldens.check("overview_ascii_80x24", shown)


async def test_a_need_arrives_by_itself_and_opens(daemon: FakeDaemon) -> None:
    """An approval that is requested stands on the screen without a key, and enter goes to it."""
    daemon.approvals = []
    async with driven(daemon) as shown:
        await shown.sees("Needs you (2)")
        daemon.approvals = [approval("900", "launch it", "8810b0")]
        daemon.push(event(11, "approval_requested", "8810b0", call="1", title="launch it"))
        await shown.sees("Needs you (3)", "#900 launch it", "appr 1!")
        assert shown.app.model.needs()[0].id == "900"
        await shown.press("g", "enter")
        await shown.sees("#900", "launch it")
        assert shown.app.current_mode == "approvals"


async def test_copying_gives_the_command(daemon: FakeDaemon) -> None:
    """`Y` copies the command line that shows the same, for the same daemon; `y` the id."""
    async with driven(daemon, place="--data-dir /srv/shop") as shown:
        await shown.sees("Needs you (4)")
        await shown.press("g", "y")
        assert shown.app.clipboard == "812"
        await shown.press("Y")
        assert shown.app.clipboard == "runtimed approvals show 812 --data-dir /srv/shop"


@pytest.mark.slow
async def test_hostile_text_stays_text(daemon: FakeDaemon) -> None:
    """Names, titles and errors from outside are shown escaped, and the frame of the screen stays whole."""
    daemon.approvals = [approval(str(n), text, text[:40]) for n, text in enumerate(HOSTILE)]
    daemon.runs = [run(f"{n}", text, "blocked", error=ErrorView(text, text, text)) for n, text in enumerate(HOSTILE)]
    daemon.actors = [ActorView(text, "failed", 1, text, 0, 1, text) for text in HOSTILE]
    daemon.events = [
        event(n + 1, "run_failed", "x", workflow=text, error={"type": text}) for n, text in enumerate(HOSTILE)
    ]
    for size in ((80, 24), (200, 50)):
        async with driven(daemon, size=size) as shown:
            await shown.sees("Needs you (", "\\x1b[2J")
            assert not any(
                ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for line in screen_lines(shown.app) for char in line
            )


def test_states_go_into_two_columns_where_one_is_not_enough() -> None:
    """A low panel shows all states that there are, side by side."""
    from tui.glyphs import ASCII
    from tui.model import Model

    model = Model()
    model.put_counts({"blocked": 2, "running": 40, "paused": 1})
    model.put_runs([run("x", status="blocked", error=ErrorView("outcome_unknown", ""))], complete=False)
    texts = ["".join(piece.text for piece in line) for line in state_lines(model, 34, 4, ASCII)]
    assert len(texts) == 4
    assert all(any(word in text for text in texts) for word in ("RUN", "DOUBT", "STUCK", "PAUS"))


def test_events_share_a_line_where_they_fit() -> None:
    """Two short events stand on one line, a long one alone."""
    from tui.glyphs import UTF8

    events = [event(n, "run_completed", f"r{n}", workflow="w") for n in range(4)]
    assert len(event_lines(events, "utc", NOW, 80, 10, UTF8)) == 2
    assert len(event_lines(events, "utc", NOW, 40, 10, UTF8)) == 4
