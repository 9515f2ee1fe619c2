import asyncio

import pytest

from raftkv.errors import (
    DeadlineExceeded,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    SessionExpired,
    ShuttingDown,
    TooLarge,
)
from raftkv.node.submissions import Intake, Submissions, in_parts
from raftkv.rpc import kv_pb2
from raftkv.transport.ports import Submission

ORIGIN = 7


def waiting(*batches: bytes, deadline: float = 100.0) -> tuple[Submissions, list[asyncio.Future]]:
    submissions = Submissions(ORIGIN, count_max=8, bytes_max=1000)
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in batches]
    for commands, future in zip(batches, futures, strict=True):
        submissions.add(commands, future, deadline)
    return submissions, futures


def numbers(submissions: list[Submission]) -> list[int]:
    return [submission.number for submission in submissions]


async def test_results_reach_whoever_handed_the_batch_in() -> None:
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
    assert not submissions.has_unsent
    submissions.revive_before(3)
    assert numbers(submissions.take_unsent(term=3)) == [1]
    assert not future.done()


async def test_past_its_deadline_a_batch_that_reached_a_leader_has_an_unknown_outcome() -> None:
    submissions, (sent,) = waiting(b"a", deadline=5.0)
    submissions.take_unsent(term=2)
    late = asyncio.get_running_loop().create_future()
    submissions.add(b"b", late, 5.0)
    submissions.tick(5.0, leader_known=True, patience_ticks=40)
    with pytest.raises(OutcomeUnknown):
        await sent
    with pytest.raises(DeadlineExceeded):
        await late
    assert not submissions.has_unsent
    assert len(submissions) == 0


async def test_without_a_leader_for_long_a_batch_fails_fast_and_safely() -> None:
    submissions, (future,) = waiting(b"a")
    for _ in range(40):
        submissions.tick(1.0, leader_known=False, patience_ticks=40)
    assert not future.done()
    submissions.tick(1.0, leader_known=False, patience_ticks=40)
    with pytest.raises(NoLeader):
        await future


async def test_a_snapshot_that_jumps_over_a_batch_leaves_it_unknown_unless_it_can_be_repeated() -> (
    None
):
    submissions, (plain, in_session) = waiting(b"plain", b"in session")
    submissions.take_unsent(term=2)
    submissions.jump(lambda commands: commands == b"in session")
    with pytest.raises(OutcomeUnknown):
        await plain
    assert numbers(submissions.take_unsent(term=3)) == [3]
    assert not in_session.done()


async def test_a_leader_takes_again_what_a_snapshot_of_its_own_jumped_over() -> None:
    intake = Intake(1000)
    submissions, (plain, first, second) = waiting(b"plain", b"1st in session", b"2nd in session")
    intake.add(1, submissions.take_unsent(term=2), submissions.settled)
    assert [len(taken) for taken in intake.take(1000)] == [3]
    submissions.jump(lambda commands: commands.endswith(b"in session"))
    assert isinstance(plain.exception(), OutcomeUnknown)
    intake.add(1, submissions.take_unsent(term=2), submissions.settled)
    (again,) = intake.take(1000)
    assert [each.commands for each in again] == [b"1st in session", b"2nd in session"]
    submissions.resolve(again[0].number, b"")
    assert await first == b""
    assert submissions.settled == again[0].number
    assert not second.done()


def jumped_over() -> tuple[Submissions, asyncio.Future[bytes]]:
    """A batch that may be among the entries that a snapshot stands for."""
    submissions, (future,) = waiting(b"in session")
    submissions.take_unsent(term=2)
    submissions.jump(lambda _: True)
    return submissions, future


async def test_a_batch_that_may_have_been_applied_is_never_said_not_to_be() -> None:
    without_leader, lonely = jumped_over()
    without_leader.tick(0.0, leader_known=False, patience_ticks=0)
    in_time, late = jumped_over()
    in_time.tick(1e9, leader_known=True, patience_ticks=40)
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


async def test_what_may_be_lost_on_the_way_is_sent_again_ever_more_rarely() -> None:
    submissions, _ = waiting(b"a")
    submissions.take_unsent(term=2)
    resent_at = []
    for tick in range(1, 33):
        submissions.tick(0.0, leader_known=True, patience_ticks=40)
        if submissions.take_overdue(term=2):
            resent_at.append(tick)
    assert resent_at == [4, 8, 16, 32]


async def test_over_the_bounds_a_batch_is_refused_at_once() -> None:
    submissions, _ = waiting(*[b"x"] * 8)
    with pytest.raises(Overloaded) as refusal:
        submissions.add(b"x", asyncio.get_running_loop().create_future(), 1.0)
    assert refusal.value.retry_after_s > 0


async def test_a_caller_that_went_away_frees_its_place() -> None:
    submissions, (future,) = waiting(b"a")
    future.cancel()
    submissions.tick(0.0, leader_known=True, patience_ticks=40)
    assert len(submissions) == 0
    assert not submissions.has_unsent


async def test_a_node_that_stops_says_what_may_have_happened_to_each_batch() -> None:
    submissions, (sent,) = waiting(b"a")
    submissions.take_unsent(term=2)
    unsent = asyncio.get_running_loop().create_future()
    submissions.add(b"b", unsent, 9.0)
    submissions.fail_all(lambda: ShuttingDown("stopping"))
    with pytest.raises(OutcomeUnknown):
        await sent
    with pytest.raises(ShuttingDown):
        await unsent


