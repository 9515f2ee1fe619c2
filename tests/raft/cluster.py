"""A cluster of cores on a simulated network. Deterministic: only the test moves messages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from raftkv.raft.entry import Address, Entry, EntryKind, HardState, Membership, SnapshotPoint
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.raft.raft import Raft
from raftkv.raft.ready import ConfirmedRead, RaftConfig, Ready
from tests.raft.describe import describe, written
from tests.raft.disk import FOUNDED, State
from tests.raft.invariants import Invariants, Unchecked
from tests.raft.node import SimulatedNode

Wanted = Callable[[Message], bool]
NOTHING = Ready(None, (), (), (), None, ())


class FixedTimeouts(Random):
    """Every election timeout is the shortest one plus the node's id: who is first is known."""

    def __init__(self, node_id: int) -> None:
        super().__init__(node_id)
        self._node_id = node_id

    def randint(self, a: int, b: int) -> int:
        return min(a + self._node_id, b)


def fixed_timeouts(node_id: int, incarnation: int) -> Random:
    return FixedTimeouts(node_id)


def members(voters: Iterable[int], learners: Iterable[int] = ()) -> Membership:
    voters, learners = frozenset(voters), frozenset(learners)
    return Membership(
        voters,
        learners=learners,
        addresses={node: Address(f"node{node}:1", f"node{node}:2") for node in voters | learners},
    )


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message on its way; a snapshot's data travels with its announcement."""

    message: Message
    sender_core: Raft
    data: State | None = None


