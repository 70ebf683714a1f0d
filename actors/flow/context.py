"""ctx: what a workflow may await, and the few things it may ask without waiting."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from actors.errors import DefinitionError, InvalidId, InvalidInput
from actors.flow.approval import (
    QUORUM_MAX,
    RISKS,
    TITLE_CHARACTERS_MAX,
    ApprovalCall,
    Risk,
    form_schema,
)
from actors.flow.calls import (
    ANY,
    PLAIN_BYTES_MAX,
    RUN_SCOPE,
    Call,
    Cancelled,
    ContinueCall,
    EmitCall,
    GroupCall,
    Parked,
    SignalCall,
    StateGet,
    StatePut,
    StepCall,
    TimerCall,
    check_payload,
    close_item,
    encode,
    payload,
)
from actors.flow.child import Child, ChildResultCall, ChildStartCall
from actors.flow.definitions import NAME, WAIT_MAX_S, Step, Workflow
from actors.flow.fibers import REFUSALS_MAX, Scope
from wal import records as r
from wal.views import FIRST_US, LAST_US

if TYPE_CHECKING:
    from actors.flow.driver import Flow
    from actors.flow.run_info import RunInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {Any: ANY}
DECODERS_MAX = 1_000

LogSink = Callable[[int, str, tuple[Any, ...], dict[str, Any]], None]


def decoder_for(kind: Any) -> msgspec.json.Decoder[Any]:
    """The JSON decoder of a type, kept for the next time (at most `DECODERS_MAX` of them)."""
    try:
        found = DECODERS.get(kind)
    except TypeError:  # an unhashable annotation
        return msgspec.json.Decoder(kind)
    if found is None:
        found = msgspec.json.Decoder(kind)
        if len(DECODERS) < DECODERS_MAX:
            DECODERS[kind] = found
    return found


class Log:
    """The run's log. Quiet while the run is replayed, so that a line is written once."""

    def __init__(self, flow: Flow, sink: LogSink) -> None:
        self._flow, self._sink = flow, sink

    def _write(self, level: int, message: str, args: tuple[Any, ...], extra: dict[str, Any]) -> None:
        if not self._flow.replaying and not self._flow.closing:
            self._sink(level, message, args, extra)

    def debug(self, message: str, *args: Any, **extra: Any) -> None:
        self._write(10, message, args, extra)

    def info(self, message: str, *args: Any, **extra: Any) -> None:
        self._write(20, message, args, extra)

    def warning(self, message: str, *args: Any, **extra: Any) -> None:
        self._write(30, message, args, extra)

    def error(self, message: str, *args: Any, **extra: Any) -> None:
        self._write(40, message, args, extra)


class StateScope:
    """One scope of the versioned key-value state surface."""

    def __init__(self, ctx: Context, scope: str) -> None:
        self._ctx, self._scope = ctx, scope

    def get(self, key: str, type: Any = Any, default: Any = None) -> Call:
        """Await the value, decoded to `type`, or `default`."""
        self._check(key)
        return StateGet(self._scope, key, decoder_for(type), default, versioned=False)

    def get_versioned(self, key: str, type: Any = Any, default: Any = None) -> Call:
        """Await `(value, version)`; the version of what does not exist is 0."""
        self._check(key)
        return StateGet(self._scope, key, decoder_for(type), default, versioned=True)

    def put(self, key: str, value: Any, expect_version: int | None = None) -> Call:
        """Await a write; gives the new version. Raises VersionConflict where `expect_version` does not hold."""
        flow = self._check(key)
        return StatePut(self._scope, key, payload(value, flow.payload_max_bytes, f"state {key}"), expect_version)

    def delete(self, key: str, expect_version: int | None = None) -> Call:
        """Await a deletion; gives the version it ended at."""
        self._check(key)
        return StatePut(self._scope, key, None, expect_version)

    def _check(self, key: str) -> Flow:
        if not NAME.match(key):
            raise InvalidId(f"state key {key!r} is not 1 to 200 characters of A-Z a-z 0-9 . _ : -")
        return self._ctx._live()


