"""The leader's queue: what it takes, what it refuses, and whose turn it is."""

import asyncio

import pytest

from raftkv.errors import OutcomeUnknown, Overloaded
from raftkv.node import flow_control
from raftkv.node.proposal_queue import ProposalQueue
from raftkv.node.proposals import PendingProposals
from raftkv.peer.ports import Submission

ORIGIN = 7
LARGE = 128  # commands of a batch that costs more than a turn


def numbers(submissions: list[Submission]) -> list[int]:
    return [submission.number for submission in submissions]


def batch(client: int, number: int, weight: int = 1) -> Submission:
    return Submission(ORIGIN, number, b"x", client, weight)


class Leader:
    """Proposes from an intake as the driver does, one entry at an index."""

    def __init__(self, intake: ProposalQueue) -> None:
        self.intake = intake
        self.last_applied = self.last_index = 0

    def entries(self, bytes_max: int = 1 << 20) -> list[list[int]]:
        """All that may be proposed while nothing is applied: the numbers in each entry."""
        proposed = []
        while self.intake.may_propose(self.last_applied):
            self.last_index += 1
            submissions, _ = self.intake.take(bytes_max, self.last_index)
            proposed.append(numbers(submissions))
        return proposed

    def apply_next(self) -> list[list[int]]:
        """One entry is applied; what may be proposed then."""
        self.last_applied += 1
        return self.entries()


async def test_a_leader_accepts_again_what_a_snapshot_may_have_included() -> None:
    intake = ProposalQueue(1000)
    submissions = PendingProposals(ORIGIN, count_max=8, bytes_max=1000)
    loop = asyncio.get_running_loop()
    plain, first, second = futures = [loop.create_future() for _ in range(3)]
    for commands, future in zip(
        (b"plain", b"1st in session", b"2nd in session"), futures, strict=True
    ):
        submissions.add(commands, future, 100.0)
    intake.add(1, submissions.take_unsent(term=2), submissions.settled)
    assert len(intake.take(1000, 1)[0]) == 3
    submissions.snapshot_installed(lambda commands: commands.endswith(b"in session"))
    assert isinstance(plain.exception(), OutcomeUnknown)
    intake.add(1, submissions.take_unsent(term=2), submissions.settled)
    again, _ = intake.take(1000, 2)
    assert [each.commands for each in again] == [b"1st in session", b"2nd in session"]
    submissions.resolve(again[0].number, b"")
    assert await first == b""
    assert submissions.settled == again[0].number
    assert not second.done()


def test_the_leader_takes_each_submission_once_however_often_it_arrives() -> None:
    intake = ProposalQueue(1000)
    one, two = Submission(ORIGIN, 1, b"a"), Submission(ORIGIN, 2, b"b")
    intake.add(1, [one], settled=0)
    intake.add(1, [one, two], settled=0)
    assert intake.take(1000, 1)[0] == [one, two]
    intake.add(1, [two], settled=1)
    intake.add(1, [one], settled=1)
    assert not intake


def test_what_one_sender_can_make_the_leader_hold_is_bounded_in_bytes() -> None:
    intake = ProposalQueue(bytes_per_sender_max=100)
    batches = [Submission(ORIGIN, number, b"x" * 60) for number in range(1, 5)]
    over = intake.add(2, batches, settled=0)
    assert [number for number, _ in over] == [3, 4]
    assert all(isinstance(error, Overloaded) for _, error in over)
    assert "bytes of node 2 waiting" in over[0][1].message
    assert intake.add(3, [Submission(ORIGIN + 1, 1, b"x")], settled=0) == []
    assert Leader(intake).entries(1000) == [[1, 2, 1]]
    assert intake.add(2, [Submission(ORIGIN, 5, b"x")], settled=0) == []


def test_a_refused_number_is_refused_again() -> None:
    """The trace: a copy was sent again before the refusal arrived. Its caller knows that it was
    not applied, and has sent it under another number.
    """
    intake = ProposalQueue(bytes_per_sender_max=100)
    first, second = Submission(ORIGIN, 1, b"x" * 100), Submission(ORIGIN, 2, b"x")
    assert [number for number, _ in intake.add(2, [first, second], settled=0)] == [2]
    intake.take(1000, 1)
    assert [number for number, _ in intake.add(2, [second], settled=0)] == [2]
    assert not intake
    intake.clear()  # a new term: whatever was refused in the old one is over
    assert intake.add(2, [second], settled=0) == []


def test_settled_numbers_are_forgotten() -> None:
    intake = ProposalQueue(bytes_per_sender_max=1)
    batches = [Submission(ORIGIN, number, b"x") for number in range(1, 100)]
    intake.add(2, batches, settled=0)
    intake.add(2, [Submission(ORIGIN, 101, b"")], settled=99)
    assert len(intake._taken[2, ORIGIN]) + len(intake._refused[2, ORIGIN]) == 1


