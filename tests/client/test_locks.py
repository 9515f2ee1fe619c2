"""Locks as their holders use them: order, loss, timeouts and cancellation; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress

import pytest

from raftkv.client.client import Client
from raftkv.client.coordination.lease import LEASE_TRUST
from raftkv.client.coordination.lock import Lock
from raftkv.errors import (
    DeadlineExceeded,
    LockLost,
    LockNotAcquired,
    LockReentered,
    NoLeader,
    OutcomeUnknown,
    Refused,
    TooManyKeys,
)
from raftkv.kv.records import unpack_version
from tests.client.conftest import Connect
from tests.client.lock_cluster import LockCluster
from tests.client.scripted import Answer, Fault, SeenRequest

TTL = 10.0
CLIENT_TIMEOUT_S = 5.0


@pytest.fixture
async def cluster() -> LockCluster:
    return LockCluster("a:1", "b:2", "c:3")


@pytest.fixture
async def other(connect: Connect) -> Client:
    return await connect()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110 (virtual time)
            await asyncio.sleep(0.001)


def leases_of(cluster: LockCluster, name: bytes) -> set[int]:
    """Those that the queue stands on."""
    return {unpack_version(each.record)[3] for each in cluster.machine.lock_entries(name)}


def ran(kind: str, answer: Answer, times: int = 1) -> Callable[[SeenRequest], Answer]:
    """A script: the first `times` batches with a command of this kind meet `answer`."""
    left = times

    def answer_to(seen: SeenRequest) -> Answer:
        nonlocal left
        if left and any(each.WhichOneof("command") == kind for each in seen.batch.commands):
            left -= 1
            return answer
        return None

    return answer_to


# ---- holding ---------------------------------------------------------------------------


async def test_a_free_lock_costs_two_commands_once_the_lease_is_there(
    client: Client, cluster: LockCluster
) -> None:
    async with client.lock("n"):
        pass
    before = cluster.loop.time() + 0.0001
    await asyncio.sleep(0.001)
    async with client.lock("n") as lock:
        assert cluster.store.tokens(b"n") == [lock.token]
        assert lock.key == b"n/%016x" % lock.token
        assert TTL * 0.5 < lock.remaining() <= TTL * LEASE_TRUST
    assert cluster.store.tokens(b"n") == []
    sent = [each for seen in cluster.seen if seen.at > before for each in seen.batch.commands]
    assert [each.WhichOneof("command") for each in sent] == ["acquire", "delete_range"]


async def test_a_lock_is_granted_in_the_order_of_tokens(client: Client, other: Client) -> None:
    tokens: list[int] = []
    inside = 0

    async def use(who: Client) -> None:
        nonlocal inside
        async with who.lock("n") as lock:
            inside += 1
            assert inside == 1
            tokens.append(lock.token)
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(use(who) for who in (client, other) * 10))
    assert len(tokens) == 20
    assert tokens == sorted(tokens)


async def test_tasks_may_share_a_lock_object(client: Client) -> None:
    lock = client.lock("n")
    inside = 0

    async def use() -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            assert lock.remaining() > 0
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(use() for _ in range(5)))


async def test_a_task_that_acquires_its_own_lock_again_gets_lock_reentered(
    client: Client,
) -> None:
    async with client.lock("n"):
        with pytest.raises(LockReentered):
            await client.lock("n").acquire()
        with pytest.raises(LockReentered):
            await client.lock("n").try_acquire()
        async with client.lock("m"):
            pass
    async with client.lock("n"):
        pass


@pytest.mark.parametrize("take", [Lock.acquire, Lock.try_acquire])
async def test_the_task_that_waits_for_an_acquire_in_another_task_owns_the_lock(
    client: Client, take: Callable[[Lock], Coroutine[object, object, object]]
) -> None:
    """`wait_for` makes such a task on Python 3.11, `create_task` and `gather` everywhere."""
    lock = client.lock("n")
    for run in (
        lambda asked: asyncio.wait_for(asked, 1.0),
        asyncio.create_task,
        asyncio.gather,
    ):
        await run(take(lock))
        for again in (lock, client.lock("n")):
            with pytest.raises(LockReentered):
                await asyncio.wait_for(again.acquire(), 1.0)
            with pytest.raises(LockReentered):
                await again.try_acquire()
        assert await lock.release()


async def test_a_block_entered_by_wait_for_is_exited_by_the_task_that_awaited_it(
    client: Client, cluster: LockCluster
) -> None:
    """Python 3.11 enters it in a task that has ended when the block is left."""
    async with AsyncExitStack() as stack:
        lock = await asyncio.wait_for(stack.enter_async_context(client.lock("n")), 1.0)
        assert cluster.store.tokens(b"n") == [lock.token]
    assert not cluster.store.tokens(b"n")


async def test_a_task_that_asks_for_one_name_twice_at_once_does_not_wait_for_itself(
    client: Client, cluster: LockCluster
) -> None:
    asked = [client.lock("n").acquire() for _ in range(2)]
    first, second = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, Lock)
    assert isinstance(second, LockReentered)
    assert await first.release()
    await first.acquire()
    assert cluster.store.tokens(b"n") == [first.token]


async def test_tasks_that_acquire_at_once_hold_the_lock_in_turn(client: Client) -> None:
    async def use() -> None:
        lock = client.lock("n")
        await asyncio.wait_for(lock.acquire(), 60.0)
        await asyncio.sleep(0.1)
        assert await lock.release()

    await asyncio.gather(*(use() for _ in range(5)))


@pytest.mark.parametrize("take", [Lock.acquire, Lock.try_acquire])
async def test_a_lock_that_was_lost_can_be_acquired_again_without_release(
    client: Client, cluster: LockCluster, take: Callable[[Lock], Awaitable[object]]
) -> None:
    lock = await client.lock("n").acquire()
    first = lock.token
    cluster.go_down()
    await asyncio.sleep(TTL)
    cluster.come_up()
    await asyncio.sleep(1.0)  # the lost lease is revoked
    await take(lock)
    assert lock.token > first


async def test_try_acquire_acquires_a_free_lock_and_never_waits(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    lock = client.lock("n")
    assert await lock.try_acquire()
    assert not await other.lock("n").try_acquire()
    assert len(cluster.store.tokens(b"n")) == 1
    assert await lock.release()
    assert not await lock.release()
    assert await other.lock("n").try_acquire()


# ---- giving up -------------------------------------------------------------------------


async def test_a_waiter_that_times_out_leaves_the_queue(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    async with client.lock("n") as lock:
        with pytest.raises(LockNotAcquired, match=r"^lock n was .* within 1 s: others hold it$"):
            await other.lock("n").acquire(timeout=1.0)
        await until(lambda: cluster.store.tokens(b"n") == [lock.token])


@pytest.mark.parametrize("warm", [False, True])
async def test_an_acquire_without_an_answer_reports_no_holder(
    client: Client, cluster: LockCluster, warm: bool
) -> None:
    if warm:  # the lease is there, so the entry is what is not confirmed
        async with client.lock("warm"):
            pass
    for node in cluster.nodes.values():
        node.refusal = NoLeader("no majority")
    with pytest.raises(DeadlineExceeded, match="whether others hold it is not known") as raised:
        await client.lock("n").acquire(timeout=1.0)
    assert raised.value.facts["name"] == "n"
    for node in cluster.nodes.values():
        node.refusal = None
    await asyncio.sleep(10.0)
    assert cluster.store.tokens(b"n") == []


@pytest.mark.parametrize("warm", [False, True])
async def test_closing_waits_at_most_a_second_for_commands_of_its_locks(
    connect: Connect, cluster: LockCluster, warm: bool
) -> None:
    client = await connect()
    held = await client.lock("held").acquire() if warm else None
    cluster.go_down()
    with pytest.raises(DeadlineExceeded):
        await client.lock("n").acquire(timeout=1.0)
    if held is not None:
        held.detach()
    before = cluster.loop.time()
    await client.close()
    assert cluster.loop.time() - before < 1.1


async def test_an_outage_does_not_hide_a_holder_that_was_known_before(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    async with other.lock("n", ttl=60.0):
        waiting = asyncio.create_task(client.lock("n").acquire(timeout=2.0))
        await until(lambda: len(cluster.store.tokens(b"n")) == 2)
        await asyncio.sleep(0.1)
        for node in cluster.nodes.values():
            node.refusal = NoLeader("no majority")
        with pytest.raises(LockNotAcquired):
            await waiting
        for node in cluster.nodes.values():
            node.refusal = None
        await asyncio.sleep(5.0)


async def test_tasks_that_share_a_lock_share_the_knowledge_that_it_is_held(
    client: Client, cluster: LockCluster
) -> None:
    lock = await client.lock("n").acquire()

    async def take(timeout: float) -> None:
        await lock.acquire(timeout=timeout)

    with pytest.raises(LockNotAcquired):
        await asyncio.create_task(take(1.0))
    await lock.release()
    cluster.go_down()
    first = asyncio.create_task(take(2.0))
    await asyncio.sleep(0.1)
    with pytest.raises(DeadlineExceeded):
        await lock.acquire(timeout=1.0)
    with pytest.raises(DeadlineExceeded):
        await first


async def test_the_short_timeout_of_one_task_fails_no_other_task(
    client: Client, cluster: LockCluster
) -> None:
    async def give_up_soon() -> None:
        with pytest.raises(DeadlineExceeded):
            await client.lock("n").acquire(timeout=0.1)

    cluster.go_down()
    await give_up_soon()  # and the grant of its lease goes on
    await asyncio.sleep(CLIENT_TIMEOUT_S - 0.2)
    late = asyncio.create_task(client.lock("n").acquire())
    await asyncio.sleep(0.5)
    cluster.come_up()
    assert (await late).remaining() > 0


async def test_an_outage_that_is_over_is_not_reported_to_later_callers(
    client: Client, cluster: LockCluster
) -> None:
    cluster.go_down()
    with pytest.raises(DeadlineExceeded):
        await client.lock("n").acquire(timeout=0.1)
    await asyncio.sleep(2 * CLIENT_TIMEOUT_S)
    cluster.come_up()
    async with client.lock("n"):
        pass


async def test_a_waiter_that_is_cancelled_leaves_the_queue(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    async with client.lock("n") as lock:
        waiting = asyncio.create_task(other.lock("n").acquire())
        await until(lambda: len(cluster.store.tokens(b"n")) == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: cluster.store.tokens(b"n") == [lock.token])


@pytest.mark.parametrize("after_s", [0.0, 0.0005, 0.0015, 0.0025, 0.0035, 0.0045])
async def test_an_acquire_cancelled_at_any_moment_leaves_no_key_behind(
    client: Client, cluster: LockCluster, after_s: float
) -> None:
    async with client.lock("warm"):
        pass
    acquiring = asyncio.create_task(client.lock("n").acquire())
    await asyncio.sleep(after_s)
    acquiring.cancel()
    with suppress(asyncio.CancelledError):
        await (await acquiring).release()
    await asyncio.sleep(1.0)
    assert cluster.store.tokens(b"n") == []


@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.APPLY_AND_BREAK])
async def test_the_entry_of_a_cancelled_join_is_removed_though_its_answer_was_lost(
    client: Client, cluster: LockCluster, fault: Fault
) -> None:
    async with client.lock("warm"):
        pass
    cluster.answer_to = ran("acquire", fault)
    with pytest.raises(DeadlineExceeded):
        await client.lock("n").acquire(timeout=0.002)
    await until(lambda: bool(cluster.store.tokens(b"n")))
    await until(lambda: not cluster.store.tokens(b"n"))
    async with client.lock("warm"):
        assert len(cluster.commands("lease_grant")) == 2  # a session and a lease: it was not lost


async def test_a_join_of_unknown_outcome_ends_its_lease(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    """Its answers are lost until its time is up, while the lease's renewals get through."""
    async with client.lock("warm"):
        pass
    cluster.answer_to = ran("acquire", Fault.REPLY_LOST, 100)
    cluster_settled = asyncio.create_task(client.lock("n").acquire())
    with pytest.raises(OutcomeUnknown):
        await cluster_settled
    cluster.answer_to = lambda seen: None
    async with asyncio.timeout(1.0):
        await other.lock("n").acquire()


