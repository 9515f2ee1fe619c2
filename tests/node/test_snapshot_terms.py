"""In whose name a snapshot is offered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftkv.errors import Unavailable
from raftkv.peer.ports import Frame
from raftkv.raft.messages import Heartbeat, InstallSnapshot
from raftkv.rpc.v1 import kv_pb2
from raftkv.storage.ports import Checkpoint
from tests.node.wire import WireLinks, cluster_of, soon, until


async def test_a_leader_that_is_deposed_in_the_same_turn_sends_the_snapshot_in_its_own_term(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its successor's, the receiver would take it for a second leader of that term, and stop."""
    offered: list[int] = []

    async def note(
        links: WireLinks, to: int, message: InstallSnapshot, checkpoint: Checkpoint
    ) -> None:
        offered.append(message.term)
        raise Unavailable("no snapshots on this wire")

    monkeypatch.setattr(WireLinks, "send_snapshot", note)
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        behind, other = (node for node in wire.nodes.values() if node is not leader)
        wire.cut_off = {behind.node_id}
        command = kv_pb2.Command(put=kv_pb2.Put(key=b"k"))
        await leader.submit(kv_pb2.CommandBatch(commands=[command]).SerializeToString(), soon())
        raft = leader.core
        raft.compact(raft.last_applied)
        raft.unreachable(behind.node_id)
        term, round_of = raft.current_term, raft.ready
        deposed = Frame(messages=(Heartbeat(other.node_id, leader.node_id, term + 1, 0, 1),))

        def ready() -> object:
            made = round_of()
            if made.snapshots_wanted:
                monkeypatch.setattr(raft, "ready", round_of)
                asyncio.get_running_loop().call_soon(
                    leader.peer_handler.receive, other.node_id, deposed
                )
            return made

        monkeypatch.setattr(raft, "ready", ready)
        wire.cut_off = set()
        await until(lambda: bool(offered))
        assert offered == [term]
        assert raft.current_term > term
