"""hypothesis looks for an order of events that breaks an invariant, and shrinks what it finds.

The invariants are checked in every step by `Cluster`; liveness is checked at the end of each run.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from raftkv.errors import MembershipRefused
from raftkv.raft.running_hash import UNKNOWN
from tests.raft.cluster import Cluster, Envelope, members
from tests.raft.disk import FOUNDED
from tests.raft.liveness import check_liveness
from tests.raft.node import Installed, SimulatedNode
from tests.raft.random_run import SMALL

NODES_MAX = 6
# Long enough for every node to have a timeout of its own: see FixedTimeouts.
CONFIG = replace(SMALL, election_ticks_min=6, election_ticks_max=6 + NODES_MAX)
pick = st.integers(0, 63)


class RaftMachine(RuleBasedStateMachine):
    """Victims are picked by number, so that shrinking finds the simplest ones."""

    cluster: Cluster

    @initialize(
        voters=st.integers(1, 5),
        learners=st.integers(0, 1),
        leads=st.booleans(),
        hashed=st.booleans(),
    )
    def start(self, voters: int, learners: int, leads: bool, hashed: bool) -> None:
        self.cluster = Cluster(
            voters,
            range(voters + 1, voters + 1 + learners),
            config=CONFIG,
            founded=FOUNDED if hashed else UNKNOWN,
        )
        if leads:
            self.cluster.elect(1)

    # Time, network, disk.

    @rule(node=pick, times=st.integers(1, CONFIG.election_ticks_max))
    def tick(self, node: int, times: int) -> None:
        if picked := self._up(node):
            self.cluster.tick(picked.node_id, times)
            self.cluster.pump(picked.node_id)

    @rule(node=pick)
    def campaign(self, node: int) -> None:
        if (picked := self._up(node)) and not picked.raft.leads:
            self.cluster.campaign(picked.node_id)
            self.cluster.pump(picked.node_id)

    @rule(node=pick)
    def pump(self, node: int) -> None:
        if picked := self._up(node):
            self.cluster.pump(picked.node_id)

    @precondition(lambda self: self.cluster.network)
    @rule(count=st.integers(1, 12))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            if self.cluster.network:
                self._deliver(self.cluster.network[0])

    @precondition(lambda self: len(self.cluster.network) > 1)
    @rule(message=pick)
    def reorder(self, message: int) -> None:
        self._deliver(self._message(message))

    @precondition(lambda self: self.cluster.network)
    @rule(message=pick)
    def drop(self, message: int) -> None:
        self.cluster.lose(self._message(message))

    @precondition(lambda self: self.cluster.network)
    @rule(message=pick)
    def duplicate(self, message: int) -> None:
        self.cluster.duplicate(self._message(message))

    @rule()
    def settle(self) -> None:
        self.cluster.settle()

    @rule(node=pick)
    def persist_complete(self, node: int) -> None:
        writing = [n for n in self.cluster.up if n.writing is not None]
        if writing:
            picked = writing[node % len(writing)]
            self.cluster.finish_write(picked.node_id)
            self.cluster.pump(picked.node_id)

    @rule(node=pick, refused=st.booleans())
    def install_complete(self, node: int, refused: bool) -> None:
        installing = [n for n in self.cluster.up if n.installing is not None]
        if installing:
            picked = installing[node % len(installing)]
            if refused:
                picked.refuse_install()
            else:
                self.cluster.finish_install(picked.node_id)
            self.cluster.pump(picked.node_id)

    @rule(node=pick)
    def slow_disk(self, node: int) -> None:
        picked = self._any(node)
        picked.slow_disk = not picked.slow_disk

    @rule(node=pick, other=pick)
    def partition(self, node: int, other: int) -> None:
        self.cluster.isolate(self._any(node).node_id, self._any(other).node_id)

    @rule()
    def heal(self) -> None:
        self.cluster.heal()

    @rule(node=pick, write_lands=st.booleans(), installed=st.sampled_from(Installed), keeps=pick)
    def crash(self, node: int, write_lands: bool, installed: Installed, keeps: int) -> None:
        if picked := self._up(node):
            picked.crash(write_lands=write_lands, installed=installed, state_keeps_index=keeps)

    @rule(node=pick)
    def restart(self, node: int) -> None:
        down = [n for n in self.cluster.nodes.values() if not n.up]
        if down:
            self.cluster.restart(down[node % len(down)].node_id)

    # Clients and operators.

    @rule(node=pick, count=st.integers(1, 5))
    def propose(self, node: int, count: int) -> None:
        if picked := self._leader(node):
            self.cluster.propose(picked.node_id, *[b"x" * 40] * count)
            self.cluster.pump(picked.node_id)

    @rule(node=pick)
    def raise_version(self, node: int) -> None:
        if picked := self._leader(node):
            picked.raft.propose_version(1)
            self.cluster.observe(picked.node_id)
            self.cluster.pump(picked.node_id)

    @rule(node=pick)
    def read_index(self, node: int) -> None:
        if picked := self._up(node):
            self.cluster.read(picked.node_id)

    @rule(node=pick, to=pick)
    def transfer(self, node: int, to: int) -> None:
        if picked := self._leader(node):
            picked.raft.transfer_leadership(self._any(to).node_id)

    @rule(node=pick, index=pick)
    def compact(self, node: int, index: int) -> None:
        picked = self._up(node)
        if picked and picked.installing is None:
            raft = picked.raft
            picked.compact(max(raft.log.compacted_index, raft.last_applied - index % 4))

    @rule(node=pick, voters=st.integers(1, 63), learners=st.integers(0, 63), force=st.booleans())
    def change_membership(self, node: int, voters: int, learners: int, force: bool) -> None:
        """Voters and learners as sets of bits; who is neither leaves."""
        picked = self._leader(node)
        if picked is None:
            return
        ids = range(1, NODES_MAX + 1)
        chosen = {i for i in ids if voters >> (i - 1) & 1}
        target = members(chosen, {i for i in ids if learners >> (i - 1) & 1} - chosen)
        try:
            picked.raft.propose_membership(target, force=force)
        except MembershipRefused:
            return
        for added in sorted(target.members - self.cluster.nodes.keys()):
            self.cluster.add_node(added)
        self.cluster.observe(picked.node_id)
        self.cluster.pump(picked.node_id)

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            check_liveness(self.cluster)

    def _deliver(self, envelope: Envelope) -> None:
        self.cluster.deliver(envelope)
        node = self.cluster.nodes.get(envelope.message.recipient)
        if node is not None and node.up:
            self.cluster.pump(node.node_id)

    def _message(self, number: int) -> Envelope:
        return self.cluster.network[number % len(self.cluster.network)]

    def _any(self, number: int) -> SimulatedNode:
        nodes = list(self.cluster.nodes.values())
        return nodes[number % len(nodes)]

    def _up(self, number: int) -> SimulatedNode | None:
        up = self.cluster.up
        return up[number % len(up)] if up else None

    def _leader(self, number: int) -> SimulatedNode | None:
        leaders = [node for node in self.cluster.up if node.raft.leads]
        return leaders[number % len(leaders)] if leaders else None


class TestRaftMachine(RaftMachine.TestCase):
    """Derandomised, so that the default run never flakes; `--hypothesis-profile` widens it."""

    settings = settings(
        max_examples=60,
        stateful_step_count=60,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