async def test_a_release_whose_answer_is_lost_is_repeated_until_it_is_answered(
    client: Client, cluster: LockCluster
) -> None:
    cluster.answer_to = ran("delete_range", Fault.LOST, 3)
    lock = await client.lock("n").acquire()
    releasing = asyncio.create_task(lock.release())
    await asyncio.sleep(0.01)
    releasing.cancel()
    with suppress(asyncio.CancelledError):
        await releasing
    await until(lambda: not cluster.store.tokens(b"n"))


# ---- loss ------------------------------------------------------------------------------


async def test_loss_cancels_the_block_when_trust_ends_and_not_later(
    client: Client, cluster: LockCluster
) -> None:
    reported: list[float] = []
    ends_at = 0.0

    async def hold() -> None:
        nonlocal ends_at
        async with client.lock("n", ttl=TTL) as lock:
            lock.on_lost(lambda: reported.append(cluster.loop.time()))
            ends_at = cluster.loop.time() + lock.remaining()
            cluster.go_down()
            await asyncio.Event().wait()

    with pytest.raises(LockLost):
        await hold()
    assert cluster.loop.time() == pytest.approx(ends_at, abs=0.001)
    assert reported == [pytest.approx(ends_at, abs=0.001)]
    assert cluster.store.tokens(b"n"), "the store still has the key, whatever its holder trusts"
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_releasing_one_lock_leaves_the_others_their_callbacks(
    client: Client, cluster: LockCluster
) -> None:
    reported: list[bool] = []

    def report() -> None:
        reported.append(True)

    one, two, three = [await client.lock(name).acquire() for name in ("m", "n", "o")]
    for lock in (one, two, three):
        lock.on_lost(report)
    await one.release()
    cluster.go_down()
    await asyncio.sleep(TTL)
    assert reported == [True, True]


