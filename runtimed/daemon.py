"""The daemon: a runtime with a network, a service manager and signals round it.

Start: settings -> apps -> runtime (lock, writer, actors) -> listeners -> ready. Stop is the reverse and is written in
`_drain`: readiness fails first, the listeners close after `drain_delay`, steps get `drain_timeout` to finish, and what
is left is parked as by a crash, which costs nothing but its repetition.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio

from actors.flow.definitions import App
from runtimed import open_files
from runtimed.connectors import check_names, specs_of
from runtimed.http.access import Access, access_of
from runtimed.http.app import Edge
from runtimed.http.limits import EdgeLimits
from runtimed.http.server import HttpServer, open_listeners
from runtimed.loading import load_apps
from runtimed.logs import answer, set_up
from runtimed.notifier import notifications_of
from runtimed.opening import open_runtime, single
from runtimed.runtime import Runtime
from runtimed.service_manager import Notifier
from runtimed.settings import ConfigError, Settings, differences
from runtimed.version import VERSION
from runtimed.webhooks.specs import webhooks_of
from wal.errors import RuntimedError

log = logging.getLogger("runtimed")

# Records, letters and entries are made by the ten thousand and die young without cycles; the default threshold of 700
# would look for cycles after every few dozen steps.
GC_THRESHOLDS = (50_000, 20, 50)
LIVE = ("access.", "log.level")
"""The keys that a reload applies; all others are named as needing a restart."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def main(settings: Settings, *, again: Callable[[], Settings]) -> int:
    """Run the daemon until it is told to stop; the exit code. Errors are told in a line, not a traceback.

    `again` reads the settings once more, from where these came, flags included: for SIGHUP."""
    set_up(settings.log.level, settings.log.format)
    _forbid_cores()
    open_files.raise_limit(settings.http.max_connections)
    apps = load_apps(settings.daemon.apps, Path.cwd())
    access = access_of(settings)
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        trio.run(_serve, settings, apps, access, again)
    except BaseExceptionGroup as group:
        error = single(group)
        if isinstance(error, RuntimedError):
            raise error from None
        raise
    return 0


