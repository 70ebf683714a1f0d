"""What the overview's panels say: lines out of the model, pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tui.connector_text import health_line
from tui.event_text import NOTABLE, says, state_of_event
from tui.format import Cell, Line, Piece, TimeStyle, age_between, cells, clock, duration, fit, short_id, size, until
from tui.glyphs import Glyphs
from tui.model import Model, Need
from tui.rates import current
from tui.states import STATES
from tui.widgets.bars import bar, sparkline
from wal.views import EventView

_MARKS = {"APPR": ("!", "need"), "DOUBT": ("%", "need"), "STUCK": ("~", "warn"), "DOWN": ("x", "bad")}
_ALWAYS = ("RUN", "WAIT", "APPR", "RETRY", "COMP")
_RARE = ("STUCK", "DOUBT", "PAUS")
EVENTS_LOOKED_AT_MAX = 2_000


def need_cells(need: Need, now: int, id_cells: int, *, short: bool = False) -> Sequence[Cell]:
    """A row of the needs: mark and word, what, which run, since when and (unless `short`) until when."""
    mark, look = _MARKS[need.word]
    run = f"run {short_id(need.run_id, id_cells)}" if need.run_id else ""
    tail = f"since {age_between(need.since, now)}" if short else _tail(need, now)
    return [Piece(f"{mark} {need.word}", look), need.what, run, tail]


def _tail(need: Need, now: int) -> str:
    if need.word == "APPR":
        expires = f"expires in {until(need.until, now)}" if need.until else "no expiry"
        return f"waits {age_between(need.since, now):<4} {expires}"
    if need.word == "DOUBT":
        return f"outcome unknown {age_between(need.since, now)}"
    if need.word == "STUCK":
        return f"stands still for {age_between(need.since, now)}"
    return "quarantined: resume it" if need.kind == "connector" else "not restarted any more"


def state_lines(model: Model, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Open runs by state with bars; states that are rare only when there are such runs, two columns if one is not
    enough."""
    words = model.words()
    shown = [word for word in STATES if word in _ALWAYS or (word in _RARE and words[word])]
    largest = max((words[word] for word in shown), default=0)
    columns = 1 if len(shown) <= height else 2
    room = width // columns
    rows: list[Line] = [_state(word, words[word], largest, room - 1, glyphs) for word in shown]
    if columns == 1:
        return rows
    half = (len(rows) + 1) // 2
    rest: list[Line] = [*rows[half:], *([()] * (2 * half - len(rows)))]
    return [[*left, Piece(" "), *right] for left, right in zip(rows[:half], rest, strict=True)]


def _state(word: str, number: int, largest: int, width: int, glyphs: Glyphs) -> list[Piece]:
    count = f"{number:>4}" if number < 10_000 else f"{size(number):>4}"
    text = f"{word:<5}{count} "
    drawn = bar(number, largest, max(0, width - len(text)), glyphs)
    look = STATES[word].look if number else ""
    # White on orange is for words: as a bar it would be white, and its room orange.
    return [Piece(text), Piece(fit(drawn, max(0, width - len(text))), "warn" if look == "need" else look)]


def kill9_lines(model: Model, width: int, glyphs: Glyphs) -> list[Line]:
    """What `kill -9` would cost now; where there is room with bars and the runs' ids."""
    meter = model.kill9()
    wide = width >= 60
    rows = (
        ("SAFE", meter.safe, "resume at journaled step", (), "ok"),
        ("REDO", meter.redo, "re-run, same idem. key", meter.redo_ids, "warn"),
        ("DOUBT", meter.doubt, "a human will be asked", meter.doubt_ids, "need"),
        ("LOST", meter.lost, "(always 0, or page us)", (), "good"),
    )
    largest = max(meter.safe, meter.redo, meter.doubt)
    lines: list[Line] = []
    for word, number, says_, ids, look in rows:
        pieces = [Piece(f"{word:<5}", look if number else ""), Piece(f"{number:>4}  ")]
        if wide and number:
            pieces += [Piece(bar(number, largest, 24, glyphs), "ok"), Piece("  ")]
        names = ": " + " ".join(short_id(run_id, 8) for run_id in ids[:3]) if wide and ids else ""
        lines.append([*pieces, Piece(says_ + names)])
    commit = model.figures.get("commit_p99_seconds")
    if commit is not None:
        median = model.figures.get("commit_p50_seconds")
        lines.append([Piece(f"commit p50 {duration(median)} p99 {duration(commit)}", "dim")])
    return lines


