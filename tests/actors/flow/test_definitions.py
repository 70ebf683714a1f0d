"""What users declare: functions that can be found again, names, retry policies, arguments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors.connector_spec import Deliver, Page, Poll
from actors.errors import DefinitionError, DuplicateName
from actors.flow.context import Context
from actors.flow.definitions import App, Registry, Retry, Step, Workflow
from tests.actors.flow.harness import Run, Traced, raw


class Item(msgspec.Struct, frozen=True):
    id: str
    count: int = 1


async def step_one(item: Item, n: int = 2) -> Item:
    return item


def step_two(*items: Item, note: str = "", **more: Item) -> None: ...


async def step_three(a: int, /, b: int, *, c: int = 3) -> int:
    return a + b + c


async def no_types(a, b=1):  # type: ignore[no-untyped-def]
    return a


async def bad_types(a: NotThere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


async def two_unions(a: Item | Context) -> None: ...


async def flow_one(ctx: Context, item: Item) -> Item:
    return item


async def flow_none(ctx: Context) -> None: ...


def not_async(ctx: Context) -> None: ...


async def too_many(ctx: Context, a: int, b: int) -> None: ...


async def too_few() -> None: ...


class Methods:
    async def step(self) -> None: ...

    @staticmethod
    async def static() -> None: ...


def closure() -> Any:
    async def inner() -> None: ...

    return inner


async def undo(result: Any, item: Item) -> None: ...


other_app = App("other")


@other_app.step
async def foreign() -> None: ...


app = App("definitions")


@app.workflow
async def calls_foreign(ctx: Traced) -> None:
    await ctx.step(foreign)


@pytest.mark.parametrize("fn", [closure(), lambda: None, Methods.step, Methods.static, Methods().step, len, Methods])
def test_steps_and_workflows_are_module_level_functions(fn: Any) -> None:
    """Closures, lambdas, methods and classes are refused with a sentence: they cannot be found after a restart."""
    for declare in (App().step, App().workflow):
        with pytest.raises(DefinitionError, match="function"):
            declare(fn)


def test_decorators_work_bare_and_with_arguments() -> None:
    """`@app.step`, `@app.step(...)`, `@app.workflow` and `@app.workflow(...)` all register under a name."""
    one = App()
    bare = one.step(step_one)
    named = one.step(name="another", timeout=2.5, heartbeat_timeout=1)(step_two)
    assert isinstance(bare, Step)
    assert one.steps == {"step_one": bare, "another": named}
    assert (bare.is_async, named.is_async) == (True, False)
    assert (named.timeout, named.heartbeat_timeout) == (2.5, 1)
    assert bare.__name__ == "step_one"
    flow = one.workflow(flow_one)
    other = one.workflow(name="none", version="2", signals={"go": str})(flow_none)
    assert isinstance(flow, Workflow)
    assert one.workflows == {"flow_one": flow, "none": other}
    assert (other.version, other.signal_decoders["go"].decode(b'"x"')) == ("2", "x")
    assert repr(one) == "<App app: 2 workflows, 2 steps>"


def test_a_step_can_be_called_plainly() -> None:
    """Calling a step or a workflow runs its function, so that a user can test it."""
    one = App()
    coro = one.step(step_one)(Item("a"))
    with pytest.raises(StopIteration) as stop:
        coro.send(None)
    assert stop.value.value == Item("a")
    assert one.step(step_two)() is None


def transact(tx: Any, item: Item, n: int = 2) -> Item:
    return item


def transact_back(tx: Any, result: Any, item: Item) -> None: ...


def no_transaction(*, item: Item) -> None: ...


def yields(tx: Any) -> Any:
    yield 1


async def yields_too(tx: Any) -> Any:
    yield 1


def test_a_transaction_is_a_step_of_what_follows_the_transaction() -> None:
    """Its first parameter is no argument of the call; it is tried once unless told otherwise."""
    one = App()
    made = one.transaction(transact)
    named = one.transaction(name="other", retry=Retry(max_attempts=3))(transact)
    assert one.steps == {"transact": made, "other": named}
    assert (made.transaction, made.retry.max_attempts, named.retry.max_attempts) == (True, 1, 3)
    assert not one.step(step_one).transaction
    made.signature.check()
    made.signature.accepts((Item("a"),), {"n": 3})
    assert made.signature.decode(raw([[{"id": "a"}], {"n": 3}])) == ([Item("a")], {"n": 3})
    for args, kwargs in (((), {}), ((Item("a"), 1, 2), {}), ((Item("a"),), {"tx": 1})):
        with pytest.raises(TypeError, match="transact"):
            made.signature.accepts(args, kwargs)
    assert made("tx", Item("a")) == Item("a")


@pytest.mark.parametrize("fn", [closure(), lambda tx: None, Methods.step, len])
def test_a_transaction_is_a_module_level_function(fn: Any) -> None:
    """As a step is: one that cannot be found after a restart is refused."""
    with pytest.raises(DefinitionError, match="function"):
        App().transaction(fn)


@pytest.mark.parametrize("fn", [step_one, flow_none, yields, yields_too])
def test_a_transaction_waits_for_nothing(fn: Any) -> None:
    """Async functions and generators are refused with a sentence that says why."""
    with pytest.raises(DefinitionError, match="is not a plain function") as refused:
        App().transaction(fn)
    assert "cannot wait" in str(refused.value.hint)


@pytest.mark.parametrize("fn", [no_transaction])
def test_a_transaction_takes_the_transaction(fn: Any) -> None:
    """There must be a parameter for it, and it comes first."""
    with pytest.raises(DefinitionError, match="first parameter"):
        App().transaction(fn)


def test_what_undoes_a_transaction_is_one() -> None:
    """Unless told otherwise; what undoes a step may be one. What has no sense for it is refused."""
    one = App()
    back = one.transaction(transact).compensation(transact_back)
    assert (back.transaction, back.retry.max_attempts) == (True, 1)
    plain = one.transaction(name="a")(transact).compensation(transaction=False, timeout=1.0, name="b")(undo)
    assert (plain.transaction, plain.retry.max_attempts) == (False, 5)
    within = one.step(step_one).compensation(transaction=True, on_unknown=True, name="c")(transact_back)
    assert within.transaction
    with pytest.raises(DefinitionError, match="on_unknown"):
        one.transaction(name="d")(transact).compensation(on_unknown=True)
    with pytest.raises(DefinitionError, match="time out"):
        one.transaction(name="e")(transact).compensation(timeout=1.0)
    with pytest.raises(DefinitionError, match="not a plain function"):
        one.transaction(name="f")(transact).compensation(undo)


def test_duplicate_names_are_refused() -> None:
    """Two steps, two workflows or two compensations of one name are one too many, across apps too."""
    one, two = App("one"), App("two")
    made = one.step(step_one)
    with pytest.raises(DuplicateName):
        one.step(step_one)
    one.workflow(flow_one)
    with pytest.raises(DuplicateName):
        one.workflow(name="flow_one")(flow_none)
    made.compensation(undo)
    with pytest.raises(DuplicateName):
        made.compensation(name="undo2")(undo)
    two.step(step_one)
    with pytest.raises(DuplicateName, match="step_one"):
        Registry(one, two)


def test_a_registry_holds_all_apps() -> None:
    """A runtime runs several apps whose names do not meet; a step and a workflow may share one."""
    one, two = App("one"), App("two")
    one.step(step_one)
    two.workflow(name="step_one")(flow_one)
    both = Registry(one, two)
    assert list(both.steps) == ["step_one"]
    assert list(both.workflows) == ["step_one"]


@pytest.mark.parametrize("name", ["", "a b", "é", "a/b", "x" * 201, "a\n"])
def test_names_have_a_small_alphabet(name: str) -> None:
    """Names are 1 to 200 characters of A-Z a-z 0-9 . _ : -; an empty one takes the function's."""
    for declare in (App().step, App().workflow):
        if name:
            with pytest.raises(DefinitionError, match="1 to 200"):
                declare(name=name)(flow_none)
    if name:
        with pytest.raises(DefinitionError):
            App(name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0}, {"initial_interval": -1}, {"backoff_coefficient": 0.5}, {"max_interval": -0.1},
        {"jitter": 1.1}, {"jitter": -0.1}, {"max_duration": 0}, {"initial_interval": float("nan")},
        {"max_duration": float("nan")}, {"backoff_coefficient": float("nan")}, {"initial_interval": 1e13},
        {"max_interval": float("inf")},
    ],
)  # fmt: skip
def test_a_retry_policy_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    """Each number of a retry policy is checked where it is declared, by name."""
    with pytest.raises(DefinitionError, match=next(iter(wrong))):
        Retry(**wrong)


