import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import (
    DeadlineExceeded,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    SessionExpired,
    ShuttingDown,
    TooLarge,
)
from raftkv.node.flow_control import LATELY_TICKS
from raftkv.node.proposals import PendingProposals, in_parts
from raftkv.peer.ports import Submission
from raftkv.rpc.v1 import kv_pb2

ORIGIN = 7


def waiting(
    *batches: bytes, deadline: float = 100.0
) -> tuple[PendingProposals, list[asyncio.Future]]:
    submissions = PendingProposals(ORIGIN, count_max=8, bytes_max=1000)
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in batches]
    for commands, future in zip(batches, futures, strict=True):
        submissions.add(commands, future, deadline)
    return submissions, futures


def numbers(submissions: list[Submission]) -> list[int]:
    return [submission.number for submission in submissions]


async def test_results_resolve_the_future_of_their_batch() -> None:
    submissions, (first, second) = waiting(b"a", b"b")
    assert numbers(submissions.take_unsent(term=2)) == [1, 2]
    submissions.resolve(2, b"result of b")
    assert await second == b"result of b"
    assert not first.done()
    assert submissions.settled == 0
    submissions.resolve(1, b"result of a")
    assert await first == b"result of a"
    assert submissions.settled == 2


async def test_only_an_applied_entry_of_a_later_term_proves_a_submission_dead() -> None:
    submissions, (future,) = waiting(b"a")
    submissions.take_unsent(term=2)
    submissions.revive_before(2)
    assert not submissions.may_send
    submissions.revive_before(3)
    assert numbers(submissions.take_unsent(term=3)) == [1]
    assert not future.done()


async def test_past_its_deadline_a_batch_that_reached_a_leader_has_an_unknown_outcome() -> None:
    submissions, (sent,) = waiting(b"a", deadline=5.0)
    submissions.take_unsent(term=2)
    late = asyncio.get_running_loop().create_future()
    submissions.add(b"b", late, 5.0)
    submissions.tick(5.0, leader_known=True, leaderless_ticks_max=40)
    with pytest.raises(OutcomeUnknown):
        await sent
    with pytest.raises(DeadlineExceeded):
        await late
    assert not submissions.may_send
    assert len(submissions) == 0


async def test_without_a_leader_for_long_a_batch_fails_fast_and_safely() -> None:
    submissions, (future,) = waiting(b"a")
    for _ in range(40):
        submissions.tick(1.0, leader_known=False, leaderless_ticks_max=40)
    assert not future.done()
    submissions.tick(1.0, leader_known=False, leaderless_ticks_max=40)
    with pytest.raises(NoLeader):
        await future


async def test_a_batch_that_a_snapshot_may_include_is_unknown_unless_it_can_be_repeated() -> None:
    submissions, (plain, in_session) = waiting(b"plain", b"in session")
    submissions.take_unsent(term=2)
    submissions.snapshot_installed(lambda commands: commands == b"in session")
    with pytest.raises(OutcomeUnknown):
        await plain
    assert numbers(submissions.take_unsent(term=3)) == [3]
    assert not in_session.done()


def jumped_over() -> tuple[PendingProposals, asyncio.Future[bytes]]:
    """A batch that may be among the entries that a snapshot stands for."""
    submissions, (future,) = waiting(b"in session")
    submissions.take_unsent(term=2)
    submissions.snapshot_installed(lambda _: True)
    return submissions, future


async def test_a_batch_that_may_have_been_applied_never_fails_as_not_applied() -> None:
    without_leader, lonely = jumped_over()
    without_leader.tick(0.0, leader_known=False, leaderless_ticks_max=0)
    in_time, late = jumped_over()
    in_time.tick(1e9, leader_known=True, leaderless_ticks_max=40)
    stopping, stopped = jumped_over()
    stopping.fail_all(lambda: NoLeader("unsent"))
    for future in (lonely, late, stopped):
        with pytest.raises(OutcomeUnknown):
            await future


async def test_the_end_of_the_session_settles_nothing_for_a_batch_that_may_have_run_in_it() -> None:
    failure = kv_pb2.Failure(reason=SessionExpired.reason)
    expired = kv_pb2.BatchResult(failure=failure).SerializeToString()
    submissions, first = jumped_over()
    (repeated,) = submissions.take_unsent(term=3)
    submissions.resolve(repeated.number, expired)
    with pytest.raises(OutcomeUnknown):
        await first
    submissions, (sent_once,) = waiting(b"in session")
    submissions.take_unsent(term=2)
    submissions.resolve(1, expired)
    assert await sent_once == expired


