"""What the screen of connectors says: statuses in words, the counts, the pane, and what a card tells. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from runtimed.connector_words import WEBHOOK, handoff
from tui.format import Line, Piece, TimeStyle, age, clock, micros, size, stamp, thousands, until
from tui.glyphs import Glyphs
from wal.views import NULL, ConnectorView

POLL, PAUSE, RESUME, RESET = "poll", "pause", "resume", "reset"
CURSOR_SHOWN_CHARACTERS = 2_000


class Word(NamedTuple):
    """How a status is shown: its word, its mark in both sets of glyphs, its look."""

    text: str
    mark: str
    ascii: str
    look: str


WORDS: Mapping[str, Word] = {
    "ok": Word("OK", "●", "*", "ok"),
    "polling": Word("POLLING", "●", "*", "ok"),
    "backoff": Word("BACKOFF", "~", "~", "warn"),
    "open_breaker": Word("BREAKER", "~", "~", "warn"),
    "quarantined": Word("QUARANT", "!", "!", "need"),
    "paused": Word("PAUSED", "=", "=", "warn"),
}
"""By status, in the order in which they are counted."""
_COUNTED = {"open_breaker": "open-breaker"}
_PRESSING = ("quarantined", "open_breaker", "backoff", "paused", "ok")
_ALWAYS = ("ok", "backoff", "open_breaker")


def word_of(view: ConnectorView, glyphs: Glyphs) -> Piece:
    """A connector's state: mark, word and look."""
    word = WORDS.get(view.status, Word(view.status.upper(), "~", "~", "warn"))
    return Piece(f"{word.mark if glyphs.utf8 else word.ascii} {word.text}", word.look)


def counts(views: Sequence[ConnectorView]) -> Counter[str]:
    """How many connectors have each status; one that polls now is ok."""
    return Counter("ok" if view.status == "polling" else view.status for view in views)


def counts_line(views: Sequence[ConnectorView], filter_text: str) -> Line:
    """`6 connectors   5 ok  1 backoff  0 open-breaker`; what is rare only where there is some."""
    found = counts(views)
    pieces = [Piece(f"{len(views)} connector{'' if len(views) == 1 else 's'}")]
    shown = [status for status in WORDS if status in _ALWAYS or found[status]]
    shown += [status for status in found if status not in WORDS]
    for place, status in enumerate(status for status in shown if status != "polling"):
        look = WORDS[status].look if status in WORDS and status != "ok" and found[status] else ""
        name = _COUNTED.get(status, status)
        pieces += [Piece("   " if place == 0 else "  "), Piece(f"{found[status]} {name}", look)]
    if filter_text:
        pieces.append(Piece(f"   filter: {filter_text}", "dim"))
    return pieces


def health_line(views: Sequence[ConnectorView]) -> Line:
    """`conn 5 ok, 1 backoff (imap-eu)`: those that are not well by name, the worst first. Empty without connectors."""
    if not views:
        return ()
    found = counts(views)
    parts = [f"{found['ok']} ok"]
    worst = ""
    for status in sorted(found, key=lambda one: _PRESSING.index(one) if one in _PRESSING else -1):
        if status != "ok":
            names = [view.name for view in views if view.status == status]
            more = f" +{len(names) - 1}" if len(names) > 1 else ""
            parts.append(f"{found[status]} {_COUNTED.get(status, status)} ({names[0]}{more})")
            look = WORDS[status].look if status in WORDS else "warn"
            worst = "need" if "need" in (worst, look) else look
    return [Piece(f"conn {', '.join(parts)}", worst)]


def next_text(view: ConnectorView, now: int) -> str:
    """How long until it polls, in steps of ten seconds, so that a list at rest does not repaint each second: `push` for
    what is sent to us, `due` where the time has come."""
    if view.kind == WEBHOOK:
        return "push"
    at = micros(view.next_poll_at)
    if at is not None and 0 < at - now < 10_000_000:
        return "<10s"
    left = until(view.next_poll_at, now)
    return "due" if left == "now" else left


def lag_text(view: ConnectorView) -> str:
    """How far it is behind."""
    return "-" if view.lag is None else age(view.lag)


def cursor_text(view: ConnectorView) -> str:
    """Its cursor as JSON in one line; `-` for none."""
    text = bytes(view.cursor).decode("utf-8", "replace").strip()
    return "-" if bytes(view.cursor) == bytes(NULL) or not text else text[:CURSOR_SHOWN_CHARACTERS]