class SagaBlock:
    """`async with ctx.saga():` undoes just what completed inside, if a failure or a cancellation leaves it."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._scope: Scope | None = None

    async def __aenter__(self) -> None:
        fiber = self._flow.current
        self._scope = fiber.scope = Scope(fiber.scope)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        flow, scope = self._flow, self._scope
        assert scope is not None and scope.parent is not None
        if flow.closing:
            return
        fiber = flow.current
        fiber.scope = scope.parent
        if isinstance(error, Cancelled):
            undoes = not error.by_defect
        else:  # a fiber that a bug elsewhere ended may have made a failure of that
            ended_by = fiber.cancelled
            undoes = error is not None and flow.is_failure(error) and not (ended_by and ended_by.by_defect)
        if undoes:
            await flow.compensate(scope)


class Context:
    """The only thing that a workflow awaits. Made by the runtime; one for each run."""

    def __init__(self, flow: Flow, sink: LogSink) -> None:
        self._flow = flow
        self.of_run(flow.info)
        self.log = Log(flow, sink)
        self._refused = 0

    def of_run(self, info: RunInfo) -> None:
        """From now on this is the run that the code is of (a fork begins as the run whose past it has)."""
        self.run_id, self.workflow, self.session_id = info.id, info.workflow, info.session_id
        self.tenant, self.trace_id = info.tenant, info.trace_id

    def _live(self) -> Flow:
        """The flow, unless the run is being put away: then there is nobody to answer, and this raises at once."""
        flow = self._flow
        if flow.closing:
            self._refused += 1
            if self._refused <= REFUSALS_MAX:
                raise Parked("the run is being put away; effects belong in steps, not in finally blocks")
        return flow

    def _live_with(self, calls: tuple[Any, ...]) -> Flow:
        """The same for a group: what was handed in is closed if nobody will run it."""
        try:
            return self._live()
        except Parked:
            for call in calls:
                close_item(call)
            raise

    # --- calls

    def step(self, step: Any, *args: Any, **kwargs: Any) -> Call:
        """Await a step's result; it runs, or is recalled from the records.

        Raises StepFailed when its attempts are used up, PayloadTooLarge and TypeError for unfit arguments."""
        flow = self._flow
        if flow.closing:
            flow = self._live()
        if type(step) is not Step or flow.steps.get(step.name) is not step:
            raise _not_a_step(step)
        step.signature.accepts(args, kwargs)
        recorded = encode((args, kwargs))
        if len(recorded) > PLAIN_BYTES_MAX:
            check_payload(recorded, flow.payload_max_bytes, f"the arguments of {step.name}")
        return StepCall(step, Raw(recorded), -1 if kwargs else len(args))

    def sleep(self, seconds: float) -> Call:
        """Await a durable timer of so many seconds."""
        self._live()
        if not 0 <= seconds <= WAIT_MAX_S:
            raise ValueError(f"ctx.sleep({seconds!r}): expected 0 to 1e10 seconds")
        return TimerCall(float(seconds), None)

    def sleep_until(self, instant: datetime) -> Call:
        """Await an instant (an aware datetime); one that is past is awaited no time. Raises ValueError where UTC has no
        such year any more."""
        self._live()
        if instant.tzinfo is None:
            raise ValueError("ctx.sleep_until needs an aware datetime; give it a tzinfo")
        at = (instant - EPOCH) // timedelta(microseconds=1)
        if at > LAST_US:
            raise ValueError(f"ctx.sleep_until {instant}: in UTC that is after the year 9999")
        return TimerCall(None, max(at, FIRST_US))

    def signal(self, name: str, type: Any = None, timeout: float | None = None) -> Call:
        """Await the next buffered or future signal of that name. Raises SignalTimeout (a TimeoutError)."""
        flow = self._live()
        if not NAME.match(name):
            raise InvalidId(f"signal name {name!r} is not 1 to 200 characters of A-Z a-z 0-9 . _ : -")
        assert flow.workflow is not None
        kind = type if type is not None else flow.workflow.signals.get(name, Any)
        if timeout is not None and not 0 <= timeout <= WAIT_MAX_S:
            raise ValueError(f"ctx.signal timeout {timeout!r}: expected 0 to 1e10 seconds")
        return SignalCall(name, decoder_for(kind), None if timeout is None else float(timeout))

    def approval(
        self,
        title: str,
        *,
        detail: Any = None,
        roles: Sequence[str] = (),
        quorum: int = 1,
        timeout: float | None = None,
        form: Any = None,
        risk: Risk = "low",
        four_eyes: bool = False,
    ) -> Call:
        """Await people's decision: a `Decision`.

        `roles` name who may decide (anyone allowed to decide, if empty), `quorum` how many different people must say
        yes (one no refuses). After `timeout` seconds it is refused by nobody. `form` is a type that an approver fills
        in; with `four_eyes` who started the run may not decide."""
        flow = self._live()
        if not 1 <= len(title) <= TITLE_CHARACTERS_MAX:
            raise ValueError(f"an approval's title has 1 to {TITLE_CHARACTERS_MAX} characters")
        if not 1 <= quorum <= QUORUM_MAX:
            raise ValueError(f"an approval's quorum is 1 to {QUORUM_MAX}, not {quorum!r}")
        if risk not in RISKS:
            raise ValueError(f"an approval's risk is one of {', '.join(RISKS)}, not {risk!r}")
        if timeout is not None and not 0 <= timeout <= WAIT_MAX_S:
            raise ValueError(f"ctx.approval timeout {timeout!r}: expected 0 to 1e10 seconds")
        if isinstance(roles, str):
            raise TypeError(f"roles is a list of names, not the text {roles!r}")
        return ApprovalCall(
            title,
            detail=payload(detail, flow.payload_max_bytes, "an approval's detail"),
            roles=list(roles),
            quorum=quorum,
            timeout=None if timeout is None else float(timeout),
            form=form_schema(form),
            decoder=None if form is None else decoder_for(form),
            risk=risk,
            four_eyes=four_eyes,
        )

    def start_child(self, workflow: Workflow | str, input: Any = None, *, id: str | None = None) -> Call:
        """Await that a child is started: a run of its own, in the commit that says so. Gives a `Child` with `id` and
        `result()`. It goes on when this run ends, and is cancelled when this run is cancelled.

        Raises InvalidInput where the input does not fit, and InvalidId; DefinitionError for what is no workflow here.
        """
        return self._child_call(workflow, input, id, owns=False)

    def child(self, workflow: Workflow | str, input: Any = None, *, id: str | None = None) -> Coroutine[Any, Any, Any]:
        """Run a child and await its result, as its workflow's type. Leaving the wait (a lost race, a cancellation)
        cancels it. Raises ChildFailed if it ends without a result, else as `start_child` does."""
        return _run_child(self._child_call(workflow, input, id, owns=True))

    def _child_call(self, workflow: Workflow | str, input: Any, id: str | None, *, owns: bool) -> ChildStartCall:
        flow = self._live()
        name = workflow if isinstance(workflow, str) else getattr(workflow, "name", None)
        found = flow.workflows.get(str(name))
        if found is None or not isinstance(workflow, (str, Workflow)):
            raise DefinitionError(f"ctx.child takes a workflow that this runtime runs, not {workflow!r}")
        if id is not None and not NAME.match(id):
            raise InvalidId(f"child id {id[:80]!r}: expected 1 to 200 characters of A-Z a-z 0-9 . _ : -")
        given = payload(input, flow.payload_max_bytes, f"the input of {found.name}")
        try:
            found.input.decode(given)
        except Exception as error:
            raise InvalidInput(f"the input of {found.name} does not fit: {error}") from error

        def handle(call: ChildStartCall) -> Child:
            key, child_id = call.key, call.child_id
            return Child(child_id, found.name, lambda: ChildResultCall(found, key, child_id, owns))

        return ChildStartCall(found, given, id, handle)

    def continue_as_new(self, input: Any = None) -> Coroutine[Any, Any, Any]:
        """End this history, and begin the workflow anew under the same id, with another input: for a run that goes on
        for ever. Signals that nobody has asked for go with it; what was done so far is not undone any more. Children
        that it only started are left to themselves, and cancelled if the run is cancelled.

        Never returns. Await it in the workflow itself, not in a branch of a gather or race (DefinitionError). Raises
        InvalidInput where the input does not fit."""
        flow = self._live()
        workflow = flow.workflow
        assert workflow is not None
        given = payload(input, flow.payload_max_bytes, "the new input")
        try:
            workflow.input.decode(given)
        except Exception as error:
            raise InvalidInput(f"the new input does not fit {workflow.name}: {error}") from error
        if flow.current.group is not None:
            raise DefinitionError("ctx.continue_as_new was called in a branch of a gather or race")
        return _continue(flow, ContinueCall(given))

    def emit(self, value: Any) -> Call:
        """Await that a value is appended to the run's output stream."""
        flow = self._live()
        return EmitCall(payload(value, flow.payload_max_bytes, "an emitted value"))

    def gather(self, *calls: Call | GroupCall | Coroutine[Any, Any, Any]) -> GroupCall:
        """Await all results, in order. The first failure cancels the rest and is raised when all have ended."""
        self._live_with(calls)
        return GroupCall(_branches(calls), None)

    def race(self, *, undo_losers: bool = False, **calls: Call | GroupCall | Coroutine[Any, Any, Any]) -> GroupCall:
        """Await `(name, result)` of the first to end. The others are cancelled; what they completed all the same is
        undone only if their scope fails, or with `undo_losers`."""
        flow = self._live_with(tuple(calls.values()))
        if not calls:
            raise ValueError("ctx.race needs at least one call")
        undo = partial(_undo_losers, flow) if undo_losers else None
        return GroupCall(_branches(tuple(calls.values())), tuple(calls), undo)

    def saga(self) -> SagaBlock:
        """A block that compensates just itself if a failure leaves it."""
        return SagaBlock(self._live())

    # --- state

    @property
    def state(self) -> StateScope:
        """The run's own state."""
        return StateScope(self, RUN_SCOPE)

    @property
    def session_state(self) -> StateScope:
        """The state of the run's session."""
        if self.session_id is None:
            raise DefinitionError("this run belongs to no session", hint="Start it with a session_id.")
        return StateScope(self, f"session:{self.session_id}")

    @property
    def tenant_state(self) -> StateScope:
        """The state of the run's tenant."""
        if self.tenant is None:
            raise DefinitionError("this run belongs to no tenant", hint="Start it in a session that has a tenant.")
        return StateScope(self, f"tenant:{self.tenant}")

    @property
    def global_state(self) -> StateScope:
        """The state that all runs share."""
        return StateScope(self, "global")

    # --- without waiting

    def add_compensation(self, step: Step, *args: Any, **kwargs: Any) -> None:
        """Put an undo of your own on the scope's stack: `step` will be called with exactly these arguments."""
        flow = self._live()
        if type(step) is not Step or flow.steps.get(step.name) is not step:
            raise _not_a_step(step)
        step.signature.accepts(args, kwargs)
        flow.add_undo(step, payload((args, kwargs), flow.payload_max_bytes, f"the arguments of {step.name}"))

    def set_attributes(self, **attributes: Any) -> None:
        """Merge searchable attributes into the run's."""
        flow = self._live()
        data = msgspec.json.decode(payload(attributes, flow.payload_max_bytes, "the attributes"))
        flow.note(lambda key: r.AttributesSet(key, data))

    def patched(self, change_id: str) -> bool:
        """True where the run takes the new branch of a changed workflow; False in runs that had gone past it before."""
        return self._live().patched(change_id)

    def now(self) -> datetime:
        """The instant of the last thing that happened to this run; the same in every replay."""
        return EPOCH + timedelta(microseconds=self._live().now_us)

    def random(self) -> float:
        """A number in [0, 1), the same in every replay."""
        flow = self._live()
        flow.random_count += 1
        return int.from_bytes(self._seed("random", flow.random_count)[:7], "big") / (1 << 56)

    def uuid(self) -> uuid.UUID:
        """A version-4-shaped UUID, the same in every replay."""
        flow = self._live()
        flow.uuid_count += 1
        return uuid.UUID(bytes=self._seed("uuid", flow.uuid_count)[:16], version=4)

    def _seed(self, what: str, count: int) -> bytes:
        seed = f"{self.run_id}/{self._flow.info.generation}/{what}/{count}"
        return hashlib.blake2b(seed.encode(), digest_size=16).digest()