def test_the_default_policy_is_the_contract_s() -> None:
    """Five attempts from 0.5 s, doubling up to 30 s, a fifth of jitter."""
    retry = App().step(step_one).retry
    assert (retry.max_attempts, retry.initial_interval, retry.backoff_coefficient) == (5, 0.5, 2.0)
    assert (retry.max_interval, retry.jitter, retry.max_duration, retry.non_retryable) == (30.0, 0.2, None, ())


def test_at_most_once_takes_one_attempt() -> None:
    """`at_most_once` is one attempt by default, and refuses a policy of more."""
    assert App().step(delivery="at_most_once")(step_one).retry.max_attempts == 1
    with pytest.raises(DefinitionError, match="max_attempts"):
        App().step(delivery="at_most_once", retry=Retry(max_attempts=2))(step_one)
    with pytest.raises(DefinitionError, match="delivery"):
        App().step(delivery="exactly_once")(step_one)  # type: ignore[call-overload]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_timeouts_are_above_zero(seconds: float) -> None:
    """A timeout of nothing, or of no number, is refused."""
    for name in ("timeout", "heartbeat_timeout"):
        with pytest.raises(DefinitionError, match=name):
            App().step(**{name: seconds})(step_one)


@pytest.mark.parametrize("fn", [not_async, too_many, too_few])
def test_a_workflow_is_async_and_takes_ctx_and_at_most_one_input(fn: Any) -> None:
    """A workflow of another shape is refused where it is declared."""
    with pytest.raises(DefinitionError, match="workflow"):
        App().workflow(fn)


