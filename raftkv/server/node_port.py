"""The interface of the node that the client port and its services use."""

from __future__ import annotations

import asyncio
from typing import Protocol

from raftkv.kv.machine import StateMachine
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.status import NodeState
from raftkv.peer.ports import NO_AUTHOR, Author
from raftkv.raft.entry import Address, Membership
from raftkv.versions import VersionRange


class NodePort(Protocol):
    """The node, as the services use it. Called on the event loop; deadlines are in the loop's time.

    A future or call that fails raises a `RaftkvError` whose `outcome` is what may have happened.
    """

    @property
    def node_id(self) -> int: ...
    @property
    def cluster_id(self) -> int: ...
    @property
    def incarnation(self) -> int:
        """The random id drawn when the cluster was founded."""

    @property
    def term(self) -> int: ...
    @property
    def machine(self) -> StateMachine:
        """The state machine of applied entries. An installed snapshot replaces it."""

    @property
    def changes(self) -> ChangeFeed:
        """The feed of changes that `machine` applies."""

    @property
    def membership(self) -> Membership: ...
    @property
    def auth_time_ms(self) -> int:
        """Cluster time by which tokens expire: the last stamp that this node applied, and the time
        since then on the node's own clock.
        """

    @property
    def ready(self) -> bool:
        """Whether this node has applied, since its start, everything a leader had committed
        then.
        """

    def require_running(self) -> None:
        """Raise `ShuttingDown` if this node accepts no requests any more."""

    def submit(
        self,
        commands: bytes,
        deadline: float,
        *,
        client: int = 0,
        weight: int = 1,
        author: Author = NO_AUTHOR,
    ) -> asyncio.Future[bytes]:
        """Propose a validated CommandBatch; the future has the BatchResult of this node's apply.

        Proposals are scheduled fairly between clients by the weight of their batches; client 0 is
        the node itself. The rights of the author were checked, and are checked again at apply if
        they have changed.
        """

    @property
    def batch_commands_advised(self) -> int:
        """How many commands a client should put in a batch, in fairness to others; 0: any
        number.
        """

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        """Done when `machine` includes everything that was acknowledged before this call."""

    def lease_barrier(self, deadline: float) -> asyncio.Future[None] | None:
        """The same, by the leader's lease if this node has one. None: nothing to wait for."""

    @property
    def fresh_as_of_s(self) -> float | None:
        """`machine` includes everything acknowledged before this time (None: unknown)."""

    def pin_history(self, revision: int) -> None:
        """Keep automatic compaction, for a while, from this revision and later ones."""

    def status(self) -> NodeState: ...

    async def member_add(
        self, node_id: int, address: Address, deadline: float, *, force: bool = False
    ) -> Membership:
        """Add a learner. `force`, here and below: even if too few members are reachable."""

    async def member_promote(
        self, node_id: int, deadline: float, *, force: bool = False
    ) -> Membership: ...
    async def member_remove(
        self, node_id: int, deadline: float, *, force: bool = False
    ) -> Membership: ...
    async def member_replace(
        self, old_id: int, new_id: int, deadline: float, *, force: bool = False
    ) -> Membership:
        """Remove `old_id` and give its role to the learner `new_id`, in one change."""

    async def member_update(self, node_id: int, address: Address, deadline: float) -> Membership:
        """Change a member's addresses; an empty one is kept."""

    async def member_join(
        self, node_id: int, disk_id: int, versions: VersionRange, address: Address, deadline: float
    ) -> Membership:
        """Record the first start of an added node: its id belongs to this disk from then on."""

    async def transfer_leader(self, to: int, deadline: float) -> int:
        """Make `to` (0: the most up-to-date voter) the leader; returns the leader's id."""
