"""What must hold over the whole cluster at every instant (Raft figure 3, and our promises).

Outside the code it checks: it looks at disks and logs itself and shares no arithmetic with
the core. Every check names what was broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raftkv.raft.entry import Entry
from raftkv.raft.messages import AppendEntriesReply, Message, RequestVote, RequestVoteReply
from raftkv.raft.raft import Raft
from raftkv.raft.ready import RaftRole
from tests.raft.node import SimulatedNode


@dataclass(slots=True)
class Seen:
    """A node's numbers when it was last looked at, within one life of its process."""

    incarnation: int
    role: RaftRole = RaftRole.FOLLOWER
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    last_index: int = 0
    log_version: tuple[int, int, int] = (0, 0, 0)


class Invariants:
    """Told after every input of every node, and of every message that leaves one."""

    def __init__(self, nodes: Mapping[int, SimulatedNode]) -> None:
        self._nodes = nodes
        self._seen: dict[int, Seen] = {}
        self._leaders: dict[int, int] = {}  # term -> node
        self._votes: dict[tuple[int, int], int] = {}  # (voter, term) -> candidate
        self._promised_terms: dict[int, int] = {}  # node -> highest term in a promise it made
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}  # -> entry, term before it
        self._hashes: dict[tuple[int, int], int] = {}  # (index, term) -> running hash
        self._match: dict[tuple[int, int, int], int] = {}  # (leader, term, peer) -> match_index
        self._read_floors: dict[int, int] = {}
        self.committed: dict[int, tuple[int, int]] = {}  # index -> entry's term, committed in term
        self.commit_index = 0  # the highest that any node has ever known

    # Reads: a read must see all that was committed when it began (linearizability).

    def read_begins(self, context: int) -> None:
        self._read_floors[context] = self.commit_index

    def read_confirmed(self, context: int, read_index: int) -> None:
        floor = self._read_floors.get(context)
        assert floor is not None, f"nobody on this node asked for read {context}"
        assert read_index >= floor, f"stale read {context}: {read_index} < {floor}"

    # Promises: nothing is said before it is on disk.

    def message_leaves(self, node: SimulatedNode, message: Message) -> None:
        disk = node.disk
        if isinstance(message, RequestVoteReply | RequestVote) and not message.pre_vote:
            votes_for = message.sender  # a candidate votes for itself
            if isinstance(message, RequestVoteReply):
                votes_for = message.recipient
                if not message.granted:
                    return
            key = (message.sender, message.term)
            candidate = self._votes.setdefault(key, votes_for)
            assert candidate == votes_for, f"two votes of {key}: {candidate} and {votes_for}"
            state = disk.hard_state
            assert state.current_term > message.term or (
                (state.current_term, state.voted_for) == (message.term, votes_for)
            ), f"a vote left {node.node_id} before it was on disk"
        elif isinstance(message, AppendEntriesReply) and message.success:
            assert disk.hard_state.current_term >= message.term, "acknowledged in an unwritten term"
            if message.term == node.raft.current_term:
                assert message.match_index <= disk.last_index, (
                    f"{node.node_id} acknowledged {message.match_index}, "
                    f"but has {disk.last_index} on disk"
                )
        else:
            return
        term = min(message.term, node.raft.current_term)
        self._promised_terms[node.node_id] = max(term, self._promised_terms.get(node.node_id, 0))

    # Figure 3.

    def observe(self, node: SimulatedNode) -> list[str]:
        """Check everything about a node that has just done something; what changed, in words."""
        raft = node.raft
        seen = self._seen.get(node.node_id)
        if seen is None or seen.incarnation != node.incarnation:
            self._check_restart(node)
            seen = self._seen[node.node_id] = Seen(
                node.incarnation, term=raft.current_term, log_version=(-1, 0, 0)
            )
        news = self._news(raft, seen)
        self._check_log(raft, seen)
        self._check_disk(node)
        self._check_commit(node, seen)
        if raft.leads:
            self._check_leader(node, seen)
        seen.role, seen.term = raft.role, raft.current_term
        seen.commit_index, seen.applied_index = raft.commit_index, raft.last_applied
        seen.last_index = raft.log.last_index
        return news

    def _news(self, raft: Raft, seen: Seen) -> list[str]:
        news = []
        if raft.role is not seen.role or raft.current_term != seen.term:
            role = raft.role.name.lower().replace("_", "-")
            news.append(f"{raft.node_id} is {role} in term {raft.current_term}")
        if raft.commit_index != seen.commit_index:
            news.append(f"{raft.node_id} commits up to {raft.commit_index}")
        return news

    def _check_restart(self, node: SimulatedNode) -> None:
        promised = self._promised_terms.get(node.node_id, 0)
        assert node.raft.current_term >= promised, "the term went back over a restart"
        for entry in node.state.history:
            assert self.committed.get(entry.index, (entry.term,))[0] == entry.term

    def _check_log(self, raft: Raft, seen: Seen) -> None:
        """Log Matching: an index and a term name one entry, and all that goes before it."""
        log = raft.log
        version = (log.compacted_index, log.last_index, log.last_term)
        if version == seen.log_version:
            return
        seen.log_version = version
        before = log.compacted_term
        for entry in log.entries(log.first_index, log.last_index + 1, 1 << 62):
            known = self._entries.setdefault((entry.index, entry.term), (entry, before))
            assert known == (entry, before), f"log matching: {known} and {(entry, before)}"
            before = entry.term
            self._check_hash(raft, entry.index, entry.term)
        self._check_hash(raft, log.compacted_index, log.compacted_term)

    def _check_hash(self, raft: Raft, index: int, term: int) -> None:
        """One log has one running hash, wherever it was compacted and whichever leader sent it."""
        running_hash = raft.log.hash(index)
        assert running_hash is not None
        known = self._hashes.setdefault((index, term), running_hash)
        assert known == running_hash, f"running hash at {(index, term)}: {known}, {running_hash}"

    def _check_disk(self, node: SimulatedNode) -> None:
        """What the core takes for written is written, and the state is never ahead of the log."""
        log, disk = node.raft.log, node.disk
        persisted = log.persisted_index
        assert disk.term(persisted) == log.term(persisted), f"{persisted} is not on disk as it is"
        assert node.state.applied_index <= disk.last_index, "applied what is not on its own disk"
        assert disk.compacted_hash == log.compacted_hash, "the log on disk has another hash"

    def _check_commit(self, node: SimulatedNode, seen: Seen) -> None:
        raft, state = node.raft, node.state
        assert raft.current_term >= seen.term, "the term went back"
        assert raft.commit_index >= seen.commit_index, "commit_index went back"
        assert raft.last_applied >= seen.applied_index, "last_applied went back"
        assert raft.last_applied == state.applied_index <= raft.commit_index, "applied over commit"
        for entry in state.history[seen.applied_index :]:
            # State Machine Safety: what one node applies at an index, all apply there.
            committed = self.committed.get(entry.index)
            assert committed is not None, f"{raft.node_id} applied {entry}, which no node committed"
            assert committed[0] == entry.term, f"{raft.node_id} applied {entry}, not {committed}"
        first = max(seen.commit_index, raft.log.compacted_index) + 1
        for index in range(first, raft.commit_index + 1):
            term = raft.log.term(index)
            assert term is not None, "committed beyond the log"
            if index not in self.committed:
                self._check_durable(raft, index, term)
            known = self.committed.setdefault(index, (term, raft.current_term))
            assert known[0] == term, f"two entries committed at {index}: {known[0]} and {term}"
        if raft.commit_index > self.commit_index:
            self.commit_index = raft.commit_index
            for other in self._nodes.values():
                if other.up and other.raft.leads:
                    self._check_complete(other.raft)

    def _check_durable(self, raft: Raft, index: int, term: int) -> None:
        """An entry that a node first reports as committed is on the disks of a majority."""
        membership = raft.membership
        for voters in (membership.voters, membership.voters_outgoing):
            holders = [
                voter
                for voter in voters
                if (disk := self._nodes[voter].disk).compacted_index >= index
                or disk.term(index) == term
            ]
            assert not voters or 2 * len(holders) > len(voters), (
                f"{raft.node_id} commits ({index}, {term}), which of {sorted(voters)} "
                f"only {holders} have on disk"
            )

    def _check_leader(self, node: SimulatedNode, seen: Seen) -> None:
        raft = node.raft
        term, log = raft.current_term, raft.log
        leader = self._leaders.setdefault(term, raft.node_id)
        assert leader == raft.node_id, f"election safety: {leader} and {raft.node_id} in {term}"
        if seen.role is not RaftRole.LEADER or seen.term != term:
            state = node.disk.hard_state
            assert (state.current_term, state.voted_for) == (term, raft.node_id), (
                "a leader counted its own vote before it was on disk"
            )
            self._check_complete(raft)
        else:
            assert log.last_index >= seen.last_index, "leader append-only"
        for peer, progress in raft.progress.items():
            key = (raft.node_id, term, peer)
            match_index = progress.match_index
            assert match_index >= self._match.get(key, 0), "match_index went back"
            self._match[key] = match_index
            if peer in self._nodes and match_index > 0:
                disk = self._nodes[peer].disk
                # A peer that follows a later leader by now may have cut off its tail.
                assert disk.last_index >= match_index or disk.hard_state.current_term > term, (
                    f"{raft.node_id} counts ({peer}, {match_index}), which is not on disk"
                )

    def _check_complete(self, leader: Raft) -> None:
        """Leader Completeness: committed entries are in the log of all later terms' leaders."""
        log = leader.log
        for index, (term, in_term) in self.committed.items():
            if index > log.compacted_index and in_term < leader.current_term:
                assert log.term(index) == term, (
                    f"leader {leader.node_id} of term {leader.current_term} "
                    f"lacks the entry ({index}, {term}) committed in term {in_term}"
                )


class Unchecked(Invariants):
    """Of a cluster in which nothing has to hold, as disks were lost."""

    def message_leaves(self, node: SimulatedNode, message: Message) -> None:
        pass

    def observe(self, node: SimulatedNode) -> list[str]:
        return []
