"""A node whose submissions, results, linearizable reads and membership changes are checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from jepsen_lite.sim.checks.disk_losses import Replica
from jepsen_lite.sim.checks.invariants import Invariants
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.nodes.disk import SimulatedState
from raftkv.kv.machine import Applied, StateMachine
from raftkv.kv.pace import Steps
from raftkv.node.node import Node
from raftkv.peer.ports import NO_AUTHOR, Author
from raftkv.raft.entry import Entry, Membership
from raftkv.raft.raft import Raft


class CheckedNode(Node):
    """A node whose linearizable reads are checked at the moment when they may begin.

    Every other one of them trusts the leader's lease, as reads of level `LEADER_LEASE` do, which
    promises the same.
    """

    def __init__(
        self,
        invariants: Invariants,
        replica: Replica,
        on_failure: Callable[[str], None],
        *args: Any,
    ) -> None:
        super().__init__(*args)
        self._invariants = invariants
        self._replica = replica
        self._on_failure = on_failure
        self._by_lease = False
        self._watched: StateMachine | None = None

    def submit(
        self,
        commands: bytes,
        deadline: float,
        *,
        client: int = 0,
        weight: int = 1,
        author: Author = NO_AUTHOR,
    ) -> asyncio.Future[bytes]:
        self._invariants.state_machines.submitted(commands, author)
        return super().submit(commands, deadline, client=client, weight=weight, author=author)

    def pin_history(self, revision: int) -> None:
        self._invariants.history.pinned(self.node_id, revision)
        super().pin_history(revision)

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        self._by_lease = not self._by_lease
        # Without a valid lease `lease_barrier` calls this method again, which is then not by lease.
        by_lease = self._by_lease
        barrier = super().lease_barrier(deadline) if by_lease else super().read_barrier(deadline)
        if barrier is None:
            barrier = asyncio.get_running_loop().create_future()
            barrier.set_result(None)
        committed_index = self._invariants.committed_index
        barrier.add_done_callback(lambda done: self._opened(done, committed_index))
        return barrier

    def lease_barrier(self, deadline: float) -> asyncio.Future[None] | None:
        committed_index = self._invariants.committed_index
        barrier = super().lease_barrier(deadline)
        if barrier is None:
            self._confirmed(committed_index)
        else:
            barrier.add_done_callback(lambda done: self._opened(done, committed_index))
        return barrier

    def _opened(self, barrier: asyncio.Future[None], committed_index: int) -> None:
        if not barrier.cancelled() and barrier.exception() is None:
            self._confirmed(committed_index)

    def _confirmed(self, committed_index: int) -> None:
        try:
            self._invariants.read_confirmed(self._replica, self, committed_index)
        except Violation as violation:
            self._on_failure(str(violation))

    def check_results(self) -> None:
        """Report what the state machine computes from now on. A snapshot replaces the machine, so
        this is called after each turn.
        """
        machine = self.machine
        if machine is self._watched:
            return
        self._watched = machine
        apply_in_steps = machine.apply_in_steps

        def watched(
            entries: Sequence[Entry], hash_at: Callable[[int], int]
        ) -> Steps[list[Applied]]:
            applied = yield from apply_in_steps(entries, hash_at)
            if not cast("SimulatedState", self._stores.state).wrong.key:
                self._invariants.state_machines.model.ran(self._replica, applied)
            return applied

        machine.apply_in_steps = watched  # type: ignore[method-assign]

    def check_membership_changes(self, now_s: Callable[[], float]) -> None:
        """Check every change of membership at the moment when it is proposed."""
        raft = cast("Raft", self.core)
        propose = raft.propose_membership

        def watched(target: Membership, *, force: bool = False) -> int:
            index = propose(target, force=force)
            if not force:
                try:
                    self._invariants.proposed(self.node_id, raft.membership, now_s())
                except Violation as violation:
                    self._on_failure(str(violation))
            return index

        raft.propose_membership = watched  # type: ignore[method-assign]
