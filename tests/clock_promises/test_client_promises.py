"""What a client promises by its own clock, with time moved between a request and its answer."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.client import Client
from raftkv.client.coordination.lease import LEASE_TRUST
from raftkv.client.settings import ClientSettings
from raftkv.errors import LockLost, RaftkvError
from tests.client.lock_cluster import LockCluster
from tests.client.scripted import LATENCY_S, ScriptedStream

pytestmark = pytest.mark.filterwarnings("ignore::async_solipsism.ResolutionWarning")

TTL = 10.0
ANSWER_S = 1.5
"""Below the timeout of a renewal, and below the silence for which a client leaves a node."""


def slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on each answer of a node takes `ANSWER_S` longer."""
    deliver = ScriptedStream.deliver

    def deliver_late(self: ScriptedStream, message: bytes) -> None:
        asyncio.get_running_loop().call_later(ANSWER_S, deliver, self, message)

    monkeypatch.setattr(ScriptedStream, "deliver", deliver_late)


async def connected(cluster: LockCluster) -> Client:
    return await cluster.connect(5.0, ClientSettings())


def sent_at(cluster: LockCluster, kind: str, since: float) -> float:
    """When the client sent its first command of this kind after `since`."""
    return next(
        seen.at - LATENCY_S
        for seen in cluster.seen
        if seen.at > since
        and any(each.WhichOneof("command") == kind for each in seen.batch.commands)
    )


async def test_a_renewal_is_trusted_from_its_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = LockCluster("a:1", "b:2", "c:3")
    client = await connected(cluster)
    async with client.lease(TTL) as lease:
        slow_answers(monkeypatch)
        granted_at = lease.renewed_at
        await asyncio.sleep(TTL / 3 + ANSWER_S + 0.1)
        asked_at = sent_at(cluster, "lease_keep_alive", granted_at)
        left_s = asked_at + TTL * LEASE_TRUST - cluster.loop.time()
        assert lease.remaining() == pytest.approx(left_s, abs=0.01)
    await client.close()


async def test_a_lock_is_trusted_from_the_sending_of_its_acquisition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = LockCluster("a:1", "b:2", "c:3")
    client = await connected(cluster)
    slow_answers(monkeypatch)
    lock, begun_at = client.lock("name", ttl=TTL), cluster.loop.time()
    await lock.acquire()
    asked_at = sent_at(cluster, "acquire", begun_at)
    left_s = asked_at + TTL * LEASE_TRUST - cluster.loop.time()
    assert cluster.loop.time() - asked_at > ANSWER_S
    assert 0 < lock.remaining() <= left_s + 0.01  # less, if the command had to wait for a session
    await lock.release()
    await client.close()


async def test_a_holder_that_was_paused_trusts_nothing_before_its_timers_have_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process stands still within a call of its owner: no callback has run since."""
    cluster = LockCluster("a:1", "b:2", "c:3")
    client = await connected(cluster)
    async with client.lease(TTL) as lease, client.lock("name", ttl=TTL) as lock:
        loop, now = cluster.loop, cluster.loop.time
        with monkeypatch.context() as after_the_pause:
            after_the_pause.setattr(loop, "time", lambda: now() + TTL)
            assert not lease.lost.is_set()
            assert (lease.remaining(), lock.remaining()) == (0.0, 0.0)
            for held in (lease, lock):
                with pytest.raises(LockLost):
                    held.check()
    await client.close()


async def test_a_timeout_counts_from_the_call_and_not_from_its_sending() -> None:
    cluster = LockCluster("a:1", "b:2", "c:3")
    client = await connected(cluster)
    await client.put("k", "v")
    cluster.go_down()
    begun_at = cluster.loop.time()
    cluster.loop.call_later(2.0, cluster.come_up)
    put = asyncio.ensure_future(client.put("k", "w", timeout=1.5))
    with pytest.raises(RaftkvError):
        await put
    assert cluster.loop.time() - begun_at == pytest.approx(1.5, abs=0.1)
    await client.close()
