"""What a node promises by its own clock, with time moved between a question and its answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftkv.kv.limits import Limits
from raftkv.kv.pace import Steps
from raftkv.node.node import Node
from raftkv.peer.ports import Frame
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server.reads import ReadHandler
from tests.callers import requester_of
from tests.node.test_lease_reads import leased, put
from tests.node.wire import Wire, WireLinks, cluster_of, soon

ANSWER_S = 0.2
LEASE_S = 0.36
"""See tests/node/test_leader_lease.py."""


def slow_answers(monkeypatch: pytest.MonkeyPatch, wire: Wire, to: Node) -> None:
    """From now on all that the other nodes send to this one takes `ANSWER_S` longer."""
    send = WireLinks.send

    def send_late(self: WireLinks, peer: int, frame: Frame) -> None:
        if peer == to.node_id:
            asyncio.get_running_loop().call_later(ANSWER_S, send, self, peer, frame)
        else:
            send(self, peer, frame)

    monkeypatch.setattr(WireLinks, "send", send_late)


async def test_a_leader_lease_counts_from_the_sending_of_its_heartbeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    async with cluster_of(tmp_path, 1, leader_lease=True) as (wire, leader):
        slow_answers(monkeypatch, wire, leader)
        await asyncio.sleep(1.0)
        asked_at = loop.time()
        await leader.read_barrier(soon())
        assert loop.time() - asked_at > ANSWER_S
        await asyncio.sleep(asked_at + LEASE_S + 0.01 - loop.time())
        assert not leased(leader)
        await leader.read_barrier(soon())
        assert leased(leader)


async def test_a_state_is_as_old_as_the_request_that_confirmed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = next(node for node in wire.nodes.values() if node is not leader)
        await asyncio.sleep(1.0)
        slow_answers(monkeypatch, wire, follower)
        asked_at = loop.time()
        await follower.read_barrier(soon())
        assert loop.time() - asked_at > ANSWER_S
        assert follower.fresh_as_of_s == pytest.approx(asked_at, abs=0.001)


async def test_a_long_read_is_as_old_as_the_state_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs, another read has the node confirm a newer state."""
    loop = asyncio.get_running_loop()
    real_time, late_s, reads = loop.time, 0.0, 0
    async with cluster_of(tmp_path, 1, leader_lease=False) as (_, leader):
        await put(leader, b"v")
        await leader.read_barrier(soon())
        machine, read = leader.machine, leader.machine.read

        def slow(request: kv_pb2.Range) -> Steps[kv_pb2.Result]:
            nonlocal late_s, reads
            result = yield from read(request)
            reads += 1
            if reads == 1:
                late_s = 0.5
                leader.driver._barriers.fresh_as_of_s = loop.time()
            return result

        with monkeypatch.context() as patches:
            patches.setattr(loop, "time", lambda: real_time() + late_s)
            patches.setattr(machine, "read", slow)
            handler = ReadHandler(leader, Limits(), lambda error: None)
            asked = api_pb2.ReadBatch(
                level=api_pb2.READ_LEVEL_BOUNDED,
                max_staleness_ms=400,
                ranges=[kv_pb2.Range(key=b"a", range_end=b"z")],
            )
            requester = requester_of(leader, "KV", "Range")
            answer = await handler.answer(asked, requester, loop.time() + 5.0)
        assert reads == 2
        assert answer.staleness_ms <= 400
