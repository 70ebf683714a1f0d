from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.connector_spec import ConnectorSpec, Deliver, Page, Poll, WebhookSpec
from actors.flow.context import Context
from actors.flow.definitions import App, Registry
from runtimed.config_layers import ConfigError
from runtimed.connectors import CONNECTORS_MAX, KINDS, check_names, specs_of
from runtimed.settings import Connector, Settings


async def welcome(ctx: Context, person: dict[str, Any]) -> None: ...


async def people(poll: Poll[int]) -> AsyncIterator[Page]:
    yield Page()


def settings(**tables: Connector) -> Settings:
    return Settings(connectors=tables)


def registry(**declared: Any) -> Registry:
    app = App("specs")
    app.workflow(welcome)
    if declared:
        app.connector(key="id", **declared)(people)
    return Registry(app)


TAP = {"command": ("tap",), "config": {}}


def test_apps_and_configuration_together() -> None:
    """Connectors of apps and of the configuration are one list, with what each says of itself."""
    specs = specs_of(
        settings(crm=Connector(kind="singer", deliver="workflow:welcome", every=5.0, **TAP)),
        registry(deliver="records", every=7.0),
    )
    assert sorted(specs) == ["crm", "people"]
    assert (specs["people"].every, specs["people"].cursor_type, specs["people"].kind) == (7.0, int, "poller")
    assert (specs["crm"].every, str(specs["crm"].deliver), specs["crm"].kind) == (5.0, "workflow:welcome", "singer")


@pytest.mark.parametrize(
    ("tables", "declared", "expected"),
    [
        ({"people": Connector(kind="singer", **TAP)}, {"deliver": "records"}, "connectors.people: an app has"),
        ({"crm": Connector(kind="singer", deliver="workflow:gone", **TAP)}, {}, "crm.deliver: no workflow 'gone'"),
        ({}, {"deliver": "workflow:gone"}, "connectors.people.deliver: no workflow 'gone'"),
        ({"crm": Connector(kind="singer", deliver="signal:go", **TAP)}, {}, "connectors.crm.deliver"),
        ({"a b": Connector(kind="singer", **TAP)}, {}, "connectors.a b: the name"),
        ({"x" * 101: Connector(kind="singer", **TAP)}, {}, "1 to 100 characters"),
        ({"crm": Connector(kind="singer", options={"wrong": 1}, **TAP)}, {}, "connectors.crm.options"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_key(tables: Any, declared: Any, expected: str) -> None:
    """A name twice, a workflow that no app has, options that do not fit: the start ends with the key and what is
    expected."""
    with pytest.raises(ConfigError) as refused:
        specs_of(settings(**tables), registry(**declared))
    assert expected in str(refused.value)
    assert refused.value.exit_code == 78


RUN, SIGNAL, RECORDS = Deliver("workflow", "welcome"), Deliver("signal", "go", "id"), Deliver()


@pytest.mark.parametrize(
    ("poller", "hook", "schedules", "expected"),
    [
        (
            ("stripe", RUN),
            ("stripe", RUN),
            [],
            "webhooks.stripe: expected a name of its own; the runs of connectors.stripe have",
        ),
        (("stripe", SIGNAL), ("stripe", SIGNAL), [], "webhooks.stripe: .* signals of connectors.stripe have"),
        (
            ("tick", RUN),
            ("other", RUN),
            ["tick"],
            "schedules.tick: .* runs of connectors.tick have the ids tick:KEY too",
        ),
        (("other", RUN), ("tick", RUN), ["tick"], "webhooks.tick: .* runs of schedules.tick have the ids tick:KEY too"),
        (("webhook:tick", RUN), ("tick", RUN), [], "webhooks.tick: .* runs of connectors.webhook:tick have"),
        (("schedule:tick", RUN), ("other", RUN), ["tick"], "schedules.tick: .* runs of connectors.schedule:tick have"),
        (("stripe", RECORDS), ("stripe", RUN), [], None),
        (("stripe", RUN), ("stripe", SIGNAL), ["other"], None),
    ],
)
def test_names_that_begin_ids_are_given_once(
    poller: tuple[str, Deliver], hook: tuple[str, Deliver], schedules: list[str], expected: str | None
) -> None:
    """Of what starts runs, or sends signals, by ids made of its name: the start ends with the key and what is
    expected. What only stores records has no such ids."""
    connectors = {poller[0]: ConnectorSpec(name=poller[0], source=people, deliver=poller[1])}
    webhooks = {hook[0]: WebhookSpec(name=hook[0], deliver=hook[1])}
    if expected is None:
        check_names(connectors, webhooks, schedules)
        return
    with pytest.raises(ConfigError, match=expected) as refused:
        check_names(connectors, webhooks, schedules)
    assert refused.value.exit_code == 78


def test_a_kind_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that this build does not bring says which there are."""
    monkeypatch.delitem(KINDS, "singer")
    with pytest.raises(ConfigError, match="kind: 'singer' is not in this build; there are: airbyte"):
        specs_of(settings(crm=Connector(kind="singer", **TAP)), registry())


def test_there_is_a_limit() -> None:
    """So many connectors are one runtime's, and no more."""
    tables = {f"c{number}": Connector(kind="singer", **TAP) for number in range(CONNECTORS_MAX + 1)}
    with pytest.raises(ConfigError, match="1001 connectors"):
        specs_of(settings(**tables), registry())


def test_every_kind_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of the table leads to a function."""
    from importlib import import_module

    for where in KINDS.values():
        module, _, function = where.partition(":")
        assert callable(getattr(import_module(module), function))
