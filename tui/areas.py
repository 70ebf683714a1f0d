"""The eight areas: their keys, their names, and where their screens are."""

from __future__ import annotations

from typing import NamedTuple


class Area(NamedTuple):
    """One area: `name` is also its mode; `screen` is MODULE:CLASS, imported when it is first shown."""

    number: int
    name: str
    title: str
    short: str
    screen: str


AREAS = (
    Area(1, "overview", "Overview", "Over", "tui.screens.overview:OverviewScreen"),
    Area(2, "runs", "Runs", "Runs", "tui.screens.runs:RunsScreen"),
    Area(3, "approvals", "Approvals", "Appr", "tui.screens.approvals:ApprovalsScreen"),
    Area(4, "actors", "Actors", "Actors", "tui.screens.actors:ActorsScreen"),
    Area(5, "connectors", "Connectors", "Conn", "tui.screens.connectors:ConnectorsScreen"),
    Area(6, "sessions", "Sessions", "Sess", "tui.screens.sessions:SessionsScreen"),
    Area(7, "journal", "Journal", "Jrnl", "tui.screens.journal:JournalScreen"),
    Area(8, "logs", "Logs", "Logs", "tui.screens.logs:LogsScreen"),
)
BY_NAME = {area.name: area for area in AREAS}
