"""Settles what a source says about its streams: wider is taken over, narrower is for a person to decide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Raw

from actors import messages as m
from actors.connector_spec import Ask
from actors.errors import SchemaNarrowed, SourceError, SourceGarbled
from actors.shapes import narrowings

ACCEPT_SHAPE = "runtimed.accept_shape"
"""The workflow that asks people; `runtimed/builtin.py` has it."""
ASKED_MAX = 1_000
"""So many times may people be asked about the same change, each time after the one before was refused."""
SENTENCE_CHARACTERS_MAX = 500


class ShapeDesk:
    """The shapes of one connector's streams. `known(connector, stream)` reads the one last taken over; `ask` takes
    commands, and answers when what they did is durable."""

    def __init__(self, connector: str, ask: Ask, known: Callable[[str, str], Awaitable[Raw | None]]) -> None:
        self._connector, self._ask, self._known = connector, ask, known
        self._settled: dict[str, bytes] = {}  # sources say the same again and again

    async def settle(self, stream: str, shape: Raw) -> None:
        """Take the shape over, if it takes nothing away. Raises SchemaNarrowed otherwise, with the connector paused
        and an approval open; SourceGarbled if it is no JSON object."""
        said = bytes(shape)
        if self._settled.get(stream) == said:
            return
        after = _decoded(stream, said)
        known = await self._known(self._connector, stream)
        before = None if known is None else msgspec.json.decode(known)
        if before is not None and (lost := narrowings(before, after)):
            await self._stand(stream, shape, lost)
        if before != after:
            await self._ask(m.NoteShape(connector=self._connector, stream=stream, shape=Raw(said)))
        self._settled[stream] = said

    async def _stand(self, stream: str, shape: Raw, lost: list[str]) -> None:
        """Pause first: whoever says yes resumes the connector, and nothing may pause it after that."""
        sentence = f"stream {stream} narrows: {'; '.join(lost)}"[:SENTENCE_CHARACTERS_MAX]
        await self._ask(m.PauseConnector(name=self._connector, reason=sentence))
        change = {"connector": self._connector, "stream": stream, "narrowed": lost, "shape": shape}
        await self._open_approval(Raw(msgspec.json.encode(change)))
        raise SchemaNarrowed(sentence, hint="An approval is open; see `runtimed approvals list`.")

    async def _open_approval(self, change: Raw) -> None:
        """One open run for one change: whoever crashed here and comes again finds it by its id."""
        digest = blake2b(bytes(change), digest_size=8).hexdigest()
        for number in range(1, ASKED_MAX + 1):
            item = m.StartRun(workflow=ACCEPT_SHAPE, input=change, id=f"{ACCEPT_SHAPE}:{digest}.{number}")
            started: m.StartedRuns = await self._ask(m.StartRuns(items=[item]))
            answer = started.items[0]
            if answer.run is None:
                why = "" if answer.problem is None else answer.problem.detail
                raise SourceError(f"nobody can be asked about a stream that narrows: {why}")
            if answer.created or answer.run.ended_at is None:
                return


def _decoded(stream: str, shape: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(shape, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise SourceGarbled(f"the schema of stream {stream} is no JSON object: {error}") from None
