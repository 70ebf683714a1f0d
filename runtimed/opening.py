"""Opening a runtime: everything started in the order of the floors, and stopped in reverse.

    lock -> writer process -> readers -> actors (journal, engine, sessions, connectors) -> yours; then drain and back

Whatever fails on the way up is undone as far as it had come, and leaves as itself.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from actors import errors as e
from actors.clock import Clock, SystemClock
from actors.flow.definitions import App, Registry
from actors.gil_gate import GilGate
from actors.journal_link import InlineLink, Link, ProcessLink
from runtimed import builtin
from runtimed.assembly import Actors
from runtimed.readers import Readers
from runtimed.runtime import Runtime
from runtimed.secret_store import SecretStore
from runtimed.settings import Settings
from runtimed.siblings import check_siblings
from runtimed.version import VERSION
from wal import records as r
from wal.errors import JournalRefused, RuntimedError
from wal.journal import Journal
from wal.lock import DataFolderLock
from wal.options import JournalOptions

COMMIT_TIMEOUT_S = 30.0


@asynccontextmanager
async def open_runtime(
    app: App | Iterable[App],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    settings: Settings | None = None,
    writer: str = "process",
    clock: Clock | None = None,
    seed: int | None = None,
) -> AsyncIterator[Runtime]:
    """Open a runtime on a data folder; leaving the block drains and stops it.

    `writer` is `process` (its own process, the default), `inline` (in this one: slower, for small embeddings), or
    `memory` (nothing on disk, for tests; then no `data_dir`). `clock` and `seed` are for tests on virtual time. Raises
    JournalLocked if another runtime has the folder, JournalRefused, DefinitionError; and from the block, whatever ended
    the runtime (CommitFailed, WriterGone, SupervisionFailed).
    """
    check_siblings()
    settings = settings or Settings()
    registry = Registry(builtin.app, *([app] if isinstance(app, App) else app))
    folder = _folder(data_dir, writer)
    lock = DataFolderLock(folder) if folder is not None else None
    try:
        link, source = await _open_link(folder, writer, settings)
        try:
            gate = GilGate()
            readers = Readers(source, settings.journal.readers_max, gate)
            try:
                virtual = clock is not None
                actors = Actors(
                    registry=registry,
                    settings=settings,
                    link=link,
                    readers=readers,
                    clock=clock or SystemClock(),
                    gate=gate,
                    marker_path=folder / "advancing" if folder is not None else None,
                    dice=random.SystemRandom() if seed is None else random.Random(seed),
                    recheck_s=float("inf") if virtual else 1.0,
                    secrets=None if folder is None else SecretStore(folder),
                    data_dir=folder,
                )
                with contextlib.closing(actors):
                    made = Runtime(actors, readers, registry, settings, clock or SystemClock())
                    async with running(made, folder, link) as rt:
                        yield rt
            finally:
                readers.close()
        finally:
            with trio.CancelScope(shield=True):
                await link.close()
    finally:
        if lock is not None:
            lock.release()


def _folder(data_dir: str | os.PathLike[str] | None, writer: str) -> Path | None:
    if writer == "memory":
        return None
    if data_dir is None:
        raise e.DefinitionError("open_runtime needs a data folder, unless writer='memory'")
    folder = Path(data_dir).absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        hint = "Name a folder that can be written with --data-dir; `runtimed doctor` looks closer."
        raise JournalRefused(f"the data folder {folder} cannot be made: {error.strerror}", hint=hint) from error
    return folder


async def _open_link(folder: Path | None, writer: str, settings: Settings) -> tuple[Link, Path | Journal]:
    if folder is None:
        journal = Journal.open(None)
        return InlineLink(journal), journal
    path = folder / "journal.db"
    options = JournalOptions(
        ballast_bytes=settings.journal.ballast_bytes,
        wal_max_bytes=settings.journal.wal_max_bytes,
        external=settings.journal.checkpoint == "external",
    )
    if writer == "inline":
        return InlineLink(Journal.open(path, options)), path
    return await ProcessLink.start(path, options, COMMIT_TIMEOUT_S), path


@asynccontextmanager
async def running(runtime: Runtime, folder: Path | None, link: Link) -> AsyncIterator[Runtime]:
    """Start the actors, give the runtime out, drain, stop. What ended the actors leaves here as itself."""
    token = builtin.RUNTIME.set(runtime)  # tasks take it along: steps of ours find the runtime that runs them
    try:
        async with trio.open_nursery() as nursery:
            runtime.measure(folder)
            runtime.actors.writer.append(r.DaemonStarted(VERSION, os.getpid(), link.head.clean))
            await nursery.start(runtime.root.run)
            nursery.start_soon(runtime.watch, folder)
            await nursery.start(runtime.care.run)
            if runtime.actors.tracer is not None:
                nursery.start_soon(runtime.actors.tracer.run)
            nursery.start_soon(link.lost)
            runtime.started = True
            try:
                yield runtime
            finally:
                # A daemon has drained by now, or is in a hurry; and what has failed need not be waited for.
                over = runtime.draining or nursery.cancel_scope.cancel_called
                with trio.CancelScope(shield=True):
                    await runtime.drain(0.0 if over else runtime.settings.daemon.drain_timeout)
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single(group) from None
    finally:
        builtin.RUNTIME.reset(token)
        with trio.CancelScope(shield=True):
            await runtime.actors.polls.aclose()


def single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error in a group, at any depth: a supervisor's failure gives way to the crash that no restart cures."""
    leaves = list(_leaves(group))
    for leaf in leaves:
        if isinstance(leaf, e.SupervisionFailed) and isinstance(leaf.__cause__, RuntimedError):
            return leaf.__cause__
    real: Sequence[BaseException] = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
    return real[0] if len(real) == 1 else group


def _leaves(error: BaseException) -> Iterable[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
