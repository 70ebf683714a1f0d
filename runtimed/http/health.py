"""The probes: constant bodies out of memory, and the detail for people with rights."""

from __future__ import annotations

from typing import Any, Final

import trio

from runtimed.http.replies import Reply, encode
from runtimed.http.requests import Request
from runtimed.http.surface import RuntimeSurface
from runtimed.wire import HealthDetail
from wal.views import ActorView, rfc3339

HEALTH_TYPE: Final = b"application/health+json"
PASS: Final = Reply(200, b'{"status":"pass"}', HEALTH_TYPE)
WARN: Final = Reply(200, b'{"status":"warn"}', HEALTH_TYPE)
FAIL: Final = Reply(503, b'{"status":"fail"}', HEALTH_TYPE, ((b"retry-after", b"1"),))


async def live(rt: RuntimeSurface, request: Request) -> Reply:
    """Whether the loop and the writer make progress."""
    return PASS if rt.health().live else FAIL


async def ready(rt: RuntimeSurface, request: Request) -> Reply:
    """Whether work is taken: recovered, not draining, the disk takes writes. `warn`: it is, but look at the detail."""
    health = rt.health()
    if not health.ready:
        return FAIL
    return WARN if health.reasons else PASS


async def startup(rt: RuntimeSurface, request: Request) -> Reply:
    """Whether recovery is done."""
    return PASS if rt.health().started else FAIL


async def detail(rt: RuntimeSurface, request: Request) -> Reply:
    """Health per component, with the reasons in sentences."""
    health = rt.health()
    reasons = [*health.reasons, *request.guesses.remarks(trio.current_time())]
    status = "fail" if not (health.live and health.ready) else "warn" if reasons else "pass"
    checks: dict[str, list[dict[str, Any]]] = {
        name: [{"componentType": "system", "status": "pass" if good else "fail"}]
        for name, good in (("live", health.live), ("ready", health.ready), ("started", health.started))
    }
    checks["journal:seq"] = [{"componentType": "datastore", "status": "pass", "observedValue": rt.feed.seq}]
    checks["journal:backup"] = [_backup(rt)]
    for actor in rt.tree():
        checks[f"actor:{actor.path}"] = [_check(actor)]
    body = encode(HealthDetail(status=status, reasons=reasons, checks=checks))
    return Reply(200 if status != "fail" else 503, body, HEALTH_TYPE)


def _backup(rt: RuntimeSurface) -> dict[str, Any]:
    """The last backup, as a component: where it is, and when it was taken; its age is for whoever looks."""
    last = rt.care.last_backup
    check: dict[str, Any] = {"componentType": "datastore", "status": "pass", "observedUnit": "seconds"}
    age = rt.statistics().backup_age_seconds
    if last is None or age is None:
        return check | {"output": "there is no backup"}
    return check | {"observedValue": round(age, 1), "time": rfc3339(last.at), "output": last.path}


def _check(actor: ActorView) -> dict[str, Any]:
    check: dict[str, Any] = {
        "componentType": "component",
        "status": "pass" if actor.status == "up" else "fail" if actor.status == "failed" else "warn",
        "observedValue": actor.mailbox_size,
        "observedUnit": "messages",
        "restarts": actor.restarts,
    }
    if actor.last_error is not None:
        check["output"] = actor.last_error
    return check
