"""The last line: what the keys do here, out of the live bindings; a second line above it for remarks."""

from __future__ import annotations

from collections.abc import Iterable

from textual.binding import Binding
from textual.screen import Screen

from tui.format import Line, Piece, cells, fit_line, spread
from tui.widgets.lines import Lines

_NAMES = {
    "question_mark": "?", "colon": ":", "slash": "/", "exclamation_mark": "!", "asterisk": "*", "escape": "esc",
    "comma": ",", "full_stop": ".", "less_than_sign": "<", "greater_than_sign": ">", "left_parenthesis": "(",
    "right_parenthesis": ")", "semicolon": ";", "vertical_line": "|",
}  # fmt: skip


def key_name(key: str) -> str:
    """A key as it stands on a keyboard."""
    return _NAMES.get(key, key.upper() if len(key) == 2 and key[0] == "f" and key[1].isdigit() else key)


class Keys(Lines):
    """The keys of the screen and of what has the focus, each once, as many as there is room for."""

    _right = ""

    def update_keys(self, right: str | None = None) -> None:
        """Make the line anew; without `right`, what stood there stays."""
        right = self._right = self._right if right is None else right
        pieces: list[Piece] = []
        for key, text in shown_keys(self.screen):
            pieces += [Piece(key, "bold"), Piece(f" {text}  ")]
        room = self.size.width - (cells(right) + 2 if right else 0)  # what stands at the right is never cut off
        line: Line = spread(fit_line(pieces, room), [Piece(right, "dim")] if right else [], self.size.width)
        self.show([line])

    def on_resize(self) -> None:
        """Another width has room for more keys."""
        self.update_keys()


def shown_keys(screen: Screen[object]) -> Iterable[tuple[str, str]]:
    """The keys to show, with what they do."""
    seen: set[str] = set()
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.show and active.enabled and binding.action not in seen:
            seen.add(binding.action)
            yield key_name(binding.key), binding.description


def all_keys(screen: Screen[object]) -> list[tuple[str, str, str]]:
    """Every live key of a screen: the keys, what they do, the id under which they can be changed."""
    grouped: dict[str, tuple[Binding, list[str]]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if active.enabled and binding.description and binding.id:
            grouped.setdefault(binding.action, (binding, []))[1].append(key_name(binding.key))
    return [(" ".join(keys), binding.description, binding.id or "") for binding, keys in grouped.values()]
