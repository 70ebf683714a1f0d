"""Whose fault it is that a poll ended badly: the source's, the connector's code's, or nobody's; and how to tell it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from actors.connector_spec import Page
from actors.errors import (
    ActorRestarted,
    ConnectorHeld,
    Draining,
    MailboxFull,
    Overloaded,
    SecretMissing,
    SecretsRefused,
    SourceError,
)

ERROR_CHARACTERS_MAX: Final = 1_000
FAILURES: Final = (
    SourceError,
    SecretMissing,
    SecretsRefused,
    OSError,
    TimeoutError,
    trio.TooSlowError,
    trio.BrokenResourceError,
)
"""What is the source's fault, or heals from outside; any other exception is a crash of the connector's code."""
OURS: Final = (ActorRestarted, ConnectorHeld, Draining, MailboxFull, Overloaded)
"""What says that the runtime does not take anything just now: nobody's fault."""


@asynccontextmanager
async def closing(pages: AsyncIterator[Page]) -> AsyncIterator[AsyncIterator[Page]]:
    """Close a source at the end. One that holds a nursery open over its `yield` wraps the GeneratorExit by which
    Python closes it into a group, which Python then takes for an error."""
    try:
        yield pages
    finally:
        close = getattr(pages, "aclose", None)
        if close is not None:
            try:
                await close()
            except BaseExceptionGroup as group:
                rest = group.split(GeneratorExit)[1]
                if rest is not None:
                    raise rest from None


def leaves_of(error: BaseException) -> list[BaseException]:
    """The errors in a group, at any depth, in their order."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves_of(part)]
    return [error]


def grouped(errors: list[Exception]) -> Exception:
    """One error for several, the first of which is what broke the poll off."""
    return errors[0] if len(errors) == 1 else ExceptionGroup("a poll", errors)


def described(error: BaseException) -> str:
    """An error in words for people: ours by its message, others with their type."""
    text = str(error)
    if not isinstance(error, SourceError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text.encode(errors="replace").decode()[:ERROR_CHARACTERS_MAX]
