"""What a stream's new shape takes away from the one before: two JSON Schemas compared, as sentences. Pure.

Only what a consumer can miss counts: a property that is gone, a type that a value had and cannot have any more, a
choice that left an enumeration, other key fields. What is new or wider takes nothing away. Data itself is kept as it
was sent, so nothing here is about whether a value fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

KEY_FIELDS = "x-key-properties"
"""Where a shape holds the names of the stream's key fields."""
SENTENCES_MAX = 8
DEPTH_MAX = 32
ANYTHING = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


def narrowings(before: Any, after: Any) -> list[str]:
    """What `after` takes away from `before`, at most `SENTENCES_MAX` sentences; empty if it takes nothing away."""
    found = []
    keys = [shape.get(KEY_FIELDS) if isinstance(shape, dict) else None for shape in (before, after)]
    if keys[0] and keys[0] != keys[1]:
        found.append(f"its key was {_listed(keys[0])} and is {_listed(keys[1])}")
    for sentence in _compare(before, after, "", 0):
        found.append(sentence)
        if len(found) == SENTENCES_MAX:
            break
    return found


def _listed(names: Any) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) and names else "nothing"


def _compare(before: Any, after: Any, path: str, depth: int) -> Iterator[str]:
    if depth > DEPTH_MAX or not isinstance(before, dict) or not isinstance(after, dict):
        return
    what = f"property {path}" if path else "a record"
    had, has = _types(before), _types(after)
    lost = {kind for kind in had - has if not (kind == "integer" and "number" in has)}
    if lost:
        yield f"{what} was {_kinds(had)} and is {_kinds(has)}"
        return
    choices = _choices(before), _choices(after)
    if choices[1] is not None and (choices[0] is None or not choices[0] <= choices[1]):
        yield f"{what} may have fewer values than before"
    yield from _compare_properties(before, after, path, depth)
    for old, new in zip(_items(before), _items(after), strict=False):
        yield from _compare(old, new, f"{path}[]", depth + 1)


def _compare_properties(before: Any, after: Any, path: str, depth: int) -> Iterator[str]:
    old, new = _properties(before), _properties(after)
    for name, shape in old.items():
        inner = f"{path}.{name}" if path else str(name)
        if name in new:
            yield from _compare(shape, new[name], inner, depth + 1)
        else:
            yield f"property {inner} is gone"


def _branches(shape: dict[str, Any]) -> list[dict[str, Any]]:
    """The shape, or what it may be one of."""
    said = [shape.get(word) for word in ("anyOf", "oneOf")]
    found = [each for several in said if isinstance(several, list) for each in several if isinstance(each, dict)]
    return found or [shape]


def _types(shape: dict[str, Any]) -> frozenset[str]:
    found: set[str] = set()
    for branch in _branches(shape):
        said = branch.get("type")
        if isinstance(said, str):
            found.add(said)
        elif isinstance(said, list):
            found.update(map(str, said))
        elif "properties" in branch:
            found.add("object")
        else:
            return ANYTHING
    return frozenset(found)


def _kinds(types: frozenset[str]) -> str:
    return "anything" if types == ANYTHING else " or ".join(sorted(types))


def _choices(shape: dict[str, Any]) -> set[str] | None:
    said = shape.get("enum")
    return {repr(choice) for choice in said} if isinstance(said, list) else None


def _properties(shape: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for branch in _branches(shape):
        said = branch.get("properties")
        if isinstance(said, dict):
            found.update(said)
    return found


def _items(shape: dict[str, Any]) -> list[Any]:
    return [branch["items"] for branch in _branches(shape) if isinstance(branch.get("items"), dict)][:1]
