"""The first line: how the daemon is, who we are, what needs people, how fresh all of this is."""

from __future__ import annotations

from tui.format import Line, Piece, clock, fit_line, line_cells, rfc3339_now, size, thousands
from tui.widgets.lines import Lines, dashboard


class Header(Lines):
    """One line, made of the model and the link; `refresh_line` draws it if it reads differently."""

    def update_header(self) -> None:
        """Make the line anew."""
        self.show([self._line()])

    def on_resize(self) -> None:
        """Another width has room for other things."""
        self.update_header()

    def _line(self) -> Line:
        app = dashboard(self)
        bar = Piece(f" {app.glyphs.v} ", "frame")
        right = [*self._fresh(), Piece(" " + clock(rfc3339_now(app.now()), seconds=False))]
        room = self.size.width - line_cells(right) - 1
        left = [*self._daemon(app.host), bar, *self._runs()]
        if line_cells(left) > room:
            left = [*self._daemon(""), bar, *self._runs()]
        elif app.width_class >= 2:
            left += [bar, *self._journal()]
        return [*fit_line(left, room, ellipsis=app.glyphs.ellipsis), Piece(" "), *right]

    def _daemon(self, host: str) -> list[Piece]:
        app = dashboard(self)
        word, look = app.link_state.status_word(app.model)
        pieces = [
            Piece("runtimed ", "bold"),
            Piece(f"{app.glyphs.up} {word}", look),
            Piece(f"  {host}  " if host else "  "),
        ]
        if app.width_class >= 2 and app.model.daemon_version:
            pieces.append(Piece(f"v{app.model.daemon_version}  "))
        pieces.append(Piece(app.mode_word))
        return pieces

    def _runs(self) -> list[Piece]:
        app = dashboard(self)
        words = app.model.words()
        pieces = [Piece(f"run {thousands(app.model.open_total())}")]
        if app.model.approvals:
            pieces += [Piece("  "), Piece(f"appr {app.model.approvals_count()}!", "need")]
        for word, look in (("DOUBT", "need"), ("STUCK", "warn")):
            if words[word]:
                pieces += [Piece("  "), Piece(f"{word.lower()} {words[word]}", look)]
        failed = app.model.rates.failed_last_hour(app.now())
        if failed:
            pieces.append(Piece(f"  fail {failed}/h"))
        return pieces

    def _journal(self) -> list[Piece]:
        app = dashboard(self)
        figures = app.model.figures
        wal = figures.get("sqlite_wal_bytes")
        text = f"jrnl seq {app.model.seq}" + (f" wal {size(wal)}" if wal is not None else "")
        return [Piece(text)]

    def _fresh(self) -> list[Piece]:
        app = dashboard(self)
        if app.frozen:
            return [Piece(f"PAUSED {app.frozen_events} new", "need")]
        word, look = app.link_state.stream_word(app.now())
        return [Piece(word, look)] if word else []
