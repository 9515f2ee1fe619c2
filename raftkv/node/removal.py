"""Stopping a node that was removed from the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Set

from raftkv.errors import RemovedFromCluster
from raftkv.node.config import NodeConfig
from raftkv.node.peer_register import PeerRegister
from raftkv.node.replica import Replica
from raftkv.node.run_loop import RunLoop
from raftkv.peer.ports import Acknowledged, Frame, PeerLinks


class RemovalReports:
    """Which peers report that this node was removed.

    The reports are conclusive if all other voters that answer have agreed for `ticks_min`: one
    peer alone may be ahead of this node, or lie.
    """

    def __init__(self, ticks_min: int) -> None:
        self._ticks_min = ticks_min
        self._reporters: set[int] = set()
        self._ticks = 0
        """For how many ticks the reports have been unanimous."""

    def reported(self, by: int) -> None:
        """The peer does not admit this node because it was removed."""
        self._reporters.add(by)

    def admitted(self, by: int) -> None:
        """The peer has admitted this node."""
        self._reporters.discard(by)

    def reporters(self, others: Set[int]) -> frozenset[int]:
        """Those of `others` whose report stands."""
        return frozenset(self._reporters & others)

    def tick(self, others: Set[int], connected: Set[int]) -> frozenset[int]:
        """One tick has passed. The reporters if their reports are conclusive, else an empty set.

        `connected` are the peers that admit this node.
        """
        reporters = self.reporters(others)
        unanimous = reporters and not (others & connected) - reporters
        self._ticks = self._ticks + 1 if unanimous else 0
        return reporters if self._ticks >= self._ticks_min else frozenset()


class Removal:
    """Notices, from its own log or from its peers, that this node was removed, and stops it."""

    def __init__(
        self,
        replica: Replica,
        links: PeerLinks,
        register: PeerRegister,
        config: NodeConfig,
        run: RunLoop,
    ) -> None:
        self._replica = replica
        self._links = links
        self._register = register
        self._run = run
        self._leave_delay_s = config.election_timeout_s_min
        self._reports = RemovalReports(2 * config.raft.election_ticks_max)
        self._call_ticks = config.raft.election_ticks_max
        self._leaderless_ticks = 0

    def reported(self, by: int) -> None:
        """The peer does not admit this node because it was removed."""
        self._reports.reported(by)

    def admitted(self, by: int) -> None:
        """The peer has admitted this node."""
        self._reports.admitted(by)

    @property
    def reporters(self) -> frozenset[int]:
        """The members that report that this node was removed."""
        return self._reports.reporters(self._replica.raft.membership.members or self._callers())

    def check_applied(self) -> None:
        """Stop if the applied membership has this node as removed."""
        if self._replica.raft.node_id in self._replica.machine.membership.removed:
            self._run.spawn(self._leave())

    async def _leave(self) -> None:
        # The other nodes may still need this node's acknowledgements, for an election timeout.
        await asyncio.sleep(self._leave_delay_s)
        self._run.fail(removed_from_cluster(f"node {self._replica.raft.node_id}"))

    def tick(self) -> None:
        """Stop if the reports are conclusive; stand for no election while there is one."""
        raft = self._replica.raft
        # A learner may be removed before its first entry: it has no membership then.
        others = raft.membership.all_voters - {raft.node_id} or self._callers()
        by = self._reports.tick(others, self._links.connected)
        raft.passive = bool(self._reports.reporters(others))
        self._call(others)
        if by:
            names = " and ".join(map(str, sorted(by)))
            self._run.fail(
                removed_from_cluster(
                    f"all that answer (nodes {names}) say that node {raft.node_id}"
                )
            )

    def _callers(self) -> frozenset[int]:
        """The nodes that have called this node since it started."""
        return frozenset(self._register.callers)

    def _call(self, others: Set[int]) -> None:
        """Send a frame now and then without a leader, if this node stands for no election: it sends
        nothing else, and peers refuse a node that they removed when a frame of it arrives.
        """
        raft = self._replica.raft
        quiet = not raft.leader_id and not raft.electable
        self._leaderless_ticks = self._leaderless_ticks + 1 if quiet else 0
        if quiet and self._leaderless_ticks % self._call_ticks == 0:
            # Only a leader's acknowledgements are recorded: all that these do is to arrive.
            own = {raft.node_id: Acknowledged(raft.commit_index, start_id=0)}
            for peer in others:
                self._links.send(peer, Frame(acknowledged=own))


def removed_from_cluster(node: str) -> RemovedFromCluster:
    """The reason to stop; `node` is the subject of its sentence."""
    return RemovedFromCluster(
        f"{node} has been removed from the cluster. The members have its data:"
        " once `raftkv status` shows that they are well, its directory is of no more use. Its"
        " id never comes back"
    )
