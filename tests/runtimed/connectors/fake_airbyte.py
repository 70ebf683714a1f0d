"""An Airbyte connector of the standard library alone: `discover` and `read`, its ways chosen by its configuration.

Stream `users` is incremental with a key, `events` a full refresh with a key in a nested object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def say(kind: str, **content: Any) -> None:
    sys.stdout.write(json.dumps({"type": kind, **content}) + "\n")


def option(name: str) -> Any:
    if name not in sys.argv:
        return None
    return json.loads(Path(sys.argv[sys.argv.index(name) + 1]).read_text(encoding="utf-8"))


def trace_error(message: str, failure_type: str) -> None:
    say("TRACE", trace={"type": "ERROR", "emitted_at": 1, "error": {"message": message, "failure_type": failure_type}})
    sys.stdout.flush()
    sys.exit(1)


def status(name: str, value: str) -> None:
    about = {"stream_descriptor": {"name": name}, "status": value}
    say("TRACE", trace={"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": about})


def discover(config: dict[str, Any]) -> None:
    properties = {"id": {"type": "integer"}, "name": {"type": "string"}}
    if config.get("schema") == "narrow":
        del properties["name"]
    users = {
        "name": "users",
        "json_schema": {"type": "object", "properties": properties},
        "supported_sync_modes": ["full_refresh", "incremental"],
        "default_cursor_field": ["id"],
        "source_defined_primary_key": [["id"]],
    }
    events = {
        "name": "events",
        "json_schema": {},
        "supported_sync_modes": ["full_refresh"],
        "source_defined_primary_key": [["ref", "id"], ["kind"]],
    }
    say("CATALOG", catalog={"streams": [users, events]})


def users(config: dict[str, Any], start: int, mode: str) -> None:
    for number in range(start if mode == "incremental" else 0, config.get("count", 10)):
        say("RECORD", record={"stream": "users", "data": {"id": number, "name": f"user {number}"}, "emitted_at": 1})
    say("STATE", state=state_of(config))


def state_of(config: dict[str, Any]) -> dict[str, Any]:
    value = {"id": config.get("count", 10)}
    about = {"stream_descriptor": {"name": "users"}, "stream_state": value}
    kind = config.get("state", "STREAM")
    if kind == "GLOBAL":
        return {"type": "GLOBAL", "global": {"shared_state": value, "stream_states": [about]}}
    return {"type": "STREAM", "stream": about} if kind == "STREAM" else {"data": {"users": value}}


def start_of(state: Any) -> int:
    if isinstance(state, dict):
        return int(state["users"]["id"])
    for each in state or []:
        if each["type"] == "GLOBAL":
            return int(each["global"]["shared_state"]["id"])
        if each["stream"]["stream_descriptor"]["name"] == "users":
            return int(each["stream"]["stream_state"]["id"])
    return 0


def read(config: dict[str, Any]) -> None:
    sys.stdout.write("a library that logs to the output\n")
    say("LOG", log={"level": "INFO", "message": "reading"})
    say("CONTROL", control={"type": "CONNECTOR_CONFIG"})
    for chosen in option("--catalog")["streams"]:
        name = chosen["stream"]["name"]
        status(name, "STARTED")
        if name == "users":
            users(config, start_of(option("--state")), chosen["sync_mode"])
        else:
            data = {"ref": {"id": "e1"}, "kind": "click"}
            say("RECORD", record={"stream": name, "namespace": None, "data": data, "emitted_at": 1})
            about = {"stream_descriptor": {"name": name}, "stream_state": {"done": True}}
            if config.get("state", "STREAM") == "STREAM":
                say("STATE", state={"type": "STREAM", "stream": about})
        if config.get("fault") == "error":
            trace_error("the token \x1b[31mhas expired", "config_error")
        status(name, "INCOMPLETE" if config.get("fault") == "incomplete" else "COMPLETE")


def main() -> None:
    config = option("--config")
    if config.get("fault") == "no catalog":
        return
    if sys.argv[1] == "discover":
        discover(config)
    else:
        read(config)


if __name__ == "__main__":
    main()
