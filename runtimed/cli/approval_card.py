"""An approval as a card of text: what is asked, who may decide, what silence means; all from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runtimed.cli.shell import Shell
from runtimed.cli.text import cell, instant, status

DETAIL_LINES_MAX = 40
"""A detail of more fields is shown as JSON: the card must not scroll its own head away."""
_RISK_STYLES: dict[str, dict[str, Any]] = {"high": {"fg": "red", "bold": True}, "medium": {"fg": "yellow"}}


def lines(shell: Shell, approval: dict[str, Any]) -> Iterator[str]:
    """The card, line by line."""
    risk = shell.style(f"{approval['risk'].upper()} risk", **_RISK_STYLES.get(approval["risk"], {}))
    title = shell.style(cell(approval["title"]), bold=True)
    yield f"approval {cell(approval['id'])}  {title}  {risk}  {status(shell, approval['status'])}"
    pairs = [*_facts(approval), *_votes(approval), *_payload(approval)]
    longest = max(len(name) for name, _ in pairs)
    for name, text in pairs:
        yield f"  {shell.style(name.ljust(longest), dim=True)}  {text}"


def _facts(approval: dict[str, Any]) -> Iterator[tuple[str, str]]:
    run = f"run {cell(approval['run_id'])} of {cell(approval['workflow'])}, call {cell(approval['call'])}"
    yield "asked by", f"{run}, since {instant(approval['requested_at'])}"
    roles = " or ".join(cell(role) for role in approval["roles"])
    who = f"those with the role {roles}" if roles else "all who may approve"
    yield "for", who + (", but not who started the run" if approval["four_eyes"] else "")
    if approval["expires_at"] is not None:
        yield "if silent", f"refused at {instant(approval['expires_at'])}"
    if approval["decided_at"] is not None:
        yield "closed", f"{approval['status']} at {instant(approval['decided_at'])}"


def _votes(approval: dict[str, Any]) -> Iterator[tuple[str, str]]:
    votes = approval["votes"]
    yield "votes", f"{sum(vote['approve'] for vote in votes)} of {approval['quorum']} needed"
    for vote in votes:
        who = cell(vote["by"]) + (f" ({cell(vote['via'])})" if vote["via"] else "")
        said = f'  "{cell(vote["reason"])}"' if vote["reason"] else ""
        yield "", f"{who} {'approved' if vote['approve'] else 'refused'} at {instant(vote['at'])}{said}"


def _payload(approval: dict[str, Any]) -> Iterator[tuple[str, str]]:
    detail = approval["detail"]
    if isinstance(detail, dict) and 0 < len(detail) <= DETAIL_LINES_MAX:
        longest = max(len(cell(name)) for name in detail)
        for number, (name, value) in enumerate(detail.items()):
            yield "" if number else "detail", f"{cell(name).ljust(longest)}  {cell(value)}"
    elif detail is not None:
        yield "detail", cell(detail)
    for number, text in enumerate(form_lines(approval["form"])):
        yield "" if number else "form", text
    yield "payload", f"sha256 {cell(approval['payload_hash'])}"


def form_lines(form: Any) -> list[str]:
    """What a form asks for, a line a field: name, type, and whether it must be there."""
    if form is None:
        return []
    schema = _resolved(form, form)
    fields = schema.get("properties")
    if not isinstance(fields, dict):
        return [_type_of(schema, form)]
    required = schema.get("required", ())
    return [
        f"{cell(name)}: {_type_of(_resolved(kind, form), form)}{' (required)' if name in required else ''}"
        for name, kind in fields.items()
    ]


def _resolved(schema: Any, root: Any) -> dict[str, Any]:
    """The schema itself, or what its reference within the document names."""
    reference = schema.get("$ref", "") if isinstance(schema, dict) else ""
    found = root.get("$defs", {}).get(str(reference).removeprefix("#/$defs/")) if reference else schema
    return found if isinstance(found, dict) else {}


def _type_of(schema: dict[str, Any], root: Any) -> str:
    if "enum" in schema:
        return " | ".join(cell(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type_of(_resolved(each, root), root) for each in schema["anyOf"])
    return cell(schema.get("type", "any"))
