"""What a node reports of its peers: reachable, then suspect, then unreachable."""

from __future__ import annotations

import asyncio
from pathlib import Path

from raftkv.node.status import PeerReachability
from tests.node.wire import cluster_of, config_of


async def test_a_silent_follower_is_suspect_after_one_election_timeout_and_gone_after_four(
    tmp_path: Path,
) -> None:
    timeout_s = config_of(leader_lease=False).election_timeout_s_min
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        silent = next(node for node in wire.nodes.values() if node is not leader)

        def seen() -> PeerReachability:
            peers = {each.node_id: each for each in leader.status().peers}
            return peers[silent.node_id].reachability

        assert seen() is PeerReachability.REACHABLE
        wire.cut_off = {silent.node_id}
        await asyncio.sleep(0.5 * timeout_s)
        assert seen() is PeerReachability.REACHABLE
        await asyncio.sleep(0.9 * timeout_s)
        assert seen() is PeerReachability.SUSPECT
        await asyncio.sleep(2.3 * timeout_s)
        assert seen() is PeerReachability.SUSPECT, "3.7 timeouts, and a heartbeat at most"
        await asyncio.sleep(0.8 * timeout_s)
        assert seen() is PeerReachability.UNREACHABLE
        wire.cut_off = set()
        await asyncio.sleep(timeout_s)
        assert seen() is PeerReachability.REACHABLE
