"""How fresh what we show is: LIVE, LAG, STALE or OFFLINE, and the daemon's status in a word. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tui.format import age, clock, rfc3339_now, stamp
from tui.model import Model

CONNECTING, LIVE, STALE, OFFLINE = "CONNECTING", "LIVE", "STALE", "OFFLINE"
LAG_MIN_MICROS = 2_000_000


@dataclass
class LinkState:
    """The link's state and since when (microseconds). `behind` is how old the newest event was when it came, and
    `behind_at` when that was: a lag that is not told again is over."""

    name: str = CONNECTING
    since: int = 0
    behind: int = 0
    behind_at: int = 0
    retry_at: int = 0
    banner: str = ""
    problem: str = ""

    @property
    def live(self) -> bool:
        """Whether what is shown is what is, and the daemon takes wishes."""
        return self.name == LIVE

    def stream_word(self, now: int) -> tuple[str, str]:
        """What the header says of freshness, and its look."""
        if self.name == LIVE:
            lags = self.behind >= LAG_MIN_MICROS and now - self.behind_at < LAG_MIN_MICROS
            return (f"LAG {age(self.behind / 1e6)}", "warn") if lags else ("LIVE", "ok")
        if self.name == STALE:
            retry = max(0, round((self.retry_at - now) / 1e6))
            return f"STALE {age((now - self.since) / 1e6)} retry {retry}s", "need"
        if self.name == OFFLINE:
            return "OFFLINE", "need"
        return "connecting", "dim"

    def status_word(self, model: Model) -> tuple[str, str]:
        """What the header says of the daemon, and its look."""
        if self.name == OFFLINE:
            return f"DOWN (file {self._day_or_time(model)})", "need"
        if self.name == CONNECTING:
            return "CONNECTING", "dim"
        if self.name == STALE:
            return "UNREACHABLE", "warn"
        if model.health_status == "fail":
            return _not_ready(model.reasons), "need"
        if model.health_status == "warn":
            return "DEGRADED" + (f" {model.reasons[0][:24]}" if model.reasons else ""), "warn"
        return "READY", "ok"

    def down_since(self, model: Model) -> str:
        """When the daemon stopped, if its last record says so; else when it was found not to answer."""
        last = model.events[-1] if model.events else None
        return last.at if last is not None and last.kind == "daemon_stopped" else rfc3339_now(self.since)

    def _day_or_time(self, model: Model) -> str:
        since = self.down_since(model)
        return clock(since) if stamp(since)[:10] == stamp(rfc3339_now(self.since))[:10] else stamp(since)[:10]

    def why_not(self) -> str:
        """Why nothing can be changed now; empty if it can."""
        if self.name == OFFLINE:
            return "the daemon is down: this is read from its file"
        if self.name == STALE:
            return f"the daemon does not answer: {self.problem}"
        return "" if self.name == LIVE else "not connected yet"


def _not_ready(reasons: list[str]) -> str:
    first = reasons[0] if reasons else ""
    for word in ("draining", "starting"):
        if word in first.lower():
            return word.upper()
    return "NOT READY"
