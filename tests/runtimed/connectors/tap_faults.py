"""A Singer tap of the standard library alone, with faults that can be switched on by its configuration.

It emits `count` people from the state's `id` on, and a STATE after each `every`. At record `at` it does what `fault`
says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LONG_S = 3600


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")


def option(name: str) -> Any:
    if name not in sys.argv:
        return {}
    return json.loads(Path(sys.argv[sys.argv.index(name) + 1]).read_text(encoding="utf-8"))


def schema(config: dict[str, Any]) -> None:
    properties: dict[str, Any] = {"id": {"type": "integer"}, "name": {"type": "string"}}
    keys = config.get("keys", ["id"])
    if config.get("schema") != "narrow":
        properties["email"] = {"type": ["null", "string"]}
    if config.get("schema") == "wide":
        properties["phone"] = {"type": "string"}
    say(
        {
            "type": "SCHEMA",
            "stream": "people",
            "schema": {"type": "object", "properties": properties},
            "key_properties": keys,
        }
    )


def leave_grandchild(config: dict[str, Any]) -> None:
    """Somebody who holds our output open, ignores SIGTERM and has a session of their own."""
    code = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep({LONG_S})"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=bool(config.get("own_session")))
    Path(config["pid_file"]).write_text(f"{child.pid} {os.getpid()}", encoding="utf-8")


def misbehave(fault: str, config: dict[str, Any]) -> None:
    if fault == "crash":
        sys.stdout.flush()
        sys.stderr.write("Traceback: the source's \x1b[31mserver went away\n")
        os._exit(3)
    elif fault == "huge":
        say({"type": "RECORD", "stream": "people", "record": {"id": -1, "name": "x" * (17 * 1024 * 1024)}})
    elif fault == "garbled":
        sys.stdout.write("INFO this tap logs to its output\n")
    elif fault == "latin1":
        sys.stdout.flush()
        sys.stdout.buffer.write(b'{"type":"RECORD","stream":"people","record":{"id":-1,"name":"caf\xe9"}}\n')
    elif fault == "unknown":
        say({"type": "BATCH", "stream": "people", "manifest": []})
    elif fault == "stranger":
        say({"type": "RECORD", "stream": "others", "record": {"id": 1}})
    elif fault == "keyless":
        say({"type": "RECORD", "stream": "people", "record": {"name": "nobody"}})
    elif fault == "half":
        sys.stdout.write('{"type":"RECORD","stream":"peo')
        sys.stdout.flush()
        os._exit(0)
    elif fault in ("hang", "stubborn"):
        if fault == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.stdout.flush()
        Path(config["pid_file"]).write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(LONG_S)
    elif fault == "grandchild":
        leave_grandchild(config)


def main() -> None:
    config, state = option("--config"), option("--state")
    start, count, every = state.get("id", 0), config.get("count", 10), config.get("every", 5)
    if config.get("fault") == "duplicates":
        start = max(0, start - config.get("overlap", 7))
    schema(config)
    if config.get("fault") == "state_only":
        say({"type": "STATE", "value": {"id": start, "seen": True}})
        return
    for number in range(start, count):
        if number == config.get("at"):
            misbehave(config.get("fault", ""), config)
        say(
            {
                "type": "RECORD",
                "stream": "people",
                "record": {"id": number, "name": f"person {number}", "email": None},
                "time_extracted": "2026-01-01T00:00:00Z",
            }
        )
        if number % every == every - 1:
            say({"type": "STATE", "value": {"id": number + 1}})
    say({"type": "STATE", "value": {"id": max(count, start)}})


if __name__ == "__main__":
    main()