async def test_the_results_of_a_repeated_batch_are_its_results() -> None:
    submissions, future = jumped_over()
    (repeated,) = submissions.take_unsent(term=3)
    submissions.resolve(repeated.number, b"")
    assert await future == b""


async def test_a_batch_that_may_be_lost_is_sent_again_with_a_growing_delay() -> None:
    submissions, _ = waiting(b"a")
    submissions.take_unsent(term=2)
    resent_at = []
    for tick in range(1, 33):
        submissions.tick(0.0, leader_known=True, leaderless_ticks_max=40)
        if submissions.take_overdue(term=2):
            resent_at.append(tick)
    assert resent_at == [4, 8, 16, 32]


async def test_over_the_bounds_a_batch_is_refused_at_once() -> None:
    submissions, _ = waiting(*[b"x"] * 8)
    with pytest.raises(Overloaded) as refusal:
        submissions.add(b"x", asyncio.get_running_loop().create_future(), 1.0)
    assert refusal.value.retry_after_s > 0


async def test_a_cancelled_proposal_frees_its_slot() -> None:
    submissions, (future,) = waiting(b"a")
    future.cancel()
    submissions.tick(0.0, leader_known=True, leaderless_ticks_max=40)
    assert len(submissions) == 0
    assert not submissions.may_send


async def test_a_stopping_node_fails_each_batch_with_its_outcome() -> None:
    submissions, (sent,) = waiting(b"a")
    submissions.take_unsent(term=2)
    unsent = asyncio.get_running_loop().create_future()
    submissions.add(b"b", unsent, 9.0)
    submissions.fail_all(lambda: ShuttingDown("stopping"))
    with pytest.raises(OutcomeUnknown):
        await sent
    with pytest.raises(ShuttingDown):
        await unsent


# ---- what the leader refuses -----------------------------------------------------------


async def test_what_the_leader_has_not_proposed_fails_with_its_error() -> None:
    submissions, (first, second) = waiting(b"a", b"b")
    submissions.take_unsent(term=2)
    submissions.refused(2, 1, TooLarge("over a limit"))
    with pytest.raises(TooLarge, match="over a limit"):
        await first
    assert not second.done()
    assert len(submissions) == 1
    assert not submissions.may_send


async def test_a_refusal_of_another_term_or_number_means_nothing() -> None:
    submissions, (future,) = waiting(b"a")
    submissions.take_unsent(term=2)
    submissions.refused(1, 1, TooLarge("over a limit"))
    submissions.refused(3, 1, TooLarge("over a limit"))
    submissions.refused(2, 9, TooLarge("over a limit"))
    assert not future.done()
    submissions.revive_before(3)
    submissions.refused(2, 1, TooLarge("over a limit"))  # it is on its way again
    assert not future.done()


async def test_what_may_have_been_applied_is_not_refused() -> None:
    submissions, future = jumped_over()
    (repeated,) = submissions.take_unsent(term=3)
    submissions.refused(3, repeated.number, Overloaded("full"))
    assert not future.done()


# ---- turns, and what a leader is given at a time ---------------------------------------


def handed_in(
    submissions: PendingProposals, client: int, *command_counts: int
) -> list[asyncio.Future[bytes]]:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[bytes]] = [loop.create_future() for _ in command_counts]
    for count, future in zip(command_counts, futures, strict=True):
        submissions.add(b"x", future, 100.0, client, count)
    return futures


async def test_a_leader_gets_little_of_a_backlog_and_of_each_client_at_least_one_batch() -> None:
    submissions = PendingProposals(ORIGIN, count_max=100, bytes_max=1000)
    handed_in(submissions, 1, *[1000] * 20)
    assert numbers(submissions.take_unsent(term=2)) == [1, 2, 3, 4, 5]
    assert not submissions.may_send
    handed_in(submissions, 2, 1, 1)
    assert numbers(submissions.take_unsent(term=2)) == [21]
    submissions.resolve(1, b"")
    assert numbers(submissions.take_unsent(term=2)) == [22, 6]