def test_one_sender_settles_nothing_of_another() -> None:
    intake = ProposalQueue(bytes_per_sender_max=100)
    intake.add(3, [Submission(ORIGIN, 1, b"")], settled=1 << 40)
    assert intake.add(2, [Submission(ORIGIN, 1, b"mine")], settled=0) == []
    submissions, senders = intake.take(1000, 1)
    assert [each.commands for each in submissions] == [b"mine"]
    assert list(senders) == [2]


def test_a_sender_has_few_origins_and_the_oldest_is_forgotten() -> None:
    intake = ProposalQueue(bytes_per_sender_max=1 << 20)
    kept = ProposalQueue.ORIGINS_PER_SENDER_MAX
    for origin in range(kept + 3):
        intake.add(2, [Submission(origin, 1, b"x")], settled=0)
    assert {origin for _, origin in intake._taken} == set(range(3, kept + 3))
    assert intake._taken.keys() == intake._refused.keys()
    intake.add(3, [Submission(0, 1, b"x")], settled=0)
    assert len(intake._taken) == kept + 1


def test_a_sender_has_no_more_numbers_than_a_node_can_have_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ProposalQueue, "TAKEN_PER_ORIGIN_MAX", 3)
    intake = ProposalQueue(bytes_per_sender_max=1 << 20)
    batches = [Submission(ORIGIN, number, b"x") for number in range(1, 6)]
    assert [number for number, _ in intake.add(2, batches, settled=0)] == [4, 5]
    assert len(intake._taken[2, ORIGIN]) + len(intake._refused[2, ORIGIN]) == 3


def test_submissions_are_packed_into_entries_of_bounded_size() -> None:
    intake = ProposalQueue(1000)
    submissions = [Submission(ORIGIN, number, b"x" * 40) for number in range(1, 6)]
    intake.add(1, submissions, settled=0)
    assert Leader(intake).entries(100) == [[1, 2], [3, 4], [5]]


# ---- turns -----------------------------------------------------------------------------


def test_a_new_client_is_in_the_next_entry_however_much_is_queued() -> None:
    intake = ProposalQueue(1 << 30)
    leader = Leader(intake)
    intake.add(1, [batch(1, number, 500) for number in range(1, 50)], settled=0)
    assert leader.entries() == [[1], [2], [3]]  # up to the bound of what is proposed
    intake.add(2, [batch(1, 1)], settled=0)
    assert leader.apply_next() == [[1, 4]]


def test_in_mixed_load_a_large_batch_is_alone_in_an_entry() -> None:
    intake = ProposalQueue(1 << 30)
    leader = Leader(intake)
    intake.add(1, [batch(1, number, LARGE) for number in range(1, 50)], settled=0)
    intake.add(1, [batch(2, 50)], settled=0)
    intake.load.tick()
    assert leader.entries() == [[50], [1]]
    assert leader.apply_next() == []
    assert leader.apply_next() == [[2]]
    for _ in range(2 * flow_control.LATELY_TICKS):
        intake.load.tick()
    intake.add(1, [batch(1, 51, LARGE)], settled=0)
    intake.load.tick()
    assert leader.apply_next() == [[3, 4, 5], [6, 7, 8], [9, 10, 11]]


def test_one_client_alone_is_not_slowed_down() -> None:
    intake = ProposalQueue(1 << 30)
    intake.add(1, [batch(1, number, LARGE) for number in range(1, 9)], settled=0)
    intake.add(1, [batch(1, 9)], settled=0)  # what is small beside it is its own
    intake.load.tick()
    assert Leader(intake).entries() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_many_that_write_little_share_entries() -> None:
    intake = ProposalQueue(1 << 30)
    intake.add(1, [batch(client, client) for client in range(1, 1001)], settled=0)
    intake.load.tick()
    assert [len(entry) for entry in Leader(intake).entries()] == [511, 489]


def test_the_senders_of_an_entry_get_its_commit_index_at_once() -> None:
    intake = ProposalQueue(1 << 30)
    for sender in (3, 1, 2):
        intake.add(sender, [batch(1, 1), batch(2, 2)], settled=0)
    _, senders = intake.take(1 << 20, 1)
    assert list(senders) == [3, 1, 2]
    assert not intake


def test_a_new_term_forgets_what_the_old_one_proposed() -> None:
    intake = ProposalQueue(1 << 30)
    leader = Leader(intake)
    intake.add(1, [batch(1, number, 1100) for number in (1, 2)], settled=0)
    assert leader.entries() == [[1]]
    intake.clear()
    intake.add(1, [batch(1, 2, 1100)], settled=0)
    assert leader.entries() == [[2]]
