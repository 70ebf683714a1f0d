"""Which actors there are, what each is given, and in which order they start: written here, once."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from actors import messages as m
from actors.advance_marker import AdvanceMarker
from actors.answers import Answers
from actors.clock import Clock
from actors.connector_poller import ConnectorPoller, Tools
from actors.connector_spec import SecretSource
from actors.connectors import Connectors
from actors.errors import HistoryUnreadable, SecretMissing
from actors.feed import Feed
from actors.flow.definitions import Registry
from actors.gil_gate import GilGate
from actors.ids import Ids
from actors.journal_link import Link
from actors.mailbox import Mailbox
from actors.queues import QueueSpec
from actors.saga_commands import SagaCommands
from actors.saga_coordinator import ReadyRuns, SagaCoordinator
from actors.saga_engine import EngineLimits, SagaEngine
from actors.schedules import connector_of
from actors.session_manager import SessionManager
from actors.state_table import StateTable
from actors.statistics import StepStatistics
from actors.step_runner import StepRunner
from actors.supervisor import Supervisor
from actors.supervisor_spec import ChildSpec, SupervisorSpec
from actors.timers import Timers
from actors.token_desk import TokenDesk
from actors.wal_writer import WalWriter
from runtimed.connectors import specs_of
from runtimed.connectors.polls import PollMaker
from runtimed.notifier import Notifier, notifications_of
from runtimed.readers import Readers
from runtimed.runtime_tokens import Tokens
from runtimed.secret_store import SecretStore
from runtimed.settings import Settings
from runtimed.settling import Settling
from runtimed.tracing import TracedPoller, TracedStepRunner, open_tracer, traced_ends
from wal import records as r
from wal.queries import Reader

SESSION_COMMANDS = (m.OpenSession, m.TouchSession, m.CloseSession, m.CreateToken, m.RevokeToken)


class Actors:
    """The actors of one runtime and what they share. `root` is their supervisor."""

    def __init__(
        self,
        *,
        registry: Registry,
        settings: Settings,
        link: Link,
        readers: Readers,
        clock: Clock,
        gate: GilGate,
        marker_path: Path | None,
        dice: random.Random,
        recheck_s: float,
        secrets: SecretStore | None = None,
        data_dir: Path | None = None,
    ) -> None:
        self.secrets = secrets
        limits = settings.limits
        self._registry, self._clock, self._dice = registry, clock, dice
        self._reader: Reader = readers.on_loop
        self._limits = EngineLimits(
            runs_active_max=limits.runs_active_max,
            payload_max_bytes=limits.payload_max_bytes,
            crashed_attempts_max=limits.crashed_attempts_max,
            history_records_max=limits.history_records_max,
            park_after_s=limits.park_after,
        )
        self._queues = {
            name: QueueSpec(concurrency=queue.concurrency, rate=queue.rate, rate_period=queue.rate_period)
            for name, queue in settings.queues.items()
        }
        self._marker = AdvanceMarker(marker_path)
        self.feed = Feed(link.head.seq)
        self.settling = Settling()
        self.steps = StepStatistics()
        self.writer = WalWriter(
            link,
            clock,
            self.feed,
            batch_records_max=limits.batch_records_max,
            batch_bytes_max=limits.batch_bytes_max,
            farewell=r.DaemonStopped(),
        )
        self.tokens = Tokens(data_dir, self._reader, self.writer, clock)
        self.answers = Answers(self._reader, self.writer.append, self.writer.when_durable)
        self.tracer = open_tracer(settings.telemetry)
        self.runner = self._make_runner(settings, gate)
        runs_mailbox = Mailbox("coordinator", limits.mailbox_size)
        self.timers = Timers(self._reader, clock, self.writer, runs_mailbox.report, recheck_s)
        self.coordinator = SagaCoordinator(runs_mailbox, self._reader, readers.read, self._make_engine)
        self._new_id = Ids(clock, dice)
        self.sessions = SessionManager(
            Mailbox("sessions", limits.mailbox_size),
            self._reader,
            self.writer,
            clock,
            self.answers,
            runs_mailbox.tell,
            self._new_id,
            TokenDesk(self._reader, self.writer, clock, self.tokens.reload),
            recheck_s,
        )
        # The runtime knows: whether there is room on the disk, and what a secret is.
        self.has_room: Callable[[], bool] = lambda: True
        self.secret: SecretSource = _no_secret
        self.connectors = self._connect(settings, readers, data_dir)
        self.notifiers = {
            name: Notifier(name, spec, self.feed, readers.read, runs_mailbox.ask)
            for name, spec in notifications_of(settings).items()
        }
        self.root = self._supervise()

    def _make_runner(self, settings: Settings, gate: GilGate) -> StepRunner:
        limits = settings.limits
        kind = StepRunner if self.tracer is None else partial(TracedStepRunner, tracer=self.tracer)
        return kind(
            steps_max=limits.steps_concurrent_max,
            threads_max=limits.threads_max,
            cancel_grace_s=limits.step_cancel_grace,
            payload_max_bytes=limits.payload_max_bytes,
            gate=gate,
            statistics=self.steps,
        )

    def _connect(self, settings: Settings, readers: Readers, data_dir: Path | None) -> Connectors:
        specs = specs_of(settings, self._registry)
        for schedule in self._registry.schedules.values():
            spec = connector_of(schedule, self._clock.now_us)
            specs[spec.name] = spec
        ask = self.coordinator.mailbox.ask
        secret = lambda name: self.secret(name)  # noqa: E731, PLW0108 - another is put in its place later
        self.polls = PollMaker(specs, self._clock, secret, ask, readers.read, data_dir)
        tools = Tools(
            reader=self._reader,
            writer=self.writer,
            clock=self._clock,
            ask=ask,
            chance=self._dice.random,
            make_poll=self.polls,
            has_room=lambda: self.has_room(),  # noqa: PLW0108 - another is put in its place later
            piece_bytes_max=settings.limits.batch_bytes_max // 2,
        )
        make = ConnectorPoller if self.tracer is None else partial(TracedPoller, self.tracer)
        return Connectors(specs, tools, make)

    def _make_engine(self, ready: ReadyRuns) -> tuple[SagaEngine, SagaCommands]:
        engine = SagaEngine(
            registry=self._registry,
            writer=self.writer,
            runner=self.runner,
            timers=self.timers,
            state=StateTable(self._reader, self.writer.when_durable),
            clock=self._clock,
            limits=self._limits,
            marker=self._marker,
            settled=traced_ends(self.tracer, self._reader, self.settling.settled),
            dice=self._dice,
            queues=self._queues,
        )
        commands = SagaCommands(
            engine, self._reader, self.answers, ready, self._new_id, self.connectors.specs, self.connectors.changed
        )
        return engine, commands

    def _supervise(self) -> Supervisor:
        """The tree. A crash of the coordinator restarts what works for it too, because their attempts and timers are
        of its life; the writer is never restarted, because the outcome of its last batch is unknown."""
        engine = Supervisor(
            "engine",
            SupervisorSpec(
                strategy="one_for_all",
                children=(
                    ChildSpec(name="steps", run=self.runner.run, statistics=_figures(self.runner.statistics)),
                    ChildSpec(name="timers", run=self.timers.run, statistics=lambda: {"armed": len(self.timers)}),
                    ChildSpec(
                        name="coordinator",
                        run=self.coordinator.run,
                        fatal=(HistoryUnreadable,),  # it was tried for longer than restarts are counted together
                        mailbox=self.coordinator.mailbox,
                        statistics=_figures(self.coordinator.statistics),
                    ),
                ),
            ),
            chance=self._dice.random,
        )
        notifications = (self._notifications(),) if self.notifiers else ()
        connectors = (self.connectors.supervisor().as_child(),) if self.connectors.specs else ()
        return Supervisor(
            "root",
            SupervisorSpec(
                strategy="rest_for_one",
                children=(
                    ChildSpec(
                        name="journal",
                        run=self.writer.run,
                        fatal=(Exception,),
                        shutdown_timeout_s=60.0,
                        statistics=_figures(self.writer.statistics),
                    ),
                    engine.as_child(),
                    ChildSpec(name="sessions", run=self.sessions.run, mailbox=self.sessions.mailbox),
                    *connectors,
                    *notifications,
                ),
            ),
            chance=self._dice.random,
        )

    def _notifications(self) -> ChildSpec:
        children = tuple(
            ChildSpec(name=name, run=each.run, statistics=lambda each=each: {"seq": each.seq})  # type: ignore[misc]
            for name, each in self.notifiers.items()
        )
        return Supervisor("notifications", SupervisorSpec(children=children), chance=self._dice.random).as_child()

    def close(self) -> None:
        """Give up what is open beside the journal. The actors have ended."""
        self._marker.close()

    def mailbox_of(self, command: m.Message) -> Mailbox:
        """Where a command goes."""
        return self.sessions.mailbox if isinstance(command, SESSION_COMMANDS) else self.coordinator.mailbox


def _no_secret(name: str) -> str:
    raise SecretMissing(f"there is no secret {name!r}")


def _figures(statistics: Any) -> Any:
    return lambda: msgspec.to_builtins(statistics())