def cells_of(
    view: ConnectorView, now: int, style: TimeStyle, glyphs: Glyphs, *, offline: bool = False
) -> list[Piece | str]:
    """A row: name, kind, state, last poll, next, lag, cursor, what was new lately, errors. `offline` says that the view
    is out of the file, which does not know of errors."""
    errors = Piece("-") if offline else Piece(str(view.errors_total), "warn" if view.errors_total else "")
    last = clock(view.last_poll_at, style, now=now)
    state, ahead = word_of(view, glyphs), next_text(view, now)
    new = "-" if view.records_15m is None else size(view.records_15m)
    return [view.name, view.kind, state, last, ahead, lag_text(view), cursor_text(view), new, errors]


def pane_lines(view: ConnectorView, sentence: Sequence[Line], now: int, *, offline: bool = False) -> list[Line]:
    """The connector at the cursor, below or beside the list: `sentence` says how it stands, wrapped by the screen.
    `offline` leaves out what only a running daemon knows."""
    error = Piece(view.last_error or "none", "warn" if view.last_error else "")
    wait = next_text(view, now)
    ahead = f"in {wait}, {stamp(view.next_poll_at)}" if view.next_poll_at and wait != "due" else wait
    by_hand = f"   set by hand {view.generation}x" if view.generation else ""
    totals = [
        _counted(view.records_total, "record"),
        *([] if view.records_15m is None else [f"{thousands(view.records_15m)} in 15m"]),
        *([] if offline else [_counted(view.errors_total, "error")]),
        f"{thousands(view.repeated_total)} repeated",
        f"{thousands(view.refused_total)} refused",
        *([] if offline else [_counted(view.polls_total, "poll")]),
    ]
    failures = f"{_counted(view.failures, 'failure')} in a row, next poll {ahead}"
    return [
        *sentence,
        [Piece(" last error  ", "dim"), error],
        *([] if offline else [[Piece(" backoff     ", "dim"), Piece(failures)]]),
        [Piece(" handoff     ", "dim"), Piece(handoff(view))],
        [Piece(" totals      ", "dim"), Piece("  ".join(totals))],
        [Piece(" cursor      ", "dim"), Piece(f"{cursor_text(view)}{by_hand}")],
        [Piece(" deliver     ", "dim"), Piece(view.deliver or "-")],
    ]


def _counted(number: int, noun: str) -> str:
    return f"{thousands(number)} {noun}{'' if number == 1 else 's'}"


# --- the card ---------------------------------------------------------------------------------------------------------


class Deed(NamedTuple):
    """One thing to do to a connector: its verb on the wire, what the card calls it, how it is told when it is done."""

    verb: str
    title: str
    done: str


DEEDS: Mapping[str, Deed] = {
    deed.verb: deed
    for deed in (
        Deed(POLL, "poll now", "asked to poll"),
        Deed(PAUSE, "pause", "paused"),
        Deed(RESUME, "resume", "let go on"),
        Deed(RESET, "set the cursor of", "set the cursor of"),
    )
}


def refusal(verb: str, view: ConnectorView) -> str:
    """Why this cannot be asked of a connector as it stands; empty if it can."""
    if view.kind == WEBHOOK:
        return "its source sends to it: there is nothing to poll, hold or set"
    if verb == POLL and view.status in ("paused", "quarantined"):
        return f"it is {view.status}: resume it first"
    if verb == PAUSE and view.status == "paused":
        return "it is paused already"
    if verb == RESUME and view.status not in ("paused", "quarantined"):
        return "it is neither paused nor quarantined"
    return ""


def consequences(verb: str, view: ConnectorView) -> list[str]:
    """What will happen, a sentence a line; of a reset the daemon itself says it."""
    match verb:
        case "poll":
            return [
                "It polls at once instead of when it would; what comes is taken as always, each key once.",
                "Recorded is who asked for it, and what the poll brings.",
            ]
        case "pause":
            return [
                "It polls no more until it is resumed. A page that is on its way now is not taken; it comes again.",
                "Where it stands is kept: nothing is lost as long as its source keeps what it has.",
            ]
        case "resume" if view.status == "quarantined":
            return [
                "It polls again from where it stands. If its code still crashes, it is quarantined again.",
                f"It was quarantined because of: {view.last_error or 'it did not say why'}",
            ]
        case "resume":
            return ["It polls again from where it stands, and reads all that came meanwhile."]
        case _:
            return []


def would_lines(would: Iterable[str]) -> list[str]:
    """The daemon's preview of a reset."""
    return [f"{sentence[:1].upper()}{sentence[1:]}." for sentence in would]