async def test_an_unsent_batch_past_its_deadline_is_not_applied() -> None:
    submissions = PendingProposals(ORIGIN, count_max=100, bytes_max=1000)
    *sent, unsent = handed_in(submissions, 1, *[1000] * 6)
    submissions.take_unsent(term=2)
    submissions.tick(100.0, leader_known=True, leaderless_ticks_max=40)
    assert isinstance(unsent.exception(), DeadlineExceeded)
    assert {type(future.exception()) for future in sent} == {OutcomeUnknown}
    assert not submissions.may_send
    handed_in(submissions, 1, *[1000] * 5)  # nothing is counted that is over
    assert len(submissions.take_unsent(term=2)) == 5


async def test_a_revived_batch_precedes_later_batches_of_its_client() -> None:
    submissions = PendingProposals(ORIGIN, count_max=100, bytes_max=1000)
    handed_in(submissions, 1, *[1000] * 7)
    assert numbers(submissions.take_unsent(term=2)) == [1, 2, 3, 4, 5]
    submissions.revive_before(3)
    assert numbers(submissions.take_unsent(term=3)) == [1, 2, 3, 4, 5]
    submissions.snapshot_installed(lambda _: True)
    assert numbers(submissions.take_unsent(term=3)) == [8, 9, 10, 11, 12]
    for number in range(8, 13):
        submissions.resolve(number, b"")
    assert numbers(submissions.take_unsent(term=3)) == [6, 7]


@given(st.lists(st.sampled_from(["add", "take", "term", "resolve", "refuse", "snapshot", "leave"])))
def test_whatever_happens_to_batches_nothing_is_counted_that_is_over(steps: list[str]) -> None:
    async def scenario() -> None:
        submissions = PendingProposals(ORIGIN, count_max=1_000, bytes_max=10_000)
        term, sent, futures = 1, [], []
        for step in steps:
            if step == "add":
                futures += handed_in(submissions, len(futures) % 3, 1000, 700)
            elif step == "take":
                sent += numbers(submissions.take_unsent(term))
            elif step == "term":
                term += 1
                submissions.revive_before(term)
            elif step == "resolve" and sent:
                submissions.resolve(sent.pop(), b"")
            elif step == "refuse" and sent:
                submissions.refused(term, sent.pop(), Overloaded("full"))
            elif step == "snapshot":
                submissions.snapshot_installed(lambda _: True)
            elif step == "leave" and futures:
                futures.pop().cancel()
                submissions.tick(0.0, leader_known=True, leaderless_ticks_max=40)
        for number in range(1, 1_000):
            submissions.resolve(number, b"")
        assert len(submissions) == 0
        handed_in(submissions, 1, *[1000] * 20)
        assert len(submissions.take_unsent(term)) == 5
        handed_in(submissions, 2, 1)
        assert len(submissions.take_unsent(term)) == 1
        for future in futures:
            if future.done() and not future.cancelled():
                future.exception()

    asyncio.run(scenario())


async def test_a_refused_batch_frees_its_slot() -> None:
    submissions = PendingProposals(ORIGIN, count_max=100, bytes_max=1000)
    handed_in(submissions, 1, *[1000] * 6)
    submissions.take_unsent(term=2)
    submissions.refused(2, 3, Overloaded("full"))
    assert numbers(submissions.take_unsent(term=2)) == [6]


async def test_a_load_is_mixed_while_some_write_much_and_others_little() -> None:
    submissions = PendingProposals(ORIGIN, count_max=1000, bytes_max=1000)
    handed_in(submissions, 1, 1000, 1)
    submissions.tick(0.0, leader_known=True, leaderless_ticks_max=40)
    assert not submissions.load.is_on
    handed_in(submissions, 2, 1)
    submissions.tick(0.0, leader_known=True, leaderless_ticks_max=40)
    assert submissions.load.is_on
    for _ in range(2 * LATELY_TICKS):
        submissions.tick(0.0, leader_known=True, leaderless_ticks_max=40)
    assert not submissions.load.is_on


def test_parts_keep_the_order_and_stay_within_their_bytes_unless_one_alone_does_not() -> None:
    sizes = (300, 300, 500, 5_000, 1, 999)
    submissions = [Submission(ORIGIN, n, bytes(size)) for n, size in enumerate(sizes)]
    parts = [numbers(part) for part in in_parts(submissions, 1_000)]
    assert parts == [[0, 1], [2], [3], [4, 5]]
    assert list(in_parts([], 1_000)) == []
