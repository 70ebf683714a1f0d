"""Checks at the doors: ids, text, scopes and payloads, each refused with a sentence that names what was expected."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from actors import messages as m
from actors.connector_spec import ConnectorSpec
from actors.errors import InvalidId, InvalidInput
from actors.flow.definitions import NAME, Workflow
from actors.flow.descriptions import unfit
from wal.errors import RuntimedError
from wal.views import LAST_US

STATE_SCOPE = re.compile(r"(global|(tenant|session|run):[A-Za-z0-9._:-]{1,200})\Z")
PRIORITY_MAX = 1_000_000


def check_id(value: str, what: str) -> str:
    """The id, or InvalidId naming what it is the id of."""
    if not NAME.match(value):
        raise InvalidId(f"{what} {value[:80]!r}: expected 1 to 200 characters of A-Z a-z 0-9 . _ : -")
    return value


def check_words(message: m.Message, attributes_max_bytes: int) -> None:
    """Refuse what could not be written down: text that is no UTF-8, attributes that are no JSON or too many. From the
    network nothing of the kind arrives; a program that embeds us may hand in anything. Raises InvalidInput."""
    if is_plain(message, attributes_max_bytes):
        return
    for name in message.__struct_fields__:
        value = getattr(message, name)
        try:
            if type(value) is str:
                if not value.isascii():
                    value.encode()
            elif type(value) is dict and value and len(msgspec.json.encode(value)) > attributes_max_bytes:
                raise ValueError(f"over the limit of {attributes_max_bytes} bytes")
            elif type(value) is m.Origin:
                check_words(value, attributes_max_bytes)
        except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is one of these
            raise InvalidInput(f"$.{name}: it cannot be written down: {error}") from None


def is_plain(message: m.Message, size_max_bytes: int) -> bool:
    """Whether all of a message can be written down and is no larger than this: then nothing in it is wrong or too
    large, which is nearly always so, and takes one pass. If not, what it is has to be looked for."""
    try:
        return len(msgspec.json.encode(message)) <= size_max_bytes
    except (TypeError, ValueError, RecursionError):
        return False


def check_start(start_at: int | None, priority: int) -> None:
    """Refuse an instant that no date can show and a priority that no index can hold. Raises InvalidInput."""
    if start_at is not None and not 0 <= start_at <= LAST_US:
        raise InvalidInput(f"$.start_at: {start_at}: expected microseconds since 1970, up to the year 9999")
    if abs(priority) > PRIORITY_MAX:
        raise InvalidInput(f"$.priority: {priority}: expected -{PRIORITY_MAX} to {PRIORITY_MAX}")


def check_scope(scope: str) -> str:
    """A scope of the state surface, or InvalidInput."""
    if not STATE_SCOPE.match(scope):
        raise InvalidInput(f"state scope {scope[:80]!r}: expected global, tenant:NAME, session:ID or run:ID")
    return scope


def decode_input(workflow: Workflow, data: Raw) -> Any:
    """A run's input as the workflow's type. Raises InvalidInput naming the path and what was expected."""
    try:
        return workflow.input.decode(data)
    except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
        raise InvalidInput(f"the input of {workflow.name}: {at_path(error, '$.input', workflow.input.type)}") from None


def at_path(error: Exception, root: str, kind: Any) -> str:
    """Why a value does not decode as this type, with the path as seen from the request's own root."""
    text = unfit(error, kind)
    before, mark, path = text.rpartition(" - at `$")
    return f"{before} - at `{root}{path}" if mark else f"{text} - at `{root}`"


def problem(error: RuntimedError) -> m.ProblemData:
    """A refusal as data."""
    return m.ProblemData(status=error.status, code=error.code, detail=str(error), hint=error.hint)


def check_cursor(spec: ConnectorSpec | None, cursor: Raw) -> None:
    """Raise InvalidInput unless the cursor is JSON of the type that the connector's code takes, or null."""
    try:
        if msgspec.json.decode(cursor) is not None:
            msgspec.json.decode(cursor, type=Any if spec is None else spec.cursor_type)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"$.cursor: {error}") from None