@pytest.mark.parametrize("fn", [bad_types, two_unions])
def test_annotations_that_cannot_work_are_refused_at_load(fn: Any) -> None:
    """`check()` resolves every annotation, so that a wrong one shows at load and not at the first run."""
    one = App()
    one.step(fn)
    with pytest.raises(DefinitionError, match=fn.__name__):
        one.check()


def test_signals_and_inputs_are_checked_at_load() -> None:
    """A signal's type that no JSON carries is refused at load."""
    one = App()
    one.workflow(signals={"go": Item | Context})(flow_none)
    with pytest.raises(DefinitionError, match="signal go"):
        one.check()


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "decoded"),
    [
        (step_one, [{"id": "a"}], {}, ((Item("a"),), {})),
        (step_one, [{"id": "a", "count": 5}, 7], {}, ((Item("a", 5), 7), {})),
        (step_one, [{"id": "a"}], {"n": 7}, ((Item("a"),), {"n": 7})),
        (step_one, [], {"item": {"id": "a"}}, ((), {"item": Item("a")})),
        (step_two, [{"id": "a"}, {"id": "b"}], {}, ((Item("a"), Item("b")), {})),
        (step_three, [1, 2], {"c": 4}, ((1, 2), {"c": 4})),
        (no_types, [{"id": 1}], {}, (({"id": 1},), {})),
    ],
)
def test_recorded_arguments_decode_to_their_types(fn: Any, args: Any, kwargs: Any, decoded: Any) -> None:
    """Positional, keyword, variadic and defaulted arguments come back as the annotated types."""
    signature = App().step(fn).signature
    got, named = signature.decode(raw([args, kwargs]))
    assert (tuple(got), dict(named)) == decoded
    if not kwargs and signature.simple:
        assert tuple(signature.positional_decoder(len(args)).decode(raw([args, {}]))[0]) == decoded[0]


def test_variadic_keywords_have_their_type() -> None:
    """`**more: Item` decodes each keyword to Item."""
    signature = App().step(step_two).signature
    got, named = signature.decode(raw([[], {"note": "n", "x": {"id": "a"}}]))
    assert (list(got), dict(named)) == ([], {"note": "n", "x": Item("a")})


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (step_one, (), {}), (step_one, (1, 2, 3), {}), (step_one, (1,), {"wrong": 1}), (step_three, (1, 2, 3), {}),
        (step_three, (1,), {"a": 1, "b": 2}),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_a_type_error(fn: Any, args: Any, kwargs: Any) -> None:
    """A call with the wrong arguments raises what Python would raise, naming the step."""
    with pytest.raises(TypeError, match=fn.__name__):
        App().step(fn).signature.accepts(args, kwargs)


def test_arguments_that_do_not_decode_name_the_path() -> None:
    """A recorded argument of the wrong type is a validation error that says where."""
    with pytest.raises(msgspec.ValidationError, match=r"count"):
        App().step(step_one).signature.decode(raw([[{"id": "a", "count": "x"}], {}]))


def test_an_input_is_decoded_to_its_type_and_none_is_taken_where_none_is_declared() -> None:
    """A workflow without an input parameter takes only null."""
    one = App()
    assert one.workflow(flow_one).input.decode(b'{"id":"a"}') == Item("a")
    none = one.workflow(flow_none)
    assert none.input.decode(b"null") is None
    with pytest.raises(msgspec.ValidationError):
        none.input.decode(b"1")


def test_a_compensation_is_a_step_with_its_own_policy() -> None:
    """A compensation is declared bare or with arguments, is registered, and retries by its own policy."""
    one = App()
    made = one.step(step_one)
    assert made.compensation(undo) is made.undo
    assert one.steps["undo"] is made.undo
    assert made.on_unknown is False
    other = one.step(name="other")(step_one)
    declared = other.compensation(name="undo_other", on_unknown=True, retry=Retry(max_attempts=9), timeout=1.5)(undo)
    assert (other.on_unknown, declared.retry.max_attempts, declared.timeout) == (True, 9, 1.5)


def test_a_step_of_an_app_that_is_not_loaded_is_a_defect() -> None:
    """Calling another app's step names the app that is missing."""
    run = Run(calls_foreign)
    assert run.hold.code == "code_error"
    assert "'other'" in run.hold.message


def test_records_are_stored_where_nothing_else_is_said() -> None:
    """In code as in the configuration, `deliver` is the record store unless it says otherwise."""
    app = App("crm")

    @app.connector(key="id")
    async def people(poll: Poll[int]) -> AsyncIterator[Page]:
        yield Page()

    @app.webhook(secrets=["secret:x"])
    class Events: ...

    assert (app.connectors["people"].deliver, app.webhooks["Events"].deliver) == (Deliver(), Deliver())
    assert app.connectors["people"].cursor_type is int and people.__name__ == "people" and Events.__name__ == "Events"
