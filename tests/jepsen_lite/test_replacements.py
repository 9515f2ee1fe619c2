"""A node is replaced as an operator does it, who reads the membership again without an answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

import pytest

from jepsen_lite.db.base import NoEffect
from jepsen_lite.db.raftkv import RaftkvCluster
from jepsen_lite.faults.kinds import SnapshotLag
from jepsen_lite.nemesis import operations
from raftkv.client.client import Client
from raftkv.errors import MembershipRefused, OutcomeUnknown, RaftkvError


class Members:
    """An operator's client whose first additions end with these errors, done or not."""

    def __init__(self, *additions: tuple[RaftkvError, bool]) -> None:
        self.learners: dict[int, bool] = {1: False, 2: False, 3: False}
        self._additions = list(additions)

    async def member_list(self, *, timeout: float) -> list[SimpleNamespace]:
        return [SimpleNamespace(node_id=each, learner=at) for each, at in self.learners.items()]

    async def member_add(self, node_id: int, peer: str, client: str, *, timeout: float) -> None:
        error, done = self._additions.pop(0) if self._additions else (None, True)
        if done:
            assert node_id not in self.learners
            self.learners[node_id] = True
        if error is not None:
            raise error

    async def member_promote(self, node_id: int, *, timeout: float) -> None:
        self.learners[node_id] = False

    async def member_remove(self, node_id: int, *, timeout: float) -> None:
        del self.learners[node_id]


class Cluster(RaftkvCluster):
    """Its nodes are no nodes, and nothing is between them."""

    def __init__(self, directory: Path, members: Members) -> None:
        super().__init__(directory, directory, 3)
        self.members = members

    def _command(self, name: str, *arguments: str) -> list[str]:
        return ["sleep", "100"]

    async def operator(self) -> Client:
        return cast(Client, self.members)

    async def join_network(self, name: str) -> None: ...


@pytest.mark.parametrize("done", [False, True], ids=["it was not done", "it was done"])
async def test_an_unacknowledged_addition_is_looked_up_and_repeated(
    tmp_path: Path, done: bool
) -> None:
    cluster = Cluster(tmp_path, Members((OutcomeUnknown("no answer"), done)))
    try:
        assert await cluster.replace("node-2") == "node-4"
        assert cluster.members.learners[4]
        assert await cluster.finish_replacements() == 1
        assert cluster.members.learners == {1: False, 3: False, 4: False}
        assert cluster.nodes == ("node-1", "node-3", "node-4")
    finally:
        await cluster.stop()


async def test_an_addition_that_was_refused_had_no_effect(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, Members((MembershipRefused("another change"), False)))
    with pytest.raises(NoEffect):
        await cluster.replace("node-2")
    assert cluster.nodes == ("node-1", "node-2", "node-3")


async def test_a_node_that_was_replaced_meanwhile_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(tmp_path, Members())
    monkeypatch.setattr(cluster, "write_bulk", AsyncMock(return_value=0))
    server = cluster.servers["node-2"]
    try:
        await server.start()
        active = await operations.SnapshotNemesis().inject(cluster, SnapshotLag(0, 0, "1", 1.5))
        cluster.retire("node-2")
        with pytest.raises(NoEffect, match="replaced meanwhile"):
            await active.undo()
        assert not server.running
    finally:
        await cluster.stop()
