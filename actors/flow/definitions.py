"""What users declare: App, step, compensation, workflow, and the retry policy. A registry is a value; no globals."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal, overload

import msgspec
from msgspec import Raw

from actors.connector_spec import (
    ConnectorSpec,
    Verify,
    WebhookSpec,
    check_timing,
    cursor_type_of,
    deliver_to,
)
from actors.errors import DefinitionError, DuplicateName, Failure
from actors.flow.signatures import Signature, check_function, check_transaction, decoder_of
from actors.schedules import Catchup, ScheduleSpec
from actors.schedules import check as check_schedule

Delivery = Literal["at_least_once", "at_most_once"]
_T = typing.TypeVar("_T")
NAME = re.compile(r"[A-Za-z0-9._:-]{1,200}\Z")


WAIT_MAX_S = 1e10
"""The longest wait, some 317 years: an instant beyond the year 9999 could be neither kept nor told."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """When to try a step again. Intervals are seconds; `jitter` is the share by which each is varied at random.

    `max_duration` bounds all attempts together, from the first one's start; `non_retryable` are exception classes
    that end the step at once.
    """

    max_attempts: int = 5
    initial_interval: float = 0.5
    backoff_coefficient: float = 2.0
    max_interval: float = 30.0
    jitter: float = 0.2
    max_duration: float | None = None
    non_retryable: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        checks = {
            "max_attempts": self.max_attempts >= 1,
            "initial_interval": 0 <= self.initial_interval <= WAIT_MAX_S,
            "backoff_coefficient": self.backoff_coefficient >= 1,
            "max_interval": 0 <= self.max_interval <= WAIT_MAX_S,
            "jitter": 0 <= self.jitter <= 1,
            "max_duration": self.max_duration is None or self.max_duration > 0,
        }
        for name, holds in checks.items():
            if not holds:
                raise DefinitionError(f"Retry.{name} = {getattr(self, name)!r} is out of range")


NO_RETRY = Retry(max_attempts=1)


def _check_name(name: str, what: str) -> str:
    if not NAME.match(name):
        raise DefinitionError(f"{what} name {name!r} is not 1 to 200 characters of A-Z a-z 0-9 . _ : -")
    return name


class Step:
    """A recorded call out of a workflow, made by `@app.step` or `@app.transaction`. Calling it runs the function
    plainly (for tests)."""

    def __init__(
        self,
        app: App,
        fn: Callable[..., Any],
        *,
        name: str | None,
        retry: Retry,
        timeout: float | None,
        heartbeat_timeout: float | None,
        delivery: Delivery,
        transaction: bool = False,
    ) -> None:
        check_function(fn, "transaction" if transaction else "step")
        if transaction:
            check_transaction(fn)
        self.app, self.fn, self.retry, self.timeout, self.delivery = app, fn, retry, timeout, delivery
        self.heartbeat_timeout, self.transaction = heartbeat_timeout, transaction
        self.name = _check_name(name or fn.__name__, "step")
        self.is_async = inspect.iscoroutinefunction(fn)
        self.signature = Signature(fn, given=int(transaction))
        self.undo: Step | None = None
        self.on_unknown = False
        self.__doc__, self.__name__, self.__wrapped__ = fn.__doc__, fn.__name__, fn
        if delivery not in ("at_least_once", "at_most_once"):
            raise DefinitionError(f"step {self.name}: delivery {delivery!r} is not at_least_once or at_most_once")
        if delivery == "at_most_once" and retry.max_attempts > 1:
            raise DefinitionError(f"step {self.name}: at_most_once takes no max_attempts over 1")
        for label, seconds in (("timeout", timeout), ("heartbeat_timeout", heartbeat_timeout)):
            if seconds is not None and not seconds > 0:  # also what is no number
                raise DefinitionError(f"step {self.name}: {label} {seconds!r} is not above 0 seconds")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    @overload
    def compensation(self, fn: Callable[..., Any], /) -> Step: ...
    @overload
    def compensation(
        self,
        fn: None = None,
        *,
        name: str | None = None,
        on_unknown: bool = False,
        retry: Retry | None = None,
        timeout: float | None = None,
        transaction: bool | None = None,
    ) -> Callable[[Callable[..., Any]], Step]: ...
    def compensation(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        on_unknown: bool = False,
        retry: Retry | None = None,
        timeout: float | None = None,
        transaction: bool | None = None,
    ) -> Any:
        """Declare what undoes this step: a function of the step's result, then the step's own arguments.

        With `on_unknown` it is called, with None for the result, also when the step was cancelled, timed out or
        failed for good, because it may have acted all the same. With `transaction` it is one, and takes that first;
        unless told otherwise, what undoes a transaction is one. Works bare and with arguments."""
        within = self.transaction if transaction is None else transaction
        if on_unknown and self.transaction:
            raise DefinitionError(f"transaction {self.name}: on_unknown has no sense, for it has acted or it has not")
        if timeout is not None and within:
            raise DefinitionError(f"the compensation of {self.name} is a transaction, which nothing can time out")

        def declare(undo: Callable[..., Any]) -> Step:
            if self.undo is not None:
                raise DuplicateName(f"step {self.name} has the compensation {self.undo.name} already")
            if within:
                made = self.app.transaction(name=name, retry=retry)(undo)
            else:
                made = self.app.step(name=name, retry=retry or Retry(), timeout=timeout)(undo)
            self.undo, self.on_unknown = made, on_unknown
            return made

        return declare if fn is None else declare(fn)


def is_missing(name: str) -> DefinitionError:
    """What each attempt of a step fails with that nobody has registered."""
    return DefinitionError(f"no step {name!r} is registered; register it, or say by `runs resolve` that it is done")


async def _is_missing(name: str, *args: Any, **kwargs: Any) -> None:
    raise is_missing(name)


def missing_step(name: str, undo: Step | None = None, *, at_most_once: bool = False) -> Step:
    """In place of a step that records name and nobody has registered: each attempt of it fails, and says so.

    With `at_most_once` an attempt may be in flight, begun by the code that is gone, which must not be repeated."""
    found = Step(
        App("missing"), _is_missing, name=name, retry=Retry(max_attempts=1), timeout=None, heartbeat_timeout=None,
        delivery="at_most_once" if at_most_once else "at_least_once",
    )  # fmt: skip
    found.fn, found.signature, found.undo = partial(_is_missing, name), Signature(_is_missing, given=1), undo
    return found


class Workflow:
    """An async function whose only awaits are ctx calls, made by `@app.workflow`."""

    def __init__(
        self,
        app: App,
        fn: Callable[..., Any],
        *,
        name: str | None,
        version: str | None,
        signals: Mapping[str, Any],
        fails_on: tuple[type[BaseException], ...],
    ) -> None:
        check_function(fn, "workflow")
        if not inspect.iscoroutinefunction(fn):
            raise DefinitionError(f"workflow {fn.__name__} is not an async function")
        parameters = list(inspect.signature(fn).parameters.values())
        if not 1 <= len(parameters) <= 2:
            raise DefinitionError(
                f"workflow {fn.__name__} takes (ctx) or (ctx, input), not {len(parameters)} parameters"
            )
        self.app, self.fn, self.version = app, fn, version
        self.name = _check_name(name or fn.__name__, "workflow")
        self.signals = dict(signals)
        self.fails_on: tuple[type[BaseException], ...] = (Failure, *fails_on)
        self.takes_input = len(parameters) == 2
        self._input_name = parameters[1].name if self.takes_input else ""
        self._signature = Signature(fn)
        self.__doc__, self.__name__, self.__wrapped__ = fn.__doc__, fn.__name__, fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"

    @cached_property
    def input(self) -> msgspec.json.Decoder[Any]:
        """Decodes a run's input; a workflow without one takes only null."""
        hint = self._signature.hints.get(self._input_name, Any) if self.takes_input else None
        return decoder_of(hint, f"the input of {self.name}")

    @cached_property
    def result(self) -> msgspec.json.Decoder[Any]:
        return self._signature.result

    @cached_property
    def signal_decoders(self) -> dict[str, msgspec.json.Decoder[Any]]:
        return {name: decoder_of(kind, f"signal {name} of {self.name}") for name, kind in self.signals.items()}

    def check(self) -> None:
        """Resolve everything now; raises DefinitionError."""
        _ = self.input, self.result, self.signal_decoders