def rate_lines(model: Model, now: int, width: int, glyphs: Glyphs) -> list[Line]:
    """Rates over the last quarter of an hour, as numbers and as curves."""
    rates = model.rates
    rows = (
        ("steps/s", rates.steps(now), "ok"),
        ("fail/min", rates.fails(now), "warn"),
        ("records/s", rates.records(now), "ok"),
    )
    room = max(0, min(30, width - 17))
    return [
        [Piece(f"{name:<10}{current(values):>5.1f} "), Piece(sparkline(values, room, glyphs), look)]
        for name, values, look in rows
    ]


def health_lines(model: Model, online: bool, glyphs: Glyphs) -> list[Line]:
    """Readiness, the disk, the actors, and what is not as it should be."""
    if not online:
        return [[Piece("the daemon is down", "need")], [Piece(f"last record {model.seq}")]]
    if not model.health_status:
        return [[Piece("not connected yet", "dim")]]
    figures, words = model.figures, model.actor_words()
    parts: list[Piece] = []
    for name in ("ready", "live"):
        good = all(check.get("status") == "pass" for check in model.checks.get(name, ()))
        parts += [
            Piece(f"{name} "),
            Piece(glyphs.check if good else glyphs.cross, "good" if good else "bad"),
            Piece(" "),
        ]
    if "disk_free_bytes" in figures:
        parts.append(Piece(f"disk {size(figures['disk_free_bytes'])} "))
    if "sqlite_wal_bytes" in figures:
        parts.append(Piece(f"wal {size(figures['sqlite_wal_bytes'])}"))
    down = words.get("failed", 0)
    actors = f"actors {words.get('up', 0)} up, {down} down, {words.get('restarting', 0)} restarting"
    lines: list[Line] = [parts, [Piece(actors, "need" if down else "")]]
    lines += [[Piece(reason, "warn")] for reason in model.reasons]
    if model.connectors:
        lines.append(health_line(model.connectors))
    asleep = int(figures.get("runs_without_wake_source", 0))
    if asleep:
        lines.append([Piece(f"{asleep} runs that nothing will wake: runtimed doctor", "need")])
    elif not model.reasons:
        lines.append([Piece("every open run has a wake source", "dim")])
    return lines


def actor_lines(model: Model) -> list[Line]:
    """Actors, the worst first: those that are not up, then those that were restarted."""
    ranks = {"failed": 0, "restarting": 1, "stopped": 2, "up": 3}
    worst = sorted(model.actors, key=lambda actor: (ranks.get(actor.status, 0), -actor.restarts, -actor.mailbox_size))
    words = {"failed": ("DOWN", "need"), "restarting": ("REST", "warn"), "stopped": ("STOP", "dim"), "up": ("UP", "ok")}
    return [
        [
            Piece(f"{fit(actor.path.removeprefix('root/'), 20)} "),
            Piece(f"{words.get(actor.status, (actor.status, ''))[0]:<5}", words.get(actor.status, ("", "warn"))[1]),
            Piece(f"rst {actor.restarts}  mbox {actor.mailbox_size}  {actor.last_error or ''}"),
        ]
        for actor in worst
    ]


def event_lines(
    events: Iterable[EventView], style: TimeStyle, now: int, width: int, count: int, g: Glyphs
) -> list[Line]:
    """The last notable events, the newest first; on one line two where both fit."""
    texts: list[list[Piece]] = []
    for number, event in enumerate(events):
        if event.kind in NOTABLE:
            texts.append(_event(event, style, now, g))
        if len(texts) >= 2 * count or number > EVENTS_LOOKED_AT_MAX:
            break
    lines: list[Line] = []
    while texts and len(lines) < count:
        first = texts.pop(0)
        used = sum(cells(piece.text) for piece in first)
        if texts and used + 3 + sum(cells(piece.text) for piece in texts[0]) <= width:
            first = [*first, Piece("   "), *texts.pop(0)]
        lines.append(first)
    return lines


def _event(event: EventView, style: TimeStyle, now: int, glyphs: Glyphs) -> list[Piece]:
    state = state_of_event(event)
    word = f"{glyphs.of(state)} {state.word}" if state else event.kind.replace("_", " ")
    who = "" if event.run_id is None else f"run {short_id(event.run_id, 10)} "
    told = "" if event.kind in ("run_started", "run_completed") else f" {says(event)}"
    return [
        Piece(f"{clock(event.at, style, now=now)} {who}"),
        Piece(word, state.look if state else ""),
        Piece(f" {event.workflow or ''}{told}"),
    ]
