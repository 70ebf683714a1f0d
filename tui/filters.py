"""The filter line of the runs: `st:fail wf:checkout tenant:acme order=991 abc`. Pure."""

from __future__ import annotations

from tui.runs_index import RunFilter
from tui.states import ENDED_STATUSES, OPEN_STATUSES, STATES, STATUSES_OF_WORD

HELP = "st:fail|live|done.. wf:NAME session:ID tenant:NAME attr=VALUE text"
_GROUPS = {
    "live": OPEN_STATUSES,
    "open": OPEN_STATUSES,
    "ended": ENDED_STATUSES,
    "problem": ("blocked", "failed"),
    "all": (),
}


class BadFilter(ValueError):
    """A part of a filter that means nothing; the text says which."""


def parse_filter(text: str) -> RunFilter:
    """The filter that a line means. Words of states take any beginning (`st:fail`), several with commas; `KEY=VALUE` is
    an attribute; what has neither is looked for in ids and names of the rows. Raises `BadFilter`."""
    statuses: list[str] = []
    words: list[str] = []
    found: dict[str, str] = {}
    attributes: dict[str, str] = {}
    plain: list[str] = []
    for part in text.split():
        name, colon, value = part.partition(":")
        if colon and name in ("st", "status"):
            for one in value.split(","):
                more_statuses, more_words = _state(one)
                statuses += more_statuses
                words += more_words
        elif colon and name in ("wf", "workflow", "session", "tenant"):
            found["workflow" if name in ("wf", "workflow") else "session_id" if name == "session" else name] = value
        elif "=" in part:
            key, _, wanted = part.partition("=")
            attributes[key] = wanted
        else:
            plain.append(part)
    return RunFilter(
        statuses=tuple(dict.fromkeys(statuses)),
        words=tuple(dict.fromkeys(words)),
        attributes=attributes,
        text=" ".join(plain),
        **found,
    )


def _state(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    lower, upper = text.lower(), text.upper()
    if lower in _GROUPS:
        return _GROUPS[lower], ()
    for word in STATES:
        if upper and word.startswith(upper):
            statuses = STATUSES_OF_WORD[word]
            alone = sum(1 for other in STATUSES_OF_WORD.values() if set(other) & set(statuses)) == 1
            return statuses, () if alone else (word,)
    for status in (*OPEN_STATUSES, *ENDED_STATUSES):
        if lower and status.startswith(lower):
            return (status,), ()
    raise BadFilter(f"no state begins with {text!r}; there are {' '.join(STATES)} and live, ended, problem, all")
