"""What went wrong between us and a source over HTTP, as the `SourceError` that says so. Pure.

No text made here holds a credential: an address is shown without its query and user, httpx's own words are used for
none but transport errors, and what a source says is scrubbed of everything secret that was sent to it.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Collection, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec

from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.escape import escape

RETRY_AFTER_MAX_S = 86_400.0
"""A source that asks for more than a day is asked again after a day."""
SAID_CHARACTERS_MAX = 200
"""How much of what a source says is kept in an error."""
HIDDEN = "***"
NO_ADDRESS = "an address that is none"

_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
_LACKING = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_SECRET_NAME = re.compile(r"auth|key|token|secret|passw|signature|cookie", re.IGNORECASE)
_SECRET_CHARACTERS_MIN = 4
_DIGITS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class SourceLacks(SourceRefused):
    """The source does not know what was asked for (400, 404, 410): perhaps it was there before."""


def shown(url: str) -> str:
    """An address as errors may show it: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return NO_ADDRESS
    return escape(f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}")[:SAID_CHARACTERS_MAX]


def secrets_in(url: str, *tables: Mapping[str, Any] | None) -> set[str]:
    """What must not be told, of all that goes into a request: values that look like credentials by their name, what a
    bearer or basic header carries, and the user part of an address."""
    found = {value for part in (urlsplit(url).username, urlsplit(url).password) if (value := part)}
    for table in tables:
        for name, value in (table or {}).items():
            if _SECRET_NAME.search(name):
                found |= {str(value), str(value).rpartition(" ")[2]}
    return {secret for secret in found if len(secret) >= _SECRET_CHARACTERS_MIN}


def scrubbed(text: str, secrets: Collection[str]) -> str:
    """`text` with every one of these secrets hidden, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def http_date_s(text: str | None) -> float | None:
    """An HTTP date as seconds since the epoch; None for what is none."""
    if not text:
        return None
    try:
        made = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """The seconds that a Retry-After asks for (RFC 9110, 10.2.3: seconds, or a date, which is compared with the
    source's own clock if it says the time); None without one, or for one that says nothing."""
    said = headers.get("retry-after", "").strip()
    if _DIGITS.fullmatch(said):
        return min(float(said), RETRY_AFTER_MAX_S)
    until_s = http_date_s(said)
    if until_s is None:
        return None
    source_now_s = http_date_s(headers.get("date"))
    return min(max(0.0, until_s - (now_s if source_now_s is None else source_now_s)), RETRY_AFTER_MAX_S)


def of_status(
    place: str, status: int, headers: Mapping[str, str], body: bytes, secrets: Collection[str], now_s: float
) -> SourceError:
    """The error for an answer that is no success."""
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    said = what_it_says(body, headers.get("content-type", ""), secrets)
    text = f"{place} answers {phrase}" + (f": {said}" if said else "")
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return SourceError(text, retry_after_s=retry_after_s(headers, now_s))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
        return SourceError(text)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return SourceRefused(text, hint="Check the credential and what it may read: `runtimed secret list`.")
    kind = SourceLacks if status in _LACKING else SourceRefused
    return kind(text, hint="Check the connector's options.")


def what_it_says(body: bytes, content_type: str, secrets: Collection[str]) -> str:
    """The message in an error's body, if it is there in one of the usual places: one line, bounded, scrubbed."""
    said: Any = None
    if "json" in content_type:
        try:
            said = _message_in(msgspec.json.decode(body))
        except (msgspec.DecodeError, RecursionError):
            said = None  # an error page that is broken itself: the status says enough
    elif content_type.startswith("text/plain"):
        said = body[: 4 * SAID_CHARACTERS_MAX].decode("utf-8", "replace")
    if not isinstance(said, str):
        return ""
    return escape(scrubbed(" ".join(said.split()), secrets))[:SAID_CHARACTERS_MAX]


def _message_in(answer: Any) -> Any:
    for name in ("error", "message", "error_description", "detail", "title"):
        found = answer.get(name) if isinstance(answer, dict) else None
        if isinstance(found, dict):
            found = found.get("message")
        if found:
            return found
    return None


def of_transport(place: str, error: BaseException, received: bool) -> SourceError:
    """The error for a connection that failed; `received` says that an answer had begun."""
    chain = _causes(error)
    if any(isinstance(cause, socket.gaierror) for cause in chain):
        return SourceError(f"{place}: the name does not resolve", hint="Check the address, and this host's DNS.")
    tls = next((cause for cause in chain if isinstance(cause, ssl.SSLError)), None)
    if tls is not None:
        return SourceError(
            f"{place}: TLS fails: {_tls_reason(tls)}",
            hint="Check the address and its certificate; SSL_CERT_FILE names a private authority.",
        )
    if received:
        return SourceGarbled(f"{place}: the answer was cut off in the middle")
    number = next((cause.errno for cause in chain if isinstance(cause, OSError) and cause.errno), None)
    reason = type(error).__name__ if number is None else os.strerror(number)
    return SourceError(f"{place}: the connection fails ({reason})")


def _tls_reason(error: ssl.SSLError) -> str:
    told = getattr(error, "verify_message", "") or (error.reason or "").replace("_", " ").lower()
    return escape(told or type(error).__name__)[:SAID_CHARACTERS_MAX]


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what it came from, groups opened, each once."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or one in found:
            continue
        found.append(one)
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
    return found
