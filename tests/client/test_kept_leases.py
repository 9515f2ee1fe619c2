"""How long a kept lease is trusted, and how it is renewed; on virtual time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

import pytest
import uvloop

from raftkv.client.authentication import Authentication
from raftkv.client.client import Client
from raftkv.client.connection.endpoints import Endpoints
from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.coordination.lease import LEASE_TRUST, KeptLeases
from raftkv.client.coordination.loss import CancelOnLoss
from raftkv.client.credentials import UserCredentials
from raftkv.client.settings import ClientSettings
from raftkv.errors import LeaseNotFound, LockLost, NoLeader, OutcomeUnknown
from tests.client.lock_cluster import LockCluster

TTL = 10.0


@pytest.fixture
async def cluster() -> LockCluster:
    return LockCluster("a:1", "b:2", "c:3")


async def test_a_kept_lease_lives_on_and_is_revoked_at_the_end(
    client: Client, cluster: LockCluster
) -> None:
    async with client.lease(TTL) as lease:
        await client.put("here", "I am", lease=lease.id)
        await asyncio.sleep(5 * TTL)
        assert lease.remaining() > TTL / 2
        assert list(cluster.machine.lease_keys(lease.id)) == [b"here"]
    assert lease.id not in cluster.machine.leases()
    assert not lease.lost.is_set(), "what was given back was not lost"
    with pytest.raises(LockLost):
        lease.check()


async def test_many_leases_are_renewed_by_one_command(client: Client, cluster: LockCluster) -> None:
    async with AsyncExitStack() as kept:
        leases = []
        for _ in range(20):
            leases.append(await kept.enter_async_context(client.lease(TTL)))
            await asyncio.sleep(0.05)
        since = cluster.loop.time()
        await asyncio.sleep(3 * TTL)
        renewals = cluster.commands("lease_keep_alive", since)
        assert [len(each.lease_keep_alive.leases) for each in renewals[1:]] == [20] * 8
        assert not any(lease.lost.is_set() for lease in leases)


async def test_trust_counts_from_the_sending_of_the_renewal_that_was_acknowledged(
    client: Client, cluster: LockCluster
) -> None:
    sent_at = cluster.loop.time()
    async with client.lease(TTL) as lease:
        assert cluster.loop.time() > sent_at
        assert lease.remaining() == pytest.approx(
            sent_at + TTL * LEASE_TRUST - cluster.loop.time(), abs=1e-6
        )


async def test_renewals_go_on_through_an_outage_that_is_shorter_than_the_trust(
    client: Client, cluster: LockCluster
) -> None:
    async with client.lease(TTL) as lease:
        cluster.go_down()
        await asyncio.sleep(TTL * LEASE_TRUST - 4.0)  # silence is noticed after 2 s
        cluster.come_up()
        await asyncio.sleep(TTL)
        assert lease.remaining() > 0
        assert not lease.lost.is_set()


async def test_a_renewal_that_failed_for_good_is_followed_by_another(
    client: Client, cluster: LockCluster
) -> None:
    async with client.lease(TTL) as lease:
        for node in cluster.nodes.values():
            node.refusal = NoLeader("no majority")
        await asyncio.sleep(TTL * 0.8)  # the first has waited from a third to two thirds
        for node in cluster.nodes.values():
            node.refusal = None
        await asyncio.sleep(TTL)
        assert lease.remaining() > 0


async def test_the_loss_callback_runs_when_the_trust_ends(
    client: Client, cluster: LockCluster
) -> None:
    reported: list[float] = []
    async with client.lease(TTL) as lease:
        lease.on_lost(lambda: reported.append(cluster.loop.time()))
        ends_at = cluster.loop.time() + lease.remaining()
        cluster.go_down()
        await lease.lost.wait()
        assert reported == [pytest.approx(ends_at, abs=0.001)]
        late: list[bool] = []
        lease.on_lost(lambda: late.append(True))
        assert late == [True]


async def test_a_lost_lease_is_revoked_when_the_outage_is_over(
    client: Client, cluster: LockCluster
) -> None:
    """Cluster time stood still, so the store would keep it for its whole TTL from here."""
    async with client.lease(TTL) as lease:
        cluster.go_down()
        await lease.lost.wait()
        assert lease.id in cluster.machine.leases()
        cluster.come_up()
        await asyncio.sleep(1.0)
        assert lease.id not in cluster.machine.leases()


async def test_a_lease_that_the_store_has_ended_is_lost_at_the_next_renewal(
    client: Client, cluster: LockCluster
) -> None:
    async with client.lease(TTL) as lease:
        cluster.store.run(lease_revoke={"lease": lease.id})
        async with asyncio.timeout(TTL / 3 + 0.1):
            await lease.lost.wait()
        with pytest.raises(LockLost, match="ended"):
            lease.check()


async def test_a_lease_granted_by_another_client_is_kept_and_then_left_to_its_ttl(
    client: Client, cluster: LockCluster
) -> None:
    granted = await client.lease_grant(TTL)
    async with client.keep(granted.lease) as lease:
        await asyncio.sleep(3 * TTL)
        assert lease.remaining() > 0
    assert granted.lease in cluster.machine.leases()
    await asyncio.sleep(TTL + 0.1)
    assert granted.lease not in cluster.machine.leases()
    with pytest.raises(LeaseNotFound):
        await client.keep(granted.lease).__aenter__()


async def test_a_lease_with_two_users_ends_with_the_last(
    client: Client, cluster: LockCluster
) -> None:
    async with client.lease(TTL) as lease:
        async with client.keep(lease.id):
            pass
        await asyncio.sleep(3 * TTL)
        lease.check()
        assert lease.id in cluster.machine.leases()
    assert lease.id not in cluster.machine.leases()


async def test_the_lease_of_a_lock_outlives_a_keep_of_the_same_lease(
    client: Client, cluster: LockCluster
) -> None:
    async with client.lock("n", ttl=TTL) as lock:
        (lease,) = [
            each for each in cluster.machine.leases() if list(cluster.machine.lease_keys(each))
        ]
        async with client.keep(lease):
            pass
        await asyncio.sleep(3 * TTL)
        assert cluster.store.tokens(b"n") == [lock.token]


# ---- telling of the loss -----------------------------------------------------------------


async def test_a_callback_that_fails_does_not_prevent_the_others(
    client: Client, cluster: LockCluster
) -> None:
    reported: list[bool] = []
    failures: list[object] = []
    cluster.loop.set_exception_handler(lambda _, facts: failures.append(facts["exception"]))
    mistake = ZeroDivisionError()

    def fail() -> None:
        raise mistake

    async with client.lease(TTL) as lease:
        lease.on_lost(fail)
        lease.on_lost(lambda: reported.append(lease.lost.is_set()))
        cluster.go_down()
        await lease.lost.wait()
    assert reported == [True]
    assert failures == [mistake]


async def test_closing_reports_the_loss_even_if_it_is_cancelled(
    client: Client, cluster: LockCluster
) -> None:
    async def hold() -> None:
        async with client.lock("n"):
            await asyncio.Event().wait()

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0.5)
    cluster.go_down()
    unanswered = asyncio.create_task(client.put("k", "v"))
    await asyncio.sleep(0.1)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0.1)
    closing.cancel()
    for over in (closing, holding, unanswered):
        with pytest.raises((asyncio.CancelledError, LockLost, OutcomeUnknown)):
            await asyncio.wait_for(over, 0.1)
    assert isinstance(holding.exception(), LockLost)


async def test_a_lease_is_lost_in_time_after_the_pipeline_is_closed() -> None:
    loop = asyncio.get_running_loop()
    cluster, settings, rng = LockCluster("a:1"), ClientSettings(), Random(7)
    endpoints = Endpoints(list(cluster.nodes), cluster.link, settings, rng)
    authentication = Authentication(UserCredentials(), settings, rng, loop)
    pipeline = Pipeline(endpoints, settings, rng, loop, authentication)
    leases = KeptLeases(pipeline, loop)
    granting = asyncio.create_task(leases.grant(10_000, 1.0))
    await asyncio.sleep(0.1)
    lease = granting.result()
    pipeline.close()
    await asyncio.sleep(TTL)
    assert lease.lost.is_set()


async def test_a_task_that_notices_the_loss_itself_is_cancelled_in_the_block_only(
    client: Client,
) -> None:
    task = asyncio.current_task()
    assert task is not None
    async with client.lease(TTL) as lease:
        with CancelOnLoss(lease, "what stands on it"):
            lease.mark_lost("so its owner found")
        await asyncio.sleep(0.1)
        with pytest.raises(LockLost), CancelOnLoss(lease, "what stands on it"):
            await asyncio.sleep(0.1)
    assert task.cancelling() == 0


def test_leases_whose_renewal_is_overdue_are_kept_on_uvloop() -> None:
    """The handle of what is due within a millisecond can't say there when that is."""

    async def keep_two() -> None:
        loop = asyncio.get_running_loop()
        cluster, settings, rng = LockCluster("a:1"), ClientSettings(), Random(7)
        endpoints = Endpoints(list(cluster.nodes), cluster.link, settings, rng)
        authentication = Authentication(UserCredentials(), settings, rng, loop)
        leases = KeptLeases(Pipeline(endpoints, settings, rng, loop, authentication), loop)
        sent_at = loop.time() - TTL / 2
        for lease in (leases.keep(1, TTL, sent_at), leases.keep(2, TTL, sent_at)):
            # Now: the store, which has not granted them, ends both if the loop goes on for long.
            assert not lease.lost.is_set()

    uvloop.run(keep_two())
