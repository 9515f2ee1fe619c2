"""Random runs of a cluster: one seed decides everything that happens.

Replay one:  python -m tests.raft.random_run --seed 7 --steps 4000
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace
from random import Random

from raftkv.errors import MembershipRefused
from raftkv.raft.entry import Membership
from raftkv.raft.ready import RaftConfig
from raftkv.raft.running_hash import UNKNOWN
from tests.raft.cluster import Cluster, members
from tests.raft.disk import FOUNDED
from tests.raft.liveness import check_liveness
from tests.raft.node import Installed, SimulatedNode

SMALL = RaftConfig(
    heartbeat_ticks=1,
    election_ticks_min=4,
    election_ticks_max=8,
    append_bytes_max=200,
    apply_bytes_max=300,
    in_flight_messages_max=3,
    in_flight_bytes_max=500,
)
MEMBERS_MAX = 5
VOTERS_MIN = 2


class RandomRun:
    """Every action is a method that picks its victims by chance and does nothing if it can't."""

    def __init__(self, seed: int, voters: int = 3) -> None:
        self.rng = Random(seed)
        self.cluster = Cluster(
            voters,
            config=SMALL,
            rng_for=lambda node, life: Random(f"{seed}/{node}/{life}"),
            # Every third cluster began before logs had a running hash.
            founded=FOUNDED if seed % 3 else UNKNOWN,
        )
        self.proposals = itertools.count(1)
        self.membership_changes = 0
        self.slow_clocks: set[int] = set()
        self._next_node = voters + 1
        # Every node in turn, and each of them often: an election needs ticks in step.
        self._actions: list[tuple[Callable[[], None], float]] = [
            (self.tick_all, 80),
            (self.tick_one, 10),
            (self.deliver, 250),
            (self.finish_write, 150),
            (self.finish_install, 20),
            (self.propose, 25),
            (self.read, 30),
            (self.compact, 4),
            (self.change_membership, 1),
            (self.transfer, 1),
            (self.raise_version, 0.2),
            (self.clients_come_and_go, 1),
            (self.drop, 6),
            (self.duplicate, 6),
            (self.reorder, 12),
            (self.break_link, 2),
            (self.partition, 0.5),
            (self.cut_off_leader, 4),
            (self.heal, 4),
            (self.right_clocks, 4),
            (self.crash, 2),
            (self.restart, 6),
        ]

    def run(self, steps: int) -> None:
        actions = [action for action, _ in self._actions]
        weights = list(itertools.accumulate(weight for _, weight in self._actions))
        for action in self.rng.choices(actions, cum_weights=weights, k=steps):
            action()

    # Time, network and disk.

    def tick_all(self) -> None:
        for node in self.cluster.up:
            if node.node_id not in self.slow_clocks or self.rng.random() < 0.05:
                self.cluster.tick(node.node_id)
                self._pump(node)

    def tick_one(self) -> None:
        if node := self._any_up():
            self.cluster.tick(node.node_id)
            self._pump(node)

    def deliver(self) -> None:
        for _ in range(self.rng.randint(1, 8)):
            self._deliver_at(0)

    def reorder(self) -> None:
        self._deliver_at(self.rng.randrange(max(1, len(self.cluster.network))))

    def drop(self) -> None:
        if self.cluster.network:
            self.cluster.lose(self.rng.choice(self.cluster.network))

    def duplicate(self) -> None:
        if self.cluster.network:
            self.cluster.duplicate(self.rng.choice(self.cluster.network))

    def finish_write(self) -> None:
        for node in self.cluster.up:
            if node.writing is not None and self.rng.random() < 0.7:
                self.cluster.finish_write(node.node_id)
                self._pump(node)

    def finish_install(self) -> None:
        for node in self.cluster.up:
            if node.installing is not None:
                if self.rng.random() < 0.1:
                    node.refuse_install()
                else:
                    self.cluster.finish_install(node.node_id)
                self._pump(node)

    # Faults.

    def break_link(self) -> None:
        """A connection ends: what was on it is lost, and both ends learn of it."""
        if node := self._any_up():
            peer = self.rng.choice(list(self.cluster.nodes))
            self.cluster.drop(lambda m: {m.sender, m.recipient} == {node.node_id, peer})
            node.raft.unreachable(peer)

    def partition(self) -> None:
        ids = list(self.cluster.nodes)
        self.cluster.isolate(*self.rng.sample(ids, self.rng.randint(1, len(ids) // 2 or 1)))
        if self.rng.random() < 0.3:  # one direction only
            self.cluster.cut_links = {(a, b) for a, b in self.cluster.cut_links if a < b}

    def cut_off_leader(self) -> None:
        """The leader, alone or with a minority, goes on appending entries that never commit."""
        if node := self._any_leader():
            others = [peer for peer in self.cluster.nodes if peer != node.node_id]
            company = self.rng.sample(others, self.rng.randint(0, len(others) // 2))
            self.cluster.heal()
            self.cluster.isolate(node.node_id, *company)
            if self.rng.random() < 0.5:  # and it does not notice
                self.slow_clocks = {node.node_id}

    def right_clocks(self) -> None:
        self.slow_clocks.clear()

    def heal(self) -> None:
        self.cluster.heal()

    def crash(self) -> None:
        if node := self._any_up():
            node.crash(
                write_lands=self.rng.random() < 0.5,
                installed=self.rng.choice(list(Installed)),
                state_keeps_index=self.rng.randint(0, node.state.applied_index),
            )

    def restart(self) -> None:
        for node in self.cluster.nodes.values():
            if not node.up and self.rng.random() < 0.5:
                self.cluster.restart(node.node_id)
                self._pump(node)

    # What clients and operators do.

    def propose(self) -> None:
        if node := self._any_leader():
            count = self.rng.randint(1, 4)
            payloads = [
                b"%d" % next(self.proposals) + b"." * self.rng.randint(0, 150) for _ in range(count)
            ]
            self.cluster.propose(node.node_id, *payloads)
            self._pump(node)

    def read(self) -> None:
        if node := self._any_up():
            self.cluster.read(node.node_id)
            self._pump(node)

    def transfer(self) -> None:
        if node := self._any_leader():
            node.raft.transfer_leadership(self.rng.choice(list(self.cluster.nodes)))
            self._pump(node)

    def raise_version(self) -> None:
        if node := self._any_leader():
            node.raft.propose_version(1)
            self._pump(node)

    def compact(self) -> None:
        node = self._any_up()
        if node is not None and node.installing is None:
            raft = node.raft
            node.compact(self.rng.randint(raft.log.compacted_index, raft.last_applied))

    def change_membership(self) -> None:
        node = self._any_leader()
        if node is None:
            return
        target = self._random_target(node.raft.membership)
        try:
            node.raft.propose_membership(target, force=self.rng.random() < 0.7)
        except MembershipRefused:
            return
        self.membership_changes += 1
        for added in sorted(target.members - self.cluster.nodes.keys()):
            self.cluster.add_node(added)
            self._next_node = max(self._next_node, added + 1)
        self.cluster.observe(node.node_id)
        self._pump(node)

    def _random_target(self, present: Membership) -> Membership:
        """Some members leave, some change their part, some are new."""
        ids = [member for member in sorted(present.members) if self.rng.random() < 0.85]
        while len(ids) < VOTERS_MIN or (len(ids) < MEMBERS_MAX and self.rng.random() < 0.4):
            ids.append(self._next_node + len(ids))
        voters = self.rng.sample(ids, self.rng.randint(VOTERS_MIN, len(ids)))
        target = members(voters, [member for member in ids if member not in voters])
        return replace(target, removed=present.removed)

    def clients_come_and_go(self) -> None:
        """A commit index is sent at once if a client waits for it, else with the next message."""
        if node := self._any_up():
            node.clients_everywhere = not node.clients_everywhere

    def _any_up(self) -> SimulatedNode | None:
        up = self.cluster.up
        return self.rng.choice(up) if up else None

    def _any_leader(self) -> SimulatedNode | None:
        leaders = [node for node in self.cluster.up if node.raft.leads]
        return self.rng.choice(leaders) if leaders else None

    def _deliver_at(self, position: int) -> None:
        network = self.cluster.network
        if position < len(network):
            envelope = network[position]
            self.cluster.deliver(envelope, receipt=self.rng.random() < 0.9)
            node = self.cluster.nodes.get(envelope.message.recipient)
            if node is not None and node.up:
                self._pump(node)

    def _pump(self, node: SimulatedNode) -> None:
        """Most inputs are followed by a round of the driver, but some share one."""
        if self.rng.random() < 0.8:
            self.cluster.pump(node.node_id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--voters", type=int, default=3)
    parser.add_argument("--trace", action="store_true", help="print what happens")
    arguments = parser.parse_args()
    run = RandomRun(arguments.seed, arguments.voters)
    if arguments.trace:
        run.cluster.trace = print
    run.run(arguments.steps)
    check_liveness(run.cluster)
    print(f"{run.cluster.commit_summary()}, {run.membership_changes} membership changes")


if __name__ == "__main__":
    main()
