"""Who the caller is to the daemon."""

from __future__ import annotations

import os
from typing import Any

import pytest

from runtimed.http.access import Access, Peer


@pytest.mark.trio
async def test_a_caller_learns_who_it_is_and_what_it_may(serve: Any) -> None:
    """The daemon tells a caller the name its decisions would bear, its level, its groups, and where it acts from."""
    async with serve() as http:
        told = (await http.ask("GET", "/v1/whoami")).json()
        assert told["by"] == f"uid:{os.getuid()}"
        assert (told["level"], told["roles"]) == ("admin", None)
        assert set(told) == {"by", "level", "roles", "via"}


def test_a_caller_without_groups_has_an_empty_list() -> None:
    """`null` means all groups, and only for those who could write the file; everybody else has the list of theirs."""

    access = Access({"approver": ["uid:4242"]}, {"ops": ["uid:4242"], "finance": ["uid:1"]})
    assert access.roles(Peer(local=True, uid=4242, gid=4242)) == {"ops"}
    assert access.roles(Peer(local=True, uid=4243, gid=4243)) == frozenset()