async def test_the_store_keeps_a_lock_for_as_long_as_its_holder_trusts_it(
    client: Client, cluster: LockCluster
) -> None:
    """Only the holder is cut off; cluster time runs on."""
    lock = await client.lock("n", ttl=TTL).acquire()
    for node in cluster.nodes.values():
        node.mute = True
    while lock.remaining():
        assert cluster.store.tokens(b"n")
        await asyncio.sleep(0.05)
    await asyncio.sleep(TTL * (1 - LEASE_TRUST) + 0.1)
    assert not cluster.store.tokens(b"n")


async def test_a_cancellation_from_outside_stays_one_even_if_the_lock_is_lost_at_the_same_time(
    client: Client, cluster: LockCluster
) -> None:
    async def hold() -> None:
        async with client.lock("n") as lock:
            lock.on_lost(lambda: task.cancel())
            cluster.go_down()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_block_releases_the_lock(client: Client, cluster: LockCluster) -> None:
    async def hold() -> None:
        async with client.lock("n"):
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await until(lambda: bool(cluster.store.tokens(b"n")))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not cluster.store.tokens(b"n"))


async def test_an_error_of_the_block_is_raised_and_the_lock_released(
    client: Client, cluster: LockCluster
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.lock("n"):
            raise ZeroDivisionError
    assert not cluster.store.tokens(b"n")


async def test_a_block_that_ended_well_after_the_loss_raises_lock_lost(
    client: Client, cluster: LockCluster
) -> None:
    async def hold() -> None:
        async with client.lock("n"):
            cluster.go_down()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    with pytest.raises(LockLost):
        await hold()


async def test_a_deleted_key_is_noticed_at_the_end_of_the_block_at_the_latest(
    client: Client, cluster: LockCluster
) -> None:
    with pytest.raises(LockLost, match="its key was deleted"):
        async with client.lock("n") as lock:
            cluster.store.run(delete_range={"key": lock.key})


async def test_a_waiter_whose_lease_is_lost_fails_at_once_and_never_holds(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    await other.lock("n", ttl=60.0).acquire()
    waiting = asyncio.create_task(client.lock("n").acquire())
    await until(lambda: len(cluster.store.tokens(b"n")) == 2)
    began = cluster.loop.time()
    cluster.go_down()
    with pytest.raises(LockLost):
        await waiting
    assert cluster.loop.time() - began <= TTL * LEASE_TRUST + 0.001
    cluster.come_up()
    await until(lambda: len(cluster.store.tokens(b"n")) == 1)


async def test_a_grant_that_arrives_after_the_trust_has_ended_is_not_handed_out(
    client: Client, other: Client, cluster: LockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process stands still between the grant's arrival and the turn that would return it."""
    first = await other.lock("n", ttl=60.0).acquire()
    waiting = asyncio.create_task(client.lock("n").acquire())
    await until(lambda: len(cluster.store.tokens(b"n")) == 2)
    stood_still_s = 0.0
    clock = cluster.loop.time
    monkeypatch.setattr(cluster.loop, "time", lambda: clock() + stood_still_s)
    call = client._unary.call

    async def arrives_too_late(*arguments: object, **options: object) -> object:
        nonlocal stood_still_s
        reply = await call(*arguments, **options)  # type: ignore[arg-type]
        stood_still_s = TTL
        return reply

    monkeypatch.setattr(client._unary, "call", arrives_too_late)
    await first.release()
    with pytest.raises(LockLost):
        await waiting
    await until(lambda: not cluster.store.tokens(b"n"))


async def test_a_waiter_whose_key_is_deleted_gets_lock_lost(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    await other.lock("n").acquire()
    waiting = asyncio.create_task(client.lock("n").acquire())
    await until(lambda: len(cluster.store.tokens(b"n")) == 2)
    cluster.store.run(delete_range={"key": b"n/%016x" % cluster.store.tokens(b"n")[1]})
    with pytest.raises(LockLost):
        await waiting


async def test_a_lease_that_the_store_has_ended_is_replaced_by_the_next_acquire(
    client: Client, cluster: LockCluster
) -> None:
    await client.lock("m").acquire()
    (lease,) = [each for each in cluster.machine.leases() if list(cluster.machine.lease_keys(each))]
    cluster.store.run(lease_revoke={"lease": lease})
    lock = await client.lock("n").acquire()
    assert cluster.store.tokens(b"n") == [lock.token]


async def test_a_renewal_answered_after_a_release_without_trust_keeps_no_key(
    client: Client, cluster: LockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process stands still until the trust is over, while a renewal's answer lies there."""
    lock = await client.lock("n", ttl=TTL).acquire()
    assert lock._hold is not None
    entry = lock._hold._entry
    clock = cluster.loop.time
    monkeypatch.setattr(cluster.loop, "time", lambda: clock() + TTL)
    assert not client.queues.abandon(entry).result()
    entry.lease.trust_from(cluster.loop.time())
    assert not entry.lease.remaining()
    await until(lambda: not cluster.store.tokens(b"n"))


async def test_a_lost_lock_whose_lease_is_renewed_after_all_does_not_block_its_owner(
    client: Client, cluster: LockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = await client.lock("n", ttl=TTL).acquire()
    assert lock._hold is not None
    first, clock = lock._hold._entry, cluster.loop.time
    monkeypatch.setattr(cluster.loop, "time", lambda: clock() + TTL)
    cluster.loop.call_soon(lambda: first.lease.trust_from(cluster.loop.time()))
    async with asyncio.timeout(60.0):
        await lock.acquire()
    assert lock.token > first.token


# ---- leases that are shared ------------------------------------------------------------


async def test_a_lease_without_a_lock_for_its_ttl_is_ended(
    client: Client, cluster: LockCluster
) -> None:
    await client.put("k", "v")
    of_sessions = list(cluster.machine.leases())
    for ttl in range(5, 10):
        async with client.lock("n", ttl=ttl):
            pass
    assert len(list(cluster.machine.leases())) == len(of_sessions) + 5
    await asyncio.sleep(10.0)
    assert list(cluster.machine.leases()) == of_sessions
    async with client.lock("n", ttl=5.0) as lock:
        lock.check()


async def test_a_lease_is_kept_while_a_holder_or_waiter_uses_it(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    first = await other.lock("n", ttl=TTL).acquire()
    waiting = asyncio.create_task(client.lock("n", ttl=TTL).acquire())
    await asyncio.sleep(10 * TTL)
    await first.release()
    lock = await asyncio.wait_for(waiting, 1.0)
    await asyncio.sleep(10 * TTL)
    lock.check()


@pytest.mark.parametrize("early_s", [0.01, 0.002, 0.001, 0.0005, 0.0, -0.0005, -0.001, -0.002])
async def test_a_join_at_the_moment_at_which_its_lease_would_end_holds(
    client: Client, cluster: LockCluster, early_s: float
) -> None:
    async with client.lock("n", ttl=TTL):
        pass
    await asyncio.sleep(TTL - early_s)
    async with client.lock("n", ttl=TTL) as lock:
        await asyncio.sleep(3 * TTL)
        assert cluster.store.tokens(b"n") == [lock.token]


# ---- failures of nodes -----------------------------------------------------------------


async def test_a_wait_goes_on_at_another_node(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    first = await other.lock("n").acquire()
    waiting = asyncio.create_task(client.lock("n").acquire())
    await until(lambda: bool(cluster.asked))
    asked_first = cluster.nodes[cluster.asked[0]]
    asked_first.refusal = NoLeader("this node hears nothing new")
    await until(lambda: len(cluster.asked) > 1)
    assert cluster.asked[-1] != asked_first.address
    await first.release()
    await waiting


async def test_closing_the_client_releases_its_locks_and_stops_their_holders(
    cluster: LockCluster, connect: Connect
) -> None:
    client = await connect()
    lock = await client.lock("n").acquire()
    lost: list[bool] = []
    lock.on_lost(lambda: lost.append(True))
    await client.close()
    assert lost == [True]
    assert not cluster.store.tokens(b"n")
    with pytest.raises(LockLost):
        lock.check()


# ---- grants ----------------------------------------------------------------------------


async def test_a_grant_is_one_command_and_its_token_fences_writes(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    grant = await client.acquire("n", 5.0, value="me")
    assert len(cluster.commands("acquire")) == 1
    with pytest.raises(LockNotAcquired) as refused:
        await other.acquire("n", 5.0)
    assert refused.value.facts["holder_token"] == str(grant.token)
    await client.put("k", "1", fence=grant)
    assert await client.release(grant)
    with pytest.raises(Refused, match="nobody holds it"):
        await client.put("k", "2", fence=grant)
    later = await other.acquire("n", 5.0)
    assert not await client.release(grant), "a stale release frees no other lock"
    await other.put("k", "3", fence=(b"n", later.token))
    with pytest.raises(LockLost):
        await client.renew(grant)


async def test_a_grant_that_is_renewed_outlives_its_ttl_and_ends_without(
    client: Client, cluster: LockCluster
) -> None:
    grant = await client.acquire("n", 2.0)
    for _ in range(5):
        await asyncio.sleep(1.5)
        assert await client.renew(grant) == grant
    await asyncio.sleep(2.1)
    with pytest.raises(LockLost):
        await client.renew(grant)
    assert not cluster.store.tokens(b"n")


async def test_a_grant_whose_key_is_gone_is_not_renewed_though_its_lease_lives(
    client: Client, cluster: LockCluster
) -> None:
    grant = await client.acquire("n", 10.0)
    cluster.store.run(delete_range={"key": grant.key})
    with pytest.raises(LockLost):
        await client.renew(grant)


async def test_more_entries_than_one_lease_may_have_use_several_leases(
    client: Client, cluster: LockCluster
) -> None:
    cluster.store.lease_keys_max = 3
    first = await client.lock("n", ttl=TTL).acquire()

    async def take() -> Lock:
        return await client.lock("n", ttl=TTL).acquire()

    waiting = [asyncio.create_task(take()) for _ in range(7)]
    await until(lambda: len(cluster.store.tokens(b"n")) == 8)
    leases = leases_of(cluster, b"n")
    assert len(leases) == 3
    await first.release()
    for lock in waiting:
        await (await lock).release()
    await until(
        lambda: not leases & set(cluster.machine.leases())
    )  # each lease without an entry ends


async def test_a_lease_that_may_have_no_key_ends_the_attempts(
    client: Client, cluster: LockCluster
) -> None:
    cluster.store.lease_keys_max = 0
    with pytest.raises(TooManyKeys):
        await client.lock("n", ttl=TTL).acquire()
    assert len(cluster.commands("acquire")) == 1
