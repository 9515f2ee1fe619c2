"""Planted bugs in elections, and in the hard state of a node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.raft.entry import HardState
from raftkv.raft.log import Log
from raftkv.raft.messages import Message, RequestVote, RequestVoteReply
from raftkv.raft.outbox import Outbox
from raftkv.raft.raft import Raft
from raftkv.raft.ready import RaftRole


@mutant(
    "term or vote not durable before the reply",
    "elections",
    "power-cuts",
    caught_by="gives its vote of term .* that is not on its disk",
)
def vote_before_the_write() -> list[Patch]:
    """nodedb #161, PySyncObj: a vote leaves while the disk still writes it. After a power cut in
    between the node votes again in the same term.
    """
    promise = Outbox.promise

    def hasty(self: Outbox, message: Message) -> None:
        if isinstance(message, RequestVoteReply) and message.recipient != message.sender:
            self.send(message)
        else:
            promise(self, message)

    return [(Outbox, "promise", hasty)]


@mutant("two leaders in one term", "elections", "anything", caught_by="election safety: ")
def any_answer_is_a_vote() -> list[Patch]:
    """Xraft #33, canonical/raft #386: a late answer to the question *whether* one could win counts
    as a vote in the election itself, for which its sender may have voted otherwise.
    """

    def count(self: Raft, message: RequestVoteReply) -> None:
        if self.role in (RaftRole.PRE_CANDIDATE, RaftRole.CANDIDATE):
            self._votes.setdefault(message.sender, message.granted)
            self._count_votes()

    return [(Raft, "_handle_request_vote_reply", count)]


@mutant(
    "votes again for another candidate in the same term",
    "elections",
    "anything",
    caught_by="voted twice in term",
)
def votes_again() -> list[Patch]:
    """daos raft #70: the vote of a term is granted to every candidate, not only to the first."""
    handle = Raft._handle_request_vote

    def forgetful(self: Raft, message: RequestVote) -> None:
        if not message.pre_vote:
            self.voted_for = 0
        handle(self, message)

    return [(Raft, "_handle_request_vote", forgetful)]


@mutant("up-to-date check compares length before term", "relays", caught_by="leader completeness: ")
def longer_is_newer() -> list[Patch]:
    """Classic: a long log of an old term beats a short one that holds what is committed."""

    def is_up_to_date(self: Log, last_index: int, last_term: int) -> bool:
        return (last_index, last_term) >= (self.last_index, self.last_term)

    return [(Log, "is_up_to_date", is_up_to_date)]


@mutant("term goes back after a restart", "elections", "power-cuts", caught_by="its term went back")
def term_of_the_log() -> list[Patch]:
    """WRaft: a restarted node takes the term of its last entry for its own."""
    begin = Raft.__init__

    def begin_older(self: Raft, *args: Any) -> None:
        node_id, config, codec, rng, persisted = args
        older = HardState(persisted.log.last_term, 0, persisted.hard_state.commit_index)
        begin(self, node_id, config, codec, rng, replace(persisted, hard_state=older))

    return [(Raft, "__init__", begin_older)]


MUTANTS = (
    vote_before_the_write,
    any_answer_is_a_vote,
    votes_again,
    longer_is_newer,
    term_of_the_log,
)