class Cluster:
    """`settle` lets everything happen that needs no time; `tick` is the only time there is."""

    def __init__(
        self,
        voters: int | Iterable[int] = 3,
        learners: Iterable[int] = (),
        *,
        config: RaftConfig | None = None,
        rng_for: Callable[[int, int], Random] = fixed_timeouts,
        founded: int = FOUNDED,
        lost_disks: bool = False,
    ) -> None:
        """`lost_disks`: nodes may break their promises, so nothing is checked but by the test."""
        voter_ids = range(1, voters + 1) if isinstance(voters, int) else voters
        self.config = config or RaftConfig()
        self.nodes: dict[int, SimulatedNode] = {}
        self.network: list[Envelope] = []
        self.cut_links: set[tuple[int, int]] = set()
        self.invariants = (Unchecked if lost_disks else Invariants)(self.nodes)
        self.reads: dict[int, int] = {}  # context -> confirmed read index
        self.trace: Callable[[str], None] | None = None
        self._rng_for = rng_for
        self._founded = founded
        self._contexts = itertools.count(1)
        membership = members(voter_ids, learners)
        for node_id in sorted(membership.members):
            self.add_node(node_id, membership)

    # What a test looks at.

    def __getitem__(self, node_id: int) -> Raft:
        return self.nodes[node_id].raft

    @property
    def up(self) -> list[SimulatedNode]:
        return [node for node in self.nodes.values() if node.up]

    @property
    def leader(self) -> int:
        """The leader of the highest term among the nodes that are up, 0 if there is none."""
        leaders = [node.raft for node in self.up if node.raft.leads]
        return max(leaders, key=lambda raft: raft.current_term).node_id if leaders else 0

    def terms(self, node_id: int) -> list[int]:
        """The terms of a node's log, from its first entry on."""
        log = self[node_id].log
        return [term for i in range(log.first_index, log.last_index + 1) if (term := log.term(i))]

    def commands(self, node_id: int) -> list[bytes]:
        """The commands that a node's state machine has run."""
        history = self.nodes[node_id].state.history
        return [entry.payload for entry in history if entry.kind is EntryKind.COMMANDS]

    def sent(self, kind: type[Message], *, to: int | None = None) -> list[Message]:
        """The messages of one kind that are on their way."""
        messages = [envelope.message for envelope in self.network]
        return [m for m in messages if isinstance(m, kind) and to in (None, m.recipient)]

    def commit_summary(self) -> str:
        terms = {in_term for _, in_term in self.invariants.committed.values()}
        return f"{len(self.invariants.committed)} entries committed in {len(terms)} terms"

    # What a test does.

    def add_node(self, node_id: int, membership: Membership | None = None) -> None:
        """Start a node with an empty disk."""
        node = SimulatedNode(
            node_id, self.config, membership or Membership(), self._rng_for, self._founded
        )
        self.nodes[node_id] = node
        self.observe(node_id)

    def write_log(
        self,
        node_id: int,
        terms: Sequence[int],
        *,
        current_term: int,
        commit_index: int = 0,
        lost: Sequence[int] = (),
    ) -> None:
        """Restart a node with a log that it got in an earlier life: one entry per term.

        The entries at the indexes `lost` are not those that all others know by index and term.
        """
        node = self.nodes[node_id]
        node.crash()
        node.disk.entries = [
            Entry(term, index, EntryKind.COMMANDS, b"?" if index in lost else b"%d" % term)
            for index, term in enumerate(terms, start=1)
        ]
        node.disk.hard_state = HardState(current_term, commit_index=commit_index)
        node.start()
        self.observe(node_id)

    def tick(self, node_id: int, times: int = 1) -> None:
        for _ in range(times):
            self[node_id].tick()
            self.observe(node_id)

    def step(self, message: Message) -> None:
        """Hand a message to its recipient, as if it had come over the network."""
        self[message.recipient].step(message)
        self.observe(message.recipient)

    def propose(self, node_id: int, *payloads: bytes) -> int | None:
        index = self[node_id].propose(payloads)
        self.observe(node_id)
        return index

    def read(self, node_id: int) -> int:
        """Ask for a read index; the context under which `reads` will have it."""
        context = next(self._contexts)
        self.invariants.read_begins(context)
        self[node_id].read_index(context)
        return context

    def crash(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self.nodes[node_id].crash()

    def restart(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self.nodes[node_id].start()
            self.observe(node_id)

    def isolate(self, *node_ids: int) -> None:
        """Cut these nodes off from all others, but not from each other."""
        for a, b in itertools.permutations(self.nodes, 2):
            if (a in node_ids) != (b in node_ids):
                self.cut_links.add((a, b))

    def heal(self) -> None:
        self.cut_links.clear()

    def drop(self, wanted: Wanted) -> int:
        """Lose the messages on their way that are `wanted`; how many."""
        lost = [envelope for envelope in self.network if wanted(envelope.message)]
        for envelope in lost:
            self.lose(envelope)
        return len(lost)

    def pump(self, node_id: int) -> bool:
        """One round of a node's driver. False if there was nothing to do."""
        node = self.nodes[node_id]
        core = node.raft
        ready = node.take_ready()
        for message in ready.messages:
            self.invariants.message_leaves(node, message)
            self.network.append(Envelope(message, core))
        for read in ready.reads:
            self._read_confirmed(node, read)
        for peer in ready.snapshots_wanted:
            self._send_snapshot(node, peer)
        if self.trace and ready.persist is not None:
            self.trace(f"{node_id} writes {written(ready.persist.entries)}")
        if self.trace and ready.committed:
            first, last = ready.committed[0].index, ready.committed[-1].index
            self.trace(f"{node_id} applies {first}..{last}")
        self.observe(node_id)
        return ready != NOTHING

    def finish_write(self, node_id: int) -> None:
        self.nodes[node_id].finish_write()
        self.observe(node_id)

    def finish_install(self, node_id: int) -> None:
        self.nodes[node_id].finish_install()
        if self.trace:
            self.trace(f"{node_id} has installed the snapshot")
        self.observe(node_id)

    def deliver(self, envelope: Envelope, *, receipt: bool = True) -> None:
        """The network brings one message to its recipient, or to nowhere over a cut link."""
        message = envelope.message
        node = self.nodes.get(message.recipient)
        cut = (message.sender, message.recipient) in self.cut_links
        if node is None or not node.up or cut:
            self.lose(envelope)
            return
        if self.trace:
            self.trace(describe(message))
        self.network.remove(envelope)
        if envelope.data is not None and isinstance(message, InstallSnapshot):
            if not node.raft.wants_snapshot(message):
                self._report(envelope, delivered=False)  # its driver takes no data for nothing
                return
            node.received[message.snapshot.last_included_index] = envelope.data
            self._report(envelope, delivered=receipt)
        self.step(message)

    def duplicate(self, envelope: Envelope) -> None:
        self.network.append(Envelope(envelope.message, envelope.sender_core, envelope.data))

    def lose(self, envelope: Envelope) -> None:
        if self.trace:
            self.trace(f"{describe(envelope.message)} is lost")
        self.network.remove(envelope)
        if envelope.data is not None:
            self._report(envelope, delivered=False)

    def settle(self, hold: Wanted = lambda message: False) -> None:
        """Run every driver, finish writes and deliver messages until nothing moves any more.

        Messages to `hold` stay on their way; a node with a slow disk keeps its write.
        """
        for _ in range(10_000):
            moved = False
            for node in self.up:
                moved |= self.pump(node.node_id)
                if node.writing is not None and not node.slow_disk:
                    self.finish_write(node.node_id)
                    moved = True
                if node.installing is not None and not node.slow_disk:
                    self.finish_install(node.node_id)
                    moved = True
            for envelope in [e for e in self.network if not hold(e.message)]:
                self.deliver(envelope)
                moved = True
            if not moved:
                return
        raise AssertionError("the cluster does not come to rest")

    def campaign(self, node_id: int) -> None:
        """Let a node's election timeout pass."""
        role, term = self[node_id].role, self[node_id].current_term
        for _ in range(self.config.election_ticks_max):
            self.tick(node_id)
            if self[node_id].role is not role or self[node_id].current_term != term:
                return

    def forget_leader(self, *node_ids: int) -> None:
        """Let so much time pass that these nodes are free to vote, but don't campaign."""
        for node_id in node_ids:
            self.tick(node_id, self.config.election_ticks_min)

    def elect(self, node_id: int) -> None:
        """Make a node the leader, by time-outs alone."""
        voters = self[node_id].membership.all_voters
        self.forget_leader(
            *[n for n in sorted(voters - {node_id}) if self.nodes[n].up and not self[n].leads]
        )
        self.campaign(node_id)
        self.settle()
        assert self[node_id].leads, f"{node_id} was not elected"

    def beat(self, node_id: int) -> None:
        """Let a leader's heartbeat interval pass."""
        self.tick(node_id, self.config.heartbeat_ticks)
        self.settle()

    def observe(self, node_id: int) -> None:
        news = self.invariants.observe(self.nodes[node_id])
        if self.trace:
            for line in news:
                self.trace(line)

    def _read_confirmed(self, node: SimulatedNode, read: ConfirmedRead) -> None:
        self.invariants.read_confirmed(read.context, read.read_index)
        self.reads.setdefault(read.context, read.read_index)
        if self.trace:
            self.trace(f"{node.node_id} may read {read.context} once {read.read_index} is applied")

    def _send_snapshot(self, node: SimulatedNode, peer: int) -> None:
        state = node.state.copy()
        point = SnapshotPoint(
            state.applied_index, state.applied_term, state.membership, state.applied_hash
        )
        message = InstallSnapshot(node.node_id, peer, node.raft.current_term, point)
        self.network.append(Envelope(message, node.raft, state))

    def _report(self, envelope: Envelope, *, delivered: bool) -> None:
        """Tell the sender, if it still lives, what became of its snapshot."""
        message = envelope.message
        assert isinstance(message, InstallSnapshot)
        sender = self.nodes.get(message.sender)
        if sender is None or not sender.up or sender.raft is not envelope.sender_core:
            return
        if delivered:
            sender.raft.snapshot_sent(message.recipient, message.snapshot)
        else:
            sender.raft.snapshot_failed(message.recipient)
