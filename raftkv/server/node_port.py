"""What the front door needs of the node behind it. Knows no implementation."""

from __future__ import annotations

import asyncio
from typing import Protocol

from raftkv.kv.machine import StateMachine
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.status import NodeState
from raftkv.raft.entry import Address, Membership
from raftkv.versions import VersionRange


class NodePort(Protocol):
    """The node, as its front door sees it. Called on the event loop; deadlines are in its time.

    A future or call that fails raises a `RaftkvError` whose outcome says what may have happened.
    """

    @property
    def node_id(self) -> int: ...
    @property
    def cluster_id(self) -> int: ...
    @property
    def incarnation(self) -> int:
        """Drawn when the cluster was founded."""

    @property
    def term(self) -> int: ...
    @property
    def machine(self) -> StateMachine:
        """What has been applied. A snapshot that arrives replaces it."""

    @property
    def changes(self) -> ChangeFeed:
        """Tells what `machine` changes, as it does."""

    @property
    def membership(self) -> Membership: ...
    @property
    def ready(self) -> bool:
        """Whether this node has applied, since its start, all that a leader had committed."""

    def require_running(self) -> None:
        """Raise `ShuttingDown` once this node takes no work any more."""

    def submit(
        self, commands: bytes, deadline: float, *, client: int = 0, weight: int = 1
    ) -> asyncio.Future[bytes]:
        """Put a checked CommandBatch through the log; the BatchResult of this node's apply.

        Clients have turns by what their batches cost; 0 is the node itself.
        """

    @property
    def batch_commands_advised(self) -> int:
        """How many commands clients should put in a batch, for others' sake; 0: any number."""

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        """Done when `machine` includes everything that was acknowledged before this call."""

    def lease_barrier(self, deadline: float) -> asyncio.Future[None] | None:
        """The same, on a leader's lease if this node has one. None: nothing to wait for."""

    @property
    def fresh_as_of_s(self) -> float | None:
        """`machine` holds all that was acknowledged before this time; None: nobody here knows."""

    def status(self) -> NodeState: ...

    async def member_add(
        self, node_id: int, address: Address, deadline: float, *, force: bool = False
    ) -> Membership:
        """Add a learner. `force`, here and below: although too few members acknowledge."""

    async def member_promote(
        self, node_id: int, deadline: float, *, force: bool = False
    ) -> Membership: ...
    async def member_remove(
        self, node_id: int, deadline: float, *, force: bool = False
    ) -> Membership: ...
    async def member_replace(
        self, old_id: int, new_id: int, deadline: float, *, force: bool = False
    ) -> Membership:
        """The learner `new_id` takes the part of `old_id`, which is removed, in one change."""

    async def member_update(self, node_id: int, address: Address, deadline: float) -> Membership:
        """New addresses of a member; an empty one stays."""

    async def member_join(
        self, node_id: int, disk_id: int, versions: VersionRange, address: Address, deadline: float
    ) -> Membership:
        """An added node starts with this disk, which its id belongs to from then on."""

    async def transfer_leader(self, to: int, deadline: float) -> int:
        """Make `to` (0: the most up-to-date voter) the leader; who is."""