def test_the_leader_takes_each_submission_once_however_often_it_arrives() -> None:
    intake = Intake(1000)
    one, two = Submission(ORIGIN, 1, b"a"), Submission(ORIGIN, 2, b"b")
    intake.add(1, [one], settled=0)
    intake.add(1, [one, two], settled=0)
    assert list(intake.take(1000)) == [[one, two]]
    intake.add(1, [two], settled=1)
    intake.add(1, [one], settled=1)
    assert not intake


def test_what_one_sender_can_make_the_leader_hold_is_bounded_in_bytes() -> None:
    intake = Intake(bytes_per_sender_max=100)
    batches = [Submission(ORIGIN, number, b"x" * 60) for number in range(1, 5)]
    over = intake.add(2, batches, settled=0)
    assert [number for number, _ in over] == [3, 4]
    assert all(isinstance(error, Overloaded) for _, error in over)
    assert "bytes of node 2 waiting" in over[0][1].message
    assert intake.add(3, [Submission(ORIGIN + 1, 1, b"x")], settled=0) == []
    assert [numbers(packed) for packed in intake.take(1000)] == [[1, 2, 1]]
    assert intake.add(2, [Submission(ORIGIN, 5, b"x")], settled=0) == []


def test_what_was_refused_is_refused_again_and_not_taken_after_all() -> None:
    """The trace: a copy was sent again before the refusal arrived. Its caller has heard that it was
    not applied, and has sent it under another number.
    """
    intake = Intake(bytes_per_sender_max=100)
    first, second = Submission(ORIGIN, 1, b"x" * 100), Submission(ORIGIN, 2, b"x")
    assert [number for number, _ in intake.add(2, [first, second], settled=0)] == [2]
    list(intake.take(1000))
    assert [number for number, _ in intake.add(2, [second], settled=0)] == [2]
    assert not intake
    intake.clear()  # a new term: whatever was refused in the old one is over
    assert intake.add(2, [second], settled=0) == []


def test_settled_numbers_are_forgotten() -> None:
    intake = Intake(bytes_per_sender_max=1)
    batches = [Submission(ORIGIN, number, b"x") for number in range(1, 100)]
    intake.add(2, batches, settled=0)
    intake.add(2, [Submission(ORIGIN, 101, b"")], settled=99)
    assert len(intake._taken[2, ORIGIN]) + len(intake._refused[2, ORIGIN]) == 1


def test_one_sender_settles_nothing_of_another() -> None:
    intake = Intake(bytes_per_sender_max=100)
    intake.add(3, [Submission(ORIGIN, 1, b"")], settled=1 << 40)
    assert intake.add(2, [Submission(ORIGIN, 1, b"mine")], settled=0) == []
    assert [each.commands for packed in intake.take(1000) for each in packed] == [b"mine"]


def test_a_sender_has_few_origins_and_the_oldest_is_forgotten() -> None:
    intake = Intake(bytes_per_sender_max=1 << 20)
    kept = Intake.ORIGINS_PER_SENDER_MAX
    for origin in range(kept + 3):
        intake.add(2, [Submission(origin, 1, b"x")], settled=0)
    assert {origin for _, origin in intake._taken} == set(range(3, kept + 3))
    assert intake._taken.keys() == intake._refused.keys()
    intake.add(3, [Submission(0, 1, b"x")], settled=0)
    assert len(intake._taken) == kept + 1


def test_a_sender_has_no_more_numbers_than_a_node_can_have_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Intake, "TAKEN_PER_ORIGIN_MAX", 3)
    intake = Intake(bytes_per_sender_max=1 << 20)
    batches = [Submission(ORIGIN, number, b"x") for number in range(1, 6)]
    assert [number for number, _ in intake.add(2, batches, settled=0)] == [4, 5]
    assert len(intake._taken[2, ORIGIN]) + len(intake._refused[2, ORIGIN]) == 3


# ---- what the leader refuses -----------------------------------------------------------


async def test_what_the_leader_has_not_proposed_fails_with_its_error() -> None:
    submissions, (first, second) = waiting(b"a", b"b")
    submissions.take_unsent(term=2)
    submissions.refused(2, 1, TooLarge("over a limit"))
    with pytest.raises(TooLarge, match="over a limit"):
        await first
    assert not second.done()
    assert len(submissions) == 1
    assert not submissions.has_unsent


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


def test_submissions_are_packed_into_entries_of_bounded_size() -> None:
    intake = Intake(1000)
    submissions = [Submission(ORIGIN, number, b"x" * 40) for number in range(1, 6)]
    intake.add(1, submissions, settled=0)
    assert [numbers(packed) for packed in intake.take(100)] == [[1, 2], [3, 4], [5]]


def test_parts_keep_the_order_and_stay_within_their_bytes_unless_one_alone_does_not() -> None:
    sizes = (300, 300, 500, 5_000, 1, 999)
    submissions = [Submission(ORIGIN, n, bytes(size)) for n, size in enumerate(sizes)]
    parts = [numbers(part) for part in in_parts(submissions, 1_000)]
    assert parts == [[0, 1], [2], [3], [4, 5]]
    assert list(in_parts([], 1_000)) == []
