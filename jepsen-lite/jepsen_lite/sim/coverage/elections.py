"""Observes messages by role, elections, and how leaders come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jepsen_lite.sim.coverage.mark import MESSAGES, ROLES, Reach, kind_of, message_at
from jepsen_lite.sim.coverage.wraps import Wraps
from raftkv.raft import quorum
from raftkv.raft.messages import Message, RequestVote, RequestVoteReply
from raftkv.raft.raft import Raft
from raftkv.raft.ready import RaftRole

LEADER = RaftRole.LEADER
HANDLED = {(kind, role): message_at(kind, role) for kind in MESSAGES for role in ROLES}


def observe_messages(wraps: Wraps, reach: Reach) -> None:
    """Each message that a node handles, and what it does to a role."""

    @wraps.around(Raft, "step")
    def step(original: Callable[..., None], raft: Raft, message: Message) -> None:
        if message.sender == raft.node_id:  # its own vote, which is on its disk now
            original(raft, message)
            return
        role, term = raft.role, raft.current_term
        reach(HANDLED[kind_of(message), role])
        if message.term < term:
            reach("a message of an older term")
        original(raft, message)
        if role is LEADER and raft.current_term > term:
            reach("a leader is deposed by a higher term")
        lost = role is RaftRole.CANDIDATE and raft.role is RaftRole.FOLLOWER
        if lost and raft.current_term == term and raft.leader_id:
            reach("a candidate follows the leader of its term")

    @wraps.around(Raft, "_accepts_term_of")
    def accepts_term_of(original: Callable[..., bool], raft: Raft, message: Message) -> bool:
        accepted = original(raft, message)
        if not accepted and isinstance(message, RequestVote):
            reach("a candidate is ignored beside a living leader")
        elif not accepted and isinstance(message, RequestVoteReply):
            reach("a late answer to an older pre-vote")
        return accepted


def observe_votes(wraps: Wraps, reach: Reach) -> None:
    """Votes given and refused, won and lost."""

    @wraps.around(Raft, "_handle_request_vote")
    def handle_request_vote(
        original: Callable[..., None], raft: Raft, message: RequestVote
    ) -> None:
        voted_for = raft.voted_for
        complete = raft.log.is_up_to_date(message.last_log_index, message.last_log_term)
        leader_id = raft.leader_id
        original(raft, message)
        if message.pre_vote:
            granted = complete and message.term > raft.current_term
            reach("a pre-vote is granted" if granted else "a pre-vote is refused")
        elif voted_for == message.sender:
            reach("a vote is repeated")
        elif raft.voted_for == message.sender:
            reach("a vote is granted")
            if message.leadership_transfer:
                reach("a vote is granted in a leadership transfer")
        elif voted_for:
            reach("a vote is refused: it was given to another")
        elif not complete:
            reach("a vote is refused: the candidate's log is behind")
        elif leader_id == 0:
            reach("a vote is refused: a leader's lease may rely on it")

    @wraps.around(Raft, "_count_votes")
    def count_votes(original: Callable[..., None], raft: Raft) -> None:
        role, passive = raft.role, raft.passive
        won = quorum.tally(raft.membership, raft._votes) is quorum.Vote.WON
        original(raft)
        if raft.role is RaftRole.FOLLOWER and won and passive:
            reach("a node that peers report as removed does not stand")
        elif raft.role is RaftRole.FOLLOWER:
            pre = role is RaftRole.PRE_CANDIDATE
            reach("a pre-vote is lost" if pre else "an election is lost")

    @wraps.around(Raft, "_become_leader")
    def become_leader(original: Callable[..., None], raft: Raft) -> None:
        reach("a leader is elected")
        if raft.log.last_index > raft.commit_index:
            reach("a new leader inherits uncommitted entries")
        if not raft.membership_committed:
            reach("a new leader inherits an uncommitted configuration")
        if raft.membership.joint:
            reach("a leader is elected in a joint configuration")
        original(raft)


def observe_leaders(wraps: Wraps, reach: Reach) -> None:
    """How leaders step down, transfer and commit."""

    @wraps.around(Raft, "tick")
    def tick(original: Callable[..., None], raft: Raft) -> None:
        role, transferee = raft.role, raft.transferee
        original(raft)
        if raft.role is not role:
            if role is LEADER:
                reach("a leader without a majority steps down")
            elif role is RaftRole.CANDIDATE:
                reach("an election ends without a winner")
        elif transferee and not raft.transferee:
            reach("a leadership transfer times out")

    @wraps.around(Raft, "_handle_timeout_now")
    def handle_timeout_now(original: Callable[..., None], raft: Raft, message: Any) -> None:
        original(raft, message)
        stands = raft.role is RaftRole.CANDIDATE
        reach("a transfer's target stands at once" if stands else "a TimeoutNow is ignored")

    @wraps.around(Raft, "_advance_commit")
    def advance_commit(original: Callable[..., None], raft: Raft) -> None:
        before, known = raft.commit_index, raft.committed_in_term
        if not known:
            agreed = quorum.agreed(raft.membership, raft._replicator.match_index_of)
            if agreed > before and raft.log.term(agreed) != raft.current_term:
                reach("an older entry on a majority waits for one of the leader's term")
        original(raft)
        if raft.role is not LEADER:
            reach("a leader steps down after its own removal")
        first = not known and raft.commit_index > before
        if first and raft.log.term(before + 1) != raft.current_term:
            reach("entries of older terms commit with one of the leader's term")
