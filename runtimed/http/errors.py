"""What the HTTP edge itself refuses: each error with its status, its code and what to do."""

from __future__ import annotations

from actors.errors import InvalidInput, NotAllowed, NotFound
from wal.errors import RuntimedError


class BadRequest(InvalidInput):
    """The request is not well-formed."""

    code = "bad_request"


class InvalidJson(InvalidInput):
    """The body is not JSON in UTF-8."""

    code = "invalid_json"


class RouteNotFound(NotFound):
    """There is no such route."""

    code = "route_not_found"
    hint = "GET /openapi.json lists the routes."


class StateNotFound(NotFound):
    """There is no value under this key."""

    code = "state_not_found"


class ActorNotFound(NotFound):
    """There is no actor with this path."""

    code = "actor_not_found"
    hint = "GET /v1/actors lists them."


class MethodNotAllowed(RuntimedError):
    """The route does not take this method."""

    status = 405
    code = "method_not_allowed"
    exit_code = 2

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class Unauthorised(RuntimedError):
    """This address serves probes and metrics only; the rest needs a token."""

    status = 401
    code = "unauthorised"
    exit_code = 6
    hint = "Send `Authorization: Bearer TOKEN` (`runtimed token create NAME --role ROLE`), or use the unix socket."


class TokenRefused(Unauthorised):
    """The request's token is worth nothing."""

    code = "token_refused"


class TooManyGuesses(RuntimedError):
    """This address has shown too many wrong tokens."""

    status = 429
    code = "too_many_guesses"
    exit_code = 75
    hint = "Send a token that counts: it is taken at once."

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotOnList(NotAllowed):
    """The caller's level does not reach."""

    hint = "Give it that level in [access.levels], use a token with that role, or act as the daemon's user."


class ForeignOrigin(NotAllowed):
    """Requests from web pages are refused."""

    code = "foreign_origin"
    hint = "List the page's origin in http.origins if it is meant to call."


class ForeignHost(RuntimedError):
    """The request names another host."""

    status = 421
    code = "foreign_host"
    exit_code = 6
    hint = "List the host's name in http.hosts if it is meant to be served."


class UnsupportedMediaType(RuntimedError):
    """The body's type is not JSON."""

    status = 415
    code = "unsupported_media_type"
    exit_code = 2
    hint = "Send `Content-Type: application/json`."


class BodyTooLarge(RuntimedError):
    """The request's body is larger than `http.body_max_bytes`."""

    status = 413
    code = "body_too_large"
    exit_code = 2
    hint = "Send less at once, or raise http.body_max_bytes."


class BatchTooLarge(RuntimedError):
    """The batch has more items than `limits.runs_batch_max`, or more bytes than one commit takes."""

    status = 413
    code = "batch_too_large"
    exit_code = 2
    hint = "Send several batches."


class BodyTooSlow(RuntimedError):
    """The request's body did not arrive within `http.body_timeout`."""

    status = 408
    code = "body_too_slow"
    exit_code = 7


class BodiesFull(RuntimedError):
    """Too many request bodies are being received at once."""

    status = 503
    code = "overloaded"
    exit_code = 75
    hint = "Try again later."


class TooManyStreams(RuntimedError):
    """Too many event streams are open."""

    status = 429
    code = "too_many_streams"
    exit_code = 75
    hint = "Close one first; one stream tells of all records."


class BindFailed(RuntimedError):
    """The address or the socket cannot be listened on."""

    code = "bind_failed"
    exit_code = 78
    hint = "Look at http.bind and at the rights of the socket's folder."


class ClientGone(Exception):
    """The client left before its request was whole; nothing was done and nobody waits for an answer."""
