"""A Singer tap that says as many customers as it is told, as fast as the standard library can write them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

STATE_RECORDS = 1_000
SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "email": {"type": "string"},
        "amount": {"type": "integer"},
        "updated_at": {"type": "string", "format": "date-time"},
    },
}
RECORD = (
    '{"type":"RECORD","stream":"customers","record":{"id":%d,"name":"customer %d","email":"c%d@example.com",'
    '"amount":%d,"updated_at":"2026-01-01T00:00:00Z"}}\n'
)
STATE = '{"type":"STATE","value":{"id":%d}}\n'


def main() -> None:
    """Write `count` records, from the state's number on, with a STATE after each thousand."""
    count = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text(encoding="utf-8"))["count"]
    begin = 0
    if "--state" in sys.argv:
        begin = json.loads(Path(sys.argv[sys.argv.index("--state") + 1]).read_text(encoding="utf-8"))["id"]
    say = sys.stdout.write
    say(json.dumps({"type": "SCHEMA", "stream": "customers", "schema": SCHEMA, "key_properties": ["id"]}) + "\n")
    for number in range(begin, count):
        say(RECORD % (number, number, number, number % 997))
        if number % STATE_RECORDS == STATE_RECORDS - 1:
            say(STATE % (number + 1))
    say(STATE % max(begin, count))


if __name__ == "__main__":
    main()