def _forbid_cores() -> None:
    """No core file of this process, its writer or what else it starts: secrets in use would be in it. For the daemon's
    own process: one that embeds us has its own mind about it."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except OSError as error:  # a sandbox that refuses the call
        log.warning("core files cannot be forbidden: %s", error.strerror)


class Outside:
    """What signals do while the loop does not hear them: before, what they did; once all is closed, nothing.

    Else one that comes late, such as a second SIGTERM, would have a daemon that ended cleanly die of a signal."""

    def __init__(self) -> None:
        self.closed = False

    def __enter__(self) -> Outside:
        self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:  # the interpreter's own end puts back what is a function, but not this
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: object) -> None:
        if not self.closed:
            signal.signal(number, self._former[signal.Signals(number)])
            signal.raise_signal(number)


async def _serve(settings: Settings, apps: list[App], access: Access, again: Callable[[], Settings]) -> None:
    with Outside() as outside, trio.open_signal_receiver(*SIGNALS) as signals:
        try:
            await _serve_until_told(settings, apps, access, again, signals)
        finally:
            outside.closed = True
    log.info("stopped")


async def _serve_until_told(
    settings: Settings,
    apps: list[App],
    access: Access,
    again: Callable[[], Settings],
    signals: AsyncIterator[int],
) -> None:
    notifier = Notifier()
    async with open_runtime(apps, settings.paths.data_dir, settings=settings) as runtime:
        listeners = await open_listeners(settings.http, settings.paths.socket)
        limits = EdgeLimits.from_settings(settings.http, batch_items_max=settings.limits.runs_batch_max)
        edge = Edge(
            runtime,
            access=access,
            limits=limits,
            hosts=settings.http.hosts,
            origins=settings.http.origins,
            tracer=runtime.actors.tracer,
        )
        server = HttpServer(edge.app, limits)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(lambda task_status: server.serve(listeners, task_status=task_status))
                if notifier.watchdog_interval is not None:
                    nursery.start_soon(_feed_watchdog, runtime, notifier, notifier.watchdog_interval)
                gc.collect()
                gc.freeze()  # what is here now stays: it need not be looked through again
                _tell_ready(settings, notifier, [listener.socket.getsockname() for listener in listeners])
                reload = Reload(settings, again, edge, runtime, notifier)
                await _obey(signals, settings, notifier, runtime, server, reload)
                nursery.cancel_scope.cancel()
        finally:
            settings.paths.socket.unlink(missing_ok=True)


def _tell_ready(settings: Settings, notifier: Notifier, addresses: list[object]) -> None:
    where = [str(settings.paths.socket)]
    where += [f"{a[0]}:{a[1]}" for a in addresses if isinstance(a, tuple)]
    answer(log, "runtimed %s is ready (pid %d) on %s", VERSION, os.getpid(), ", ".join(where))
    notifier.ready(f"ready; {settings.paths.data_dir}")


async def _obey(
    signals: AsyncIterator[int],
    settings: Settings,
    notifier: Notifier,
    runtime: Runtime,
    server: HttpServer,
    reload: Reload,
) -> None:
    """Do what signals say, until one of them has stopped us."""
    async with trio.open_nursery() as nursery:
        draining = False
        async for number in signals:
            if number == signal.SIGHUP:
                reload()
            elif number == signal.SIGUSR1:
                answer(log, "tasks:\n%s", task_tree())
            elif not draining:
                draining = True
                log.info("draining (%s)", signal.Signals(number).name)
                nursery.start_soon(_drain, settings, notifier, runtime, server, nursery.cancel_scope)
            else:
                log.info("hurrying (%s again)", signal.Signals(number).name)
                nursery.cancel_scope.cancel()


async def _drain(
    settings: Settings, notifier: Notifier, runtime: Runtime, server: HttpServer, done: trio.CancelScope
) -> None:
    notifier.stopping("draining")
    runtime.draining = True  # readiness fails first; what a balancer still sends is served for `drain_delay`
    await trio.sleep(settings.daemon.drain_delay)
    server.drain()
    await runtime.drain(settings.daemon.drain_timeout)
    done.cancel()


class Reload:
    """What SIGHUP does: read and check the whole configuration again, and apply what can change while running, all or
    nothing. A refusal stays visible in the health detail until a reload succeeds."""

    def __init__(
        self, settings: Settings, again: Callable[[], Settings], edge: Edge, runtime: Runtime, notifier: Notifier
    ) -> None:
        self._running, self._again = settings, again
        self._edge, self._runtime, self._notifier = edge, runtime, notifier
        self._file = settings.paths.config

    def __call__(self) -> None:
        """Do it, and tell the service manager."""
        self._notifier.reloading()
        try:
            fresh = self._again()
            self._check(fresh)
            access = access_of(fresh)
        except RuntimedError as error:
            log.warning("reload refused, nothing was changed: %s", error)
            self._stay(str(error))
            return
        except Exception as error:  # a defect of ours, and no reason to end what runs
            log.exception("reload failed, nothing was changed")
            self._stay(f"it failed ({type(error).__name__}), the log says where")
            return
        self._runtime.remarks.pop("reload", None)
        self._file = fresh.paths.config
        self._edge.access = access
        logging.getLogger().setLevel(fresh.log.level.upper())
        later = [key for key in differences(self._running, fresh) if not key.startswith(LIVE)]
        log.info("reloaded%s", f"; a restart is needed for: {', '.join(later)}" if later else "")
        self._notifier.ready("ready")

    def _check(self, fresh: Settings) -> None:
        """Raise what the next start would raise of this configuration, which must not come as news then."""
        if self._file is not None and fresh.paths.config is None:
            hint = "Put it back; to go on without one, restart."
            raise ConfigError(f"{self._file}: there is no such file any more", hint=hint)
        notifications_of(fresh)
        if fresh.daemon.apps == self._running.daemon.apps:  # else their workflows are not those that we know
            registry = self._runtime.registry
            check_names(specs_of(fresh, registry), webhooks_of(fresh, registry), registry.schedules)

    def _stay(self, why: str) -> None:
        self._runtime.remarks["reload"] = f"the last reload was refused: {why}"
        self._notifier.ready(f"reload refused: {why}")


async def _feed_watchdog(runtime: Runtime, notifier: Notifier, interval: float) -> None:
    """Feed by progress: this task shows that the loop turns, and health that the writer confirms its commits."""
    while True:
        if runtime.health().live:
            notifier.watchdog()
        await trio.sleep(interval)


def task_tree() -> str:
    """All tasks of the loop, nested as their nurseries are, each with the line it stands at."""
    lines: list[str] = []

    def walk(task: trio.lowlevel.Task, depth: int) -> None:
        frames = [f for f, _ in traceback.walk_stack(getattr(task.coro, "cr_frame", None))]
        where = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "running"
        lines.append(f"{'  ' * depth}{task.name} ({where})")
        for nursery in task.child_nurseries:
            for child in sorted(nursery.child_tasks, key=lambda each: each.name):
                walk(child, depth + 1)

    root = trio.lowlevel.current_root_task()
    if root is not None:
        walk(root, 0)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit("run `runtimed serve`")