class App:
    """A named set of steps and workflows."""

    def __init__(self, name: str = "app") -> None:
        self.name = _check_name(name, "app")
        self.steps: dict[str, Step] = {}
        self.workflows: dict[str, Workflow] = {}
        self.connectors: dict[str, ConnectorSpec] = {}
        self.webhooks: dict[str, WebhookSpec] = {}
        self.schedules: dict[str, ScheduleSpec] = {}

    def __repr__(self) -> str:
        return f"<App {self.name}: {len(self.workflows)} workflows, {len(self.steps)} steps>"

    @overload
    def step(self, fn: Callable[..., Any], /) -> Step: ...
    @overload
    def step(
        self,
        fn: None = None,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        heartbeat_timeout: float | None = None,
        delivery: Delivery = "at_least_once",
    ) -> Callable[[Callable[..., Any]], Step]: ...
    def step(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        heartbeat_timeout: float | None = None,
        delivery: Delivery = "at_least_once",
    ) -> Any:
        """Declare a step, `async def` (runs on trio) or `def` (runs in a thread). Works bare and with arguments.

        `timeout` is per attempt and `heartbeat_timeout` between heartbeats, in seconds. An `at_most_once` step is not
        run again after a crash: its run becomes blocked and a person resolves it."""
        policy = retry or (NO_RETRY if delivery == "at_most_once" else Retry())

        def declare(target: Callable[..., Any]) -> Step:
            made = Step(
                self,
                target,
                name=name,
                retry=policy,
                timeout=timeout,
                heartbeat_timeout=heartbeat_timeout,
                delivery=delivery,
            )
            return _register(self.steps, made.name, made, f"app {self.name}: step")

        return declare if fn is None else declare(fn)

    @overload
    def transaction(self, fn: Callable[..., Any], /) -> Step: ...
    @overload
    def transaction(
        self, fn: None = None, *, name: str | None = None, retry: Retry | None = None
    ) -> Callable[[Callable[..., Any]], Step]: ...
    def transaction(
        self, fn: Callable[..., Any] | None = None, *, name: str | None = None, retry: Retry | None = None
    ) -> Any:
        """Declare a step that reads and writes state and does nothing else: a plain function of a `Transaction`, then
        its arguments. What it wrote, its result and the record of that are one commit, so it happens exactly once, and
        one transaction comes after the other. It runs in the loop: it must be quick, and wait for nothing.

        Called by `ctx.step`. If it raises, nothing is written. It is not tried again unless `retry` says so, for its
        answer is the same until the state is another. Works bare and with arguments."""

        def declare(target: Callable[..., Any]) -> Step:
            made = Step(
                self,
                target,
                name=name,
                retry=retry or NO_RETRY,
                timeout=None,
                heartbeat_timeout=None,
                delivery="at_least_once",
                transaction=True,
            )
            return _register(self.steps, made.name, made, f"app {self.name}: step")

        return declare if fn is None else declare(fn)

    @overload
    def workflow(self, fn: Callable[..., Any], /) -> Workflow: ...
    @overload
    def workflow(
        self,
        fn: None = None,
        *,
        name: str | None = None,
        version: str | None = None,
        signals: Mapping[str, Any] = ...,
        fails_on: tuple[type[BaseException], ...] = (),
    ) -> Callable[[Callable[..., Any]], Workflow]: ...
    def workflow(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        version: str | None = None,
        signals: Mapping[str, Any] = {},
        fails_on: tuple[type[BaseException], ...] = (),
    ) -> Any:
        """Declare a workflow. `signals` types its signals by name; `fails_on` lists exceptions that, besides
        `Failure`, fail the run instead of blocking it. Works bare and with arguments."""

        def declare(target: Callable[..., Any]) -> Workflow:
            made = Workflow(self, target, name=name, version=version, signals=signals, fails_on=fails_on)
            return _register(self.workflows, made.name, made, f"app {self.name}: workflow")

        return declare if fn is None else declare(fn)

    def connector(
        self,
        *,
        key: str,
        deliver: Workflow | str = "records",
        every: float = 30.0,
        name: str | None = None,
        timeout: float = 60.0,
        run_id_from: str | None = None,
        credential: str | None = None,
        rate: int | None = None,
        rate_period: float = 1.0,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a poller: an async generator of one `Poll` that yields `Page`s. `every` and `timeout` are seconds.

        `key` is the path of the dedup key in each record; `deliver` a workflow, `workflow:NAME`, `signal:NAME` (to the
        run that the field `run_id_from` names) or `records`. Raises DefinitionError, DuplicateName."""

        def declare(fn: Callable[..., Any]) -> Callable[..., Any]:
            made = _check_name(name or fn.__name__, "connector")
            if not key:
                raise DefinitionError(f"connector {made} has no dedup key", hint='Say which field is it: key="id".')
            check_timing(made, every, timeout)
            spec = ConnectorSpec(
                name=made, source=fn, deliver=deliver_to(deliver, run_id_from), every=every, key=key,
                cursor_type=cursor_type_of(fn), timeout=timeout, credential=credential, rate=rate,
                rate_period=rate_period,
            )  # fmt: skip
            _register(self.connectors, made, spec, f"app {self.name}: connector")
            return fn

        return declare

    def schedule(
        self,
        *,
        every: float | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
        input: Any = None,
        name: str | None = None,
        catchup: Catchup = "last",
    ) -> Callable[[Workflow], Workflow]:
        """Start a workflow at times: `every` so many seconds, or by a `cron` expression in a `timezone`. Stands above
        `@app.workflow`; a workflow may have several, each with a `name` of its own (default: the workflow's).

        `catchup` says what becomes of what was missed while nothing ran: `last` (the latest one), `all`, or `none`.
        Raises DefinitionError, DuplicateName."""

        def declare(workflow: Workflow) -> Workflow:
            if not isinstance(workflow, Workflow):
                raise DefinitionError(f"a schedule is of a workflow, not of {workflow!r}", hint="Put it on top.")
            made = _check_name(name or workflow.name, "schedule")
            spec = ScheduleSpec(
                name=made, workflow=workflow.name, every=every, cron=cron, timezone=timezone,
                input=Raw(msgspec.json.encode(input)), catchup=catchup,
            )  # fmt: skip
            check_schedule(spec)
            _register(self.schedules, made, spec, f"app {self.name}: schedule")
            return workflow

        return declare

    def webhook(
        self,
        *,
        deliver: Workflow | str = "records",
        verify: Verify = "standard",
        secrets: Sequence[str] = (),
        key: str | None = None,
        name: str | None = None,
        tolerance: float = 300.0,
        run_id_from: str | None = None,
        keep_headers: Sequence[str] = (),
        keep_body: bool = False,
    ) -> Callable[[_T], _T]:
        """Declare a webhook at `POST /v1/webhooks/NAME`; decorates a class or function, whose name it takes.

        `secrets` (`secret:NAME`) are all active; `key` is the path of the delivery's id in the body, default the
        provider's header; `tolerance` is seconds. Raises DefinitionError, DuplicateName."""

        def declare(target: _T) -> _T:
            made = _check_name(name or str(getattr(target, "__name__", "")), "webhook")
            spec = WebhookSpec(
                name=made, deliver=deliver_to(deliver, run_id_from), verify=verify, secrets=tuple(secrets), key=key,
                tolerance=tolerance, keep_headers=tuple(keep_headers), keep_body=keep_body,
            )  # fmt: skip
            _register(self.webhooks, made, spec, f"app {self.name}: webhook")
            return target

        return declare

    def check(self) -> None:
        """Resolve every annotation now, so that a wrong declaration shows at load; raises DefinitionError."""
        for step in self.steps.values():
            step.signature.check()
        for workflow in self.workflows.values():
            workflow.check()
        for schedule in self.schedules.values():
            self._check_schedule(schedule)

    def _check_schedule(self, schedule: ScheduleSpec) -> None:
        workflow = self.workflows.get(schedule.workflow)
        if workflow is None:
            raise DefinitionError(f"schedule {schedule.name}: app {self.name} has no workflow {schedule.workflow!r}")
        try:
            workflow.input.decode(schedule.input)
        except Exception as error:
            text = f"schedule {schedule.name}: its input does not fit {workflow.name}: {error}"
            raise DefinitionError(text, hint="Say input=... with what the workflow takes.") from error


def _register(table: dict[str, _T], name: str, value: _T, what: str) -> _T:
    if name in table:
        raise DuplicateName(f"{what} {name!r} is declared twice")
    table[name] = value
    return value


class Registry:
    """The steps and workflows of all apps that one runtime runs; names are unique across them."""

    def __init__(self, *apps: App) -> None:
        self.apps = apps
        self.steps: dict[str, Step] = {}
        self.workflows: dict[str, Workflow] = {}
        self.connectors: dict[str, ConnectorSpec] = {}
        self.webhooks: dict[str, WebhookSpec] = {}
        self.schedules: dict[str, ScheduleSpec] = {}
        for app in apps:
            app.check()
            for step in app.steps.values():
                _register(self.steps, step.name, step, "step")
            for workflow in app.workflows.values():
                _register(self.workflows, workflow.name, workflow, "workflow")
            for connector in app.connectors.values():
                _register(self.connectors, connector.name, connector, "connector")
            for webhook in app.webhooks.values():
                _register(self.webhooks, webhook.name, webhook, "webhook")
            for schedule in app.schedules.values():
                _register(self.schedules, schedule.name, schedule, "schedule")
