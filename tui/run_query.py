"""The grammar of the runs' filter: `st:live wf:order* id:7f3 att.region=eu text`. Pure.

`st:` takes the beginning of a state's word or status, several with commas, and live, ended, problem, all. `wf:` and
`id:` take `*` and `?`; without them a workflow is named whole and an id by its beginning or end. `att.K=V` is an
attribute. Anything else is looked for in ids and names. What the daemon can select it selects; the rest is held against
each row.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache

import msgspec

from tui.filters import BadFilter, parse_filter
from tui.runs_index import RunFilter
from tui.states import STATES, STATUSES_OF_WORD
from wal.views import RunView

HELP = "st:live|fail|.. wf:NAME* id:7f3 att.KEY=VALUE session:ID tenant:NAME text"
_WILD = re.compile(r"[*?]")


class RunQuery(RunFilter, frozen=True):
    """A filter that also holds patterns against the rows."""

    source: str = ""
    workflow_like: str | None = None
    id_like: str | None = None

    @property
    def by_rows(self) -> bool:
        """Whether rows of a page may fall out: then pages are read on until the screen is full."""
        return bool(self.words or self.text or self.workflow_like or self.id_like)

    def matches(self, run: RunView, word: str) -> bool:
        """Whether a run belongs into the list."""
        if not super().matches(run, word):
            return False
        if self.workflow_like is not None and not _like(self.workflow_like, run.workflow):
            return False
        return self.id_like is None or _id_like(self.id_like, run.id)


def parse_query(text: str) -> RunQuery:
    """The query that a line means. Raises `BadFilter` naming the part that means nothing."""
    rest: list[str] = []
    patterns: dict[str, str] = {}
    for part in text.split():
        name, colon, value = part.partition(":")
        if colon and name in ("wf", "workflow", "id") and not value:
            raise BadFilter(f"{part} wants something behind it")
        if colon and name == "id":
            patterns["id_like"] = value
        elif colon and name in ("wf", "workflow") and _WILD.search(value):
            patterns["workflow_like"] = value
        elif re.match(r"att\w*\.[^=]+=", part):
            rest.append(part.partition(".")[2])
        elif part.startswith("att."):
            raise BadFilter(f"{part} wants att.KEY=VALUE")
        else:
            rest.append(part)
    plain = parse_filter(" ".join(rest))
    fields = msgspec.structs.asdict(plain) | {"words": _all_words(plain), "source": text} | patterns
    return RunQuery(**fields)


def _all_words(plain: RunFilter) -> tuple[str, ...]:
    """The words of all wanted states, if any shares its status with another: a row is then told by its word."""
    if not plain.words:
        return ()
    shared = {status for word in plain.words for status in STATUSES_OF_WORD[word]}
    alone = [word for word in STATES if any(s in plain.statuses and s not in shared for s in STATUSES_OF_WORD[word])]
    return tuple(dict.fromkeys([*plain.words, *alone]))


@lru_cache(maxsize=32)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[", "[[]")))


def _like(pattern: str, text: str) -> bool:
    return _pattern(pattern).match(text) is not None


def _id_like(pattern: str, run_id: str) -> bool:
    if _WILD.search(pattern):
        return _like(pattern, run_id)
    return run_id.startswith(pattern) or run_id.endswith(pattern)
