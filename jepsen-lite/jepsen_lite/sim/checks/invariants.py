"""The invariants of the whole cluster, checked from outside the nodes.

Each check is on what one node just did against what all nodes have shown so far, so that its
cost does not grow with the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from jepsen_lite.sim.checks.disk_losses import NEVER_TAKES_PART, Loss, Replica, takes_part
from jepsen_lite.sim.checks.durable_log import DurableLog, is_majority, rival_of
from jepsen_lite.sim.checks.history_bounds import HistoryBounds
from jepsen_lite.sim.checks.state_machine import AppliedState, StateMachineInvariants
from jepsen_lite.sim.checks.violation import Violation
from raftkv.node.node import Node
from raftkv.raft.entry import Entry, EntryKind, HardState, Membership
from raftkv.raft.messages import AppendEntriesReply, Message, RequestVote, RequestVoteReply
from raftkv.raft.ready import RaftRole
from raftkv.raft.view import RaftView
from raftkv.storage.ports import RecoveredLog
from raftkv.wire.membership import decode_membership

BOOTSTRAP_INDEX = 2
"""Committed by decree: every first node starts with it."""

DEAD_S = 5.0
"""A process that has been down for so long has no message under way, however slow the network."""


@dataclass(slots=True)
class ObservedNode:
    """What one incarnation of a node showed last."""

    term: int = 0
    commit_index: int = 0
    led_term: int = 0
    match_indexes: dict[int, int] = field(default_factory=dict)
    look_at_membership: bool = True
    applied: AppliedState = field(default_factory=AppliedState)


class Invariants:
    """Raises `Violation` where one is broken.

    Figure 3 of the Raft paper, and: promises are on disk when they are given; what is committed is
    on the disks of a majority, and no node that lacks it could be elected; the membership in force
    is the last one in the log; and a node that has lost its disk takes no part. `state_machines`
    checks what the nodes have applied.

    Promises are kept by disk. A disk that is emptied or replaced stays on record with what it had
    promised, and its node goes on as another replica.
    """

    def __init__(self, history: HistoryBounds | None = None) -> None:
        self.history = history or HistoryBounds()
        self.committed: list[tuple[int, int]] = [(0, 0)]  # (term, payload's digest) by index
        self.committed_entries: list[Entry] = []
        """From index 1 on, as the first node that committed each of them had it."""
        self.leaders: dict[int, Replica] = {}
        self.state_machines = StateMachineInvariants(self.committed)
        self._checks = 0
        self._entries: dict[tuple[int, int], tuple[int, int]] = {}
        self._votes: dict[tuple[Replica, int], int] = {}
        self._disks: dict[Replica, DurableLog] = {}
        self._gone: set[Replica] = set()
        self._memberships: dict[tuple[int, int], Membership] = {}  # by (index, term)
        self._seen: dict[Replica, ObservedNode] = {}
        self._down_s: dict[int, float] = {}  # since when a node's process has been gone
        self._up_s: dict[int, float] = {}

    # ---- disks -----------------------------------------------------------------------

    def another_disk(self, node_id: int, loss: Loss) -> Replica:
        """A node of this id runs from one more disk from now on."""
        number = sum(replica.node_id == node_id for replica in self._disks)
        replica = Replica(node_id, number, loss)
        self._disks[replica] = DurableLog()
        return replica

    def replaced(self, replica: Replica, loss: Loss) -> Replica:
        """The node runs from another disk from now on. Its acknowledgements from the old one were
        right, but no vote can come from there any more.
        """
        self.left_service(replica)
        return self.another_disk(replica.node_id, loss)

    def left_service(self, replica: Replica) -> None:
        """The node has stopped for good: no vote can come from its disk any more."""
        self._gone.add(replica)

    def acknowledged_index(self, replica: Replica) -> int:
        """How far the committed log is on this disk."""
        return min(self.committed_index, self._disks[replica].last_index)

    def last_membership(self) -> tuple[Membership, bool]:
        """The last one in the log that is ahead of all other logs, and whether it is committed."""
        disk = max(self._standing().values(), key=lambda disk: disk.end, default=DurableLog())
        last = disk.last_membership(self._memberships)
        if last is None:
            return Membership(), False
        return self._memberships[last], last[0] <= self.committed_index

    def durable(
        self, replica: Replica, hard_state: HardState | None, entries: tuple[Entry, ...]
    ) -> None:
        """These are synced on the node's disk."""
        disk = self._disks.setdefault(replica, DurableLog())
        if hard_state is not None:
            self._check_hard_state(replica, disk, hard_state)
        if not entries:
            return
        first = entries[0].index
        if first <= len(self.committed) - 1 and first <= disk.last_index:
            self._check_not_cut(replica, disk, entries)
        self._check_entries(replica, entries, disk.term_at(first - 1))
        disk.write(entries)

    def _check_hard_state(self, replica: Replica, disk: DurableLog, hard_state: HardState) -> None:
        term, vote = hard_state.current_term, hard_state.voted_for
        if term < disk.term:
            raise Violation(f"node {replica}: its term went back from {disk.term} to {term}")
        disk.term, disk.voted_for = term, vote
        if vote:
            self._note_vote(replica, term, vote)

    def _note_vote(self, replica: Replica, term: int, vote: int) -> None:
        if self._votes.setdefault((replica, term), vote) != vote:
            raise Violation(
                f"node {replica} voted twice in term {term}: for"
                f" {self._votes[replica, term]} and for {vote}"
            )

    def _check_not_cut(
        self, replica: Replica, disk: DurableLog, entries: tuple[Entry, ...]
    ) -> None:
        """A committed entry that is on a disk stays on it."""
        for index in range(entries[0].index, min(disk.last_index, len(self.committed) - 1) + 1):
            had = disk.term_at(index) == self.committed[index][0]
            position = index - entries[0].index
            has = position < len(entries) and entries[position].term == self.committed[index][0]
            if had and not has:
                raise Violation(f"node {replica} cut the committed entry {index} off its log")

    def _check_entries(
        self, replica: Replica, entries: Iterable[Entry], previous: int | None
    ) -> None:
        for entry in entries:
            self._check_log_matching(replica, entry, previous)
            previous = entry.term
            if entry.kind is EntryKind.MEMBERSHIP:
                self._memberships[entry.index, entry.term] = decode_membership(entry.payload)
                if replica in self._seen:
                    self._seen[replica].look_at_membership = True

    def _check_log_matching(self, replica: Replica, entry: Entry, previous: int | None) -> None:
        name = (entry.index, entry.term)
        known = self._entries.setdefault(name, (_digest(entry), previous or 0))
        if known[0] != _digest(entry) or (previous is not None and known[1] != previous):
            raise Violation(
                f"log matching: entry {entry.index} of term {entry.term} on node {replica} is not"
                f" what another node has there (previous terms {previous} and {known[1]})"
            )

    def compacted(self, replica: Replica, index: int, term: int, state_index: int) -> None:
        """The log up to `index` is gone; the state on the disk goes up to `state_index`."""
        self._disks[replica].compact(index, term)
        if state_index < index:
            raise Violation(
                f"node {replica} compacted its log up to {index}, but a power cut would leave its"
                f" state at {state_index}"
            )

    def reset(self, replica: Replica, index: int, term: int) -> None:
        """A snapshot replaced the log."""
        self._disks.setdefault(replica, DurableLog()).reset(index, term)
        if index >= len(self.committed) or self.committed[index][0] != term:
            raise Violation(
                f"node {replica} took a snapshot up to entry {index} of term {term}, which was"
                " never committed"
            )

    def recovered(self, replica: Replica, log: RecoveredLog) -> None:
        """A node starts, and this is all that it has: at least what was synced before."""
        disk = self._disks.setdefault(replica, DurableLog())
        if log.hard_state.current_term < disk.term:
            raise Violation(f"node {replica} came back in an older term than it had promised")
        vote = log.hard_state.voted_for
        if log.hard_state.current_term == disk.term and disk.voted_for not in (0, vote):
            raise Violation(f"node {replica} came back without its vote of term {disk.term}")
        if vote:
            self._note_vote(replica, log.hard_state.current_term, vote)
        # Written but not synced, a write may have survived the crash: it is durable now.
        terms = [entry.term for entry in log.entries]
        fresh = DurableLog(
            log.hard_state.current_term,
            log.hard_state.voted_for,
            log.compacted_index,
            log.compacted_term,
            terms,
        )
        end = min(disk.last_index, len(self.committed) - 1) + 1
        for index in range(max(disk.compacted_index, log.compacted_index) + 1, end):
            committed, _ = self.committed[index]
            if disk.term_at(index) == committed and fresh.term_at(index) != committed:
                raise Violation(f"node {replica} lost the committed entry {index} in a crash")
        self._check_entries(replica, log.entries, log.compacted_term)
        self._disks[replica] = fresh
        self._seen[replica] = ObservedNode(term=log.hard_state.current_term)

    # ---- majorities ------------------------------------------------------------------

    def up(self, node_id: int, now_s: float) -> None:
        """The node's process runs from now on, or goes on after it has stood still."""
        self._down_s.pop(node_id, None)
        self._up_s[node_id] = now_s
        self.history.began(node_id)

    def down(self, node_id: int, now_s: float) -> None:
        """The node's process is gone."""
        self._down_s.setdefault(node_id, now_s)

    def proposed(self, node_id: int, membership: Membership, now_s: float) -> None:
        """A leader begins a change of membership that is not forced."""
        if now_s - self._up_s.get(node_id, 0.0) < DEAD_S:
            return  # it stood still, and reads what others sent before they died
        self._checks += 1
        living = membership.members - {
            each for each, since_s in self._down_s.items() if now_s - since_s > DEAD_S
        }
        if not is_majority(set(living), membership):
            raise Violation(
                f"node {node_id} changes the membership to {sorted(membership.voters)} from"
                f" {sorted(membership.voters_outgoing)}, not forced, but only {sorted(living)} of"
                " them live: that costs the majority"
            )

    # ---- messages --------------------------------------------------------------------

    def sent(self, replica: Replica, messages: Iterable[Message]) -> None:
        """These leave the node: what they promise is on its disk."""
        disk = self._disks.setdefault(replica, DurableLog())
        for message in messages:
            if isinstance(message, AppendEntriesReply):
                if message.success and message.match_index > disk.last_index:
                    raise Violation(
                        f"node {replica} acknowledges entry {message.match_index}, but its disk"
                        f" ends at {disk.last_index}"
                    )
            elif isinstance(message, RequestVoteReply):
                if message.granted and not message.pre_vote:
                    self._check_vote(replica, disk, message.term, message.recipient)
            elif isinstance(message, RequestVote) and not message.pre_vote:
                self._check_vote(replica, disk, message.term, replica.node_id)

    def accepted(self, replica: Replica, messages: Iterable[Message]) -> None:
        """Another node handles these messages of the replica as those of a member."""
        if replica.loss not in NEVER_TAKES_PART:
            return
        for message in messages:
            if takes_part(message):
                raise Violation(
                    f"node {replica} takes part: node {message.recipient} accepts its {message}"
                )

    def _check_vote(self, replica: Replica, disk: DurableLog, term: int, candidate: int) -> None:
        if disk.term > term:
            # It went on before it wrote the vote down, so it can't vote in that term again.
            self._note_vote(replica, term, candidate)
        elif self._votes.get((replica, term)) != candidate or disk.term < term:
            raise Violation(
                f"node {replica} gives its vote of term {term} to {candidate}, but that is not on"
                " its disk"
            )

    # ---- nodes -----------------------------------------------------------------------

    def turned(self, replica: Replica, node: Node) -> None:
        """The node's loop has turned: look at what has changed."""
        raft = node.core
        seen = self._seen[replica]
        if raft.current_term != seen.term:
            if raft.current_term < seen.term:
                raise Violation(f"node {replica}: its term went back")
            seen.term = raft.current_term
            seen.look_at_membership = True
        if seen.look_at_membership:
            seen.look_at_membership = False
            self._check_membership(node)
        # Spelled out, and not `raft.leads`: this is the one place that runs at every turn.
        leads = raft.role is RaftRole.LEADER
        led = leads and seen.led_term == raft.current_term
        if leads:
            if not led:
                seen.led_term = raft.current_term
                seen.match_indexes = {}
                self._check_leader(replica, raft)
                self._check_membership(node)
            known = seen.match_indexes
            for peer, progress in raft.progress.items():
                if progress.match_index != known.get(peer, 0):
                    self._check_match(raft, seen, peer, progress.match_index)
        if raft.commit_index != seen.commit_index:
            if led and raft.log.term(raft.commit_index) != raft.current_term:
                raise Violation(
                    f"node {replica} leads term {raft.current_term} and commits entry"
                    f" {raft.commit_index} of another term by counting"
                )
            self._check_commit(raft, seen)
        if raft.last_applied != seen.applied.index:
            self.state_machines.applied(replica, node, seen.applied)
            self.history.applied(node.machine.revision)

    def _check_membership(self, node: Node) -> None:
        """The last membership in a node's log is in force there, committed or not (section 6)."""
        self._checks += 1
        raft, applied_index = node.core, node.machine.applied_index
        expected = node.machine.membership
        first = max(applied_index, raft.log.compacted_index) + 1
        for entry in raft.log.entries(first, raft.log.last_index + 1, 1 << 62):
            if entry.kind is EntryKind.MEMBERSHIP:
                expected = decode_membership(entry.payload)
        if raft.membership != expected:
            raise Violation(
                f"node {node.node_id} goes by the membership {raft.membership}, but the last one"
                f" in its log is {expected}"
            )

    def _check_leader(self, replica: Replica, raft: RaftView) -> None:
        self._checks += 1
        if replica.loss in NEVER_TAKES_PART:
            raise Violation(f"node {replica} takes part: it leads term {raft.current_term}")
        other = self.leaders.setdefault(raft.current_term, replica)
        if other != replica:
            raise Violation(
                f"election safety: nodes {other} and {replica} lead term {raft.current_term}"
            )
        voted = {
            voter.node_id
            for voter, term in self._votes
            if term == raft.current_term and self._votes[voter, term] == raft.node_id
        }
        if not is_majority(voted, raft.membership):
            raise Violation(
                f"election safety: node {raft.node_id} leads term {raft.current_term} with no more"
                f" votes than those of {sorted(voted)}, of {raft.membership}"
            )
        last = len(self.committed) - 1
        term = raft.log.term(last)
        if term != self.committed[last][0] and last > raft.log.compacted_index:
            raise Violation(
                f"leader completeness: node {raft.node_id} leads term {raft.current_term} without"
                f" the committed entry {last} (it has term {term} there)"
            )

    def _check_match(self, raft: RaftView, seen: ObservedNode, peer: int, match_index: int) -> None:
        """What the leader believes of a peer is on that peer's disk."""
        known = seen.match_indexes.get(peer, 0)
        if match_index < known and peer in raft.membership.members:
            raise Violation(
                f"node {raft.node_id}: the match index of {peer} went back from {known} to"
                f" {match_index}"
            )
        here = raft.log.term(match_index)
        disks = [disk for replica, disk in self._disks.items() if replica.node_id == peer]
        if here is not None and not any(disk.holds(match_index, here) for disk in disks):
            there = [disk.term_at(match_index) for disk in disks]
            raise Violation(
                f"node {raft.node_id} believes that {peer} has entry {match_index} of term {here}"
                f" on its disk, where term {', '.join(map(str, there))} is"
            )
        seen.match_indexes[peer] = match_index

    def _check_commit(self, raft: RaftView, seen: ObservedNode) -> None:
        self._checks += 1
        commit = raft.commit_index
        if commit < seen.commit_index:
            raise Violation(
                f"node {raft.node_id}: commit went back from {seen.commit_index} to {commit}"
            )
        first = max(seen.commit_index, raft.log.compacted_index) + 1
        is_new = len(self.committed) <= commit
        for entry in raft.log.entries(first, commit + 1, 1 << 62) if first <= commit else ():
            self._commit(raft, entry)
        seen.commit_index = commit
        if is_new:
            self._check_no_rival(raft, commit)

    def _check_no_rival(self, raft: RaftView, index: int) -> None:
        term, _ = self.committed[index]
        standing = self._standing()
        rival = rival_of(index, term, standing, self._memberships)
        if rival is not None and index > BOOTSTRAP_INDEX:
            raise Violation(
                f"node {raft.node_id} takes entry {index} of term {term} as committed, but node"
                f" {rival} lacks it and could be elected: its log ends at"
                f" {standing[rival].end[1]} in term {standing[rival].end[0]}"
            )

    def _standing(self) -> dict[int, DurableLog]:
        """The disks from which a vote may come, by node. While a node and its twin run it is
        neither of theirs: one of them leaves service, and it may be the one that is ahead.
        """
        standing = [
            replica
            for replica in self._disks
            if replica.loss not in NEVER_TAKES_PART and replica not in self._gone
        ]
        times = Counter(replica.node_id for replica in standing)
        return {
            replica.node_id: self._disks[replica]
            for replica in standing
            if times[replica.node_id] == 1
        }

    def _commit(self, raft: RaftView, entry: Entry) -> None:
        here = (entry.term, _digest(entry))
        if entry.index < len(self.committed):
            if self.committed[entry.index] != here:
                raise Violation(
                    f"node {raft.node_id} commits entry {entry.index} of term {entry.term}, but"
                    f" the one of term {self.committed[entry.index][0]} was committed before"
                )
            return
        if entry.index > len(self.committed):
            raise Violation(f"node {raft.node_id} commits entry {entry.index} before the last one")
        self._check_majority(raft, entry)
        if entry.kind is EntryKind.COMMANDS:
            compacted = self.state_machines.committed(raft.node_id, entry)
            if compacted:
                self.history.compacted(raft.node_id, compacted, raft.membership.members)
        self.state_machines.model.committed(entry)
        self.committed.append(here)
        self.committed_entries.append(entry)

    def _check_majority(self, raft: RaftView, entry: Entry) -> None:
        """The first node learns that this entry is committed: it must be on the disks of a
        majority.
        """
        if entry.index <= BOOTSTRAP_INDEX:
            return
        holders = {
            replica.node_id
            for replica, disk in self._disks.items()
            if disk.holds(entry.index, entry.term)
        }
        if not is_majority(holders, raft.membership):
            raise Violation(
                f"node {raft.node_id} takes entry {entry.index} of term {entry.term} as committed,"
                f" but only {sorted(holders)} have it on disk, of {raft.membership}"
            )

    def read_confirmed(self, replica: Replica, node: Node, committed_index: int) -> None:
        """A linearizable read may begin at this node; when it was asked for, `committed_index` was
        committed somewhere.
        """
        self._checks += 1
        if replica.loss in NEVER_TAKES_PART:
            raise Violation(f"node {replica} takes part: it serves a linearizable read")
        if node.machine.applied_index < committed_index:
            raise Violation(
                f"node {node.node_id} serves a linearizable read at entry"
                f" {node.machine.applied_index}, but entry {committed_index} was committed before"
                " the read began"
            )

    @property
    def checks(self) -> int:
        """How many checks have been made."""
        return self._checks + self.state_machines.checks

    @property
    def committed_index(self) -> int:
        """The highest commit index that any node has shown."""
        return len(self.committed) - 1


def _digest(entry: Entry) -> int:
    return hash((entry.kind.value, entry.payload))
