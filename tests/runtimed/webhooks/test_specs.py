"""Which webhooks a runtime has: apps' and configured ones, and every mistake said at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.connector_spec import Deliver
from actors.flow.context import Context
from actors.flow.definitions import App, Registry
from runtimed.settings import ConfigError, Settings, load
from runtimed.webhooks.specs import secret_names, webhooks_of

app = App("hooks")


@app.workflow
async def on_event(ctx: Context, event: dict[str, Any]) -> None:
    """Takes what comes."""


@app.webhook(verify="github", secrets=["secret:hub"], deliver=on_event)
class Pushes:
    """Declared in code."""


def settings(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "runtimed.toml"
    file.write_text(text)
    return load(file, {})


def test_both_kinds_come_together(tmp_path: Path) -> None:
    """A webhook of an app and one of the configuration are equal, with all that each says."""
    given = settings(
        tmp_path,
        """
        [webhooks.stripe]
        verify = "stripe"
        secrets = ["secret:a", "secret:b"]
        key = "id"
        deliver = "workflow:on_event"
        tolerance = 60
        keep_headers = ["Stripe-Version"]
        keep_body = true
        """,
    )
    specs = webhooks_of(given, Registry(app))
    assert set(specs) == {"Pushes", "stripe"}
    assert specs["stripe"].deliver == specs["Pushes"].deliver == Deliver("workflow", "on_event")
    assert specs["stripe"].tolerance == 60.0
    assert specs["stripe"].keep_headers == ("Stripe-Version",)
    assert secret_names(specs) == ["hub", "a", "b"]


MISTAKES = {
    "webhooks.Pushes: an app declares": '[webhooks.Pushes]\nsecrets = ["secret:a"]',
    "webhooks.w.deliver: no workflow 'other'": '[webhooks.w]\nsecrets = ["secret:a"]\ndeliver = "workflow:other"',
    "webhooks.w.secrets: verify = 'standard' needs": "[webhooks.w]",
    'webhooks.w.secrets: expected "secret:NAME"': '[webhooks.w]\nsecrets = ["whsec_canary"]',
    "webhooks.w.deliver: deliver 'signal:go' needs run_id_from": (
        '[webhooks.w]\nsecrets = ["secret:a"]\ndeliver = "signal:go"'
    ),
    'webhooks.w.verify: "none" believes everybody': '[http]\nbind = "0.0.0.0:8080"\n[webhooks.w]\nverify = "none"',
    "webhooks.a b: a name is": '[webhooks."a b"]\nsecrets = ["secret:a"]',
}


@pytest.mark.parametrize("said", MISTAKES)
def test_a_mistake_ends_the_start_with_its_place(tmp_path: Path, said: str) -> None:
    """Each is a ConfigError (exit 78) that names file, key and what was expected, and quotes no secret."""
    given = settings(tmp_path, MISTAKES[said])
    with pytest.raises(ConfigError) as caught:
        webhooks_of(given, Registry(app))
    assert str(caught.value).startswith(f"{given.paths.config}: {said}")
    assert "canary" not in str(caught.value)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("bind", ["", '[http]\nbind = "127.0.0.1:1"\n', '[http]\nbind = "[::1]:1"\n'])
def test_an_unsigned_webhook_is_for_this_host_alone(tmp_path: Path, bind: str) -> None:
    """Without a TCP address, or with one of the loopback, nobody else can reach it."""
    assert "w" in webhooks_of(settings(tmp_path, bind + '[webhooks.w]\nverify = "none"'), Registry(app))