async def _continue(flow: Flow, call: ContinueCall) -> Any:
    await flow.settle_all()  # of what is in flight nobody would hear any more
    return await call


async def _run_child(call: ChildStartCall) -> Any:
    started = await call
    return await started.result()


def _not_a_step(thing: Any) -> Exception:
    if isinstance(thing, Step):
        return DefinitionError(
            f"step {thing.name!r} belongs to app {thing.app.name!r}, which this runtime does not run",
            hint="Load that app too, or declare the step on this app.",
        )
    return TypeError(f"ctx.step takes a function declared with @app.step, not {thing!r}")


def _branches(calls: tuple[Any, ...]) -> tuple[Any, ...]:
    for call in calls:
        if not isinstance(call, (Call, GroupCall)) and not hasattr(call, "cr_frame"):
            for other in calls:
                close_item(other)
            raise TypeError(f"gather and race take ctx calls or coroutines, not {call!r}")
    return calls


async def _undo_losers(flow: Flow, group: GroupCall, error: Exception | None) -> None:
    """What the losers completed, once all of them have ended. A defect undoes nothing, and neither does a parent that
    was cancelled meanwhile: what is round it decides."""
    if flow.current.cancelled is None and (error is None or flow.is_failure(error)):
        for scope in group.loser_scopes:
            await flow.compensate(scope)
