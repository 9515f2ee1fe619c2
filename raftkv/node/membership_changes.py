"""The membership changes that operators and joining nodes request, and their validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from raftkv.errors import MembershipRefused, MemberUnknown
from raftkv.node.addresses import require_free, require_same_network
from raftkv.raft.entry import Address, Membership
from raftkv.raft.progress import Replication
from raftkv.raft.view import ProgressView
from raftkv.versions import SUPPORTED, VersionRange

CATCH_UP_ENTRIES_MAX = 256
RETRY_AFTER_S = 0.5


class MembershipChange(ABC):
    """One change. Its steps and its majorities are Raft's."""

    __slots__ = ()

    @abstractmethod
    def target(self, present: Membership) -> Membership:
        """`present`, changed. Raises `MembershipRefused` or `MemberUnknown`."""

    @abstractmethod
    def done(self, membership: Membership) -> bool:
        """Whether `membership` is as the change wants it."""

    @property
    def newcomer(self) -> int | None:
        """The learner that this change makes a voter: it must have caught up before."""
        return None


@dataclass(frozen=True, slots=True)
class AddLearner(MembershipChange):
    """`force`: although its address is loopback and theirs are not, or the other way round."""

    node_id: int
    address: Address
    force: bool = False

    def target(self, present: Membership) -> Membership:
        node_id, address = self.node_id, self.address
        if node_id in present.members:
            known = present.addresses[node_id]
            raise MembershipRefused(
                f"node {node_id} is a member already, at {known.peer}; choose another id, such as"
                f" {free_id(present)} (`raftkv member update {node_id}` changes its addresses)",
            )
        if node_id in present.removed:
            raise MembershipRefused(
                f"node {node_id} was removed once, and a removed id never comes back; choose a new"
                f" one, such as {free_id(present)}"
            )
        require_free(present, node_id, address)
        if not self.force:
            try:
                require_same_network(present, node_id, address, may_leave_loopback=False)
            except MembershipRefused as refused:
                raise MembershipRefused(f"{refused.message}; --force adds it anyway") from None
        return replace(
            present,
            learners=present.learners | {node_id},
            addresses={**present.addresses, node_id: address},
        )

    def done(self, membership: Membership) -> bool:
        return membership.addresses.get(self.node_id) == self.address


@dataclass(frozen=True, slots=True)
class Promote(MembershipChange):
    node_id: int

    @property
    def newcomer(self) -> int | None:
        return self.node_id

    def target(self, present: Membership) -> Membership:
        node_id = self.node_id
        require_member(present, node_id)
        if node_id in present.voters:
            raise MembershipRefused(f"node {node_id} is a voter already")
        return replace(
            present, voters=present.voters | {node_id}, learners=present.learners - {node_id}
        )

    def done(self, membership: Membership) -> bool:
        return self.node_id in membership.voters


@dataclass(frozen=True, slots=True)
class Remove(MembershipChange):
    node_id: int

    def target(self, present: Membership) -> Membership:
        require_member(present, self.node_id)
        if present.voters == {self.node_id}:
            raise MembershipRefused(f"node {self.node_id} is the last voter; a cluster needs one")
        return _without(present, self.node_id)

    def done(self, membership: Membership) -> bool:
        return self.node_id not in membership.members


@dataclass(frozen=True, slots=True)
class Replace(MembershipChange):
    """`new_id`, a learner, takes the part of `old_id`, which leaves: in one step, so that there is
    no moment with a voter more or less.
    """

    old_id: int
    new_id: int

    @property
    def newcomer(self) -> int | None:
        return self.new_id

    def target(self, present: Membership) -> Membership:
        old_id, new_id = self.old_id, self.new_id
        require_member(present, new_id)
        if old_id not in present.members:
            state = "was removed" if old_id in present.removed else "is not a member"
            raise MemberUnknown(
                f"node {old_id} {state}, so node {new_id} can't take its place: `raftkv member"
                f" promote {new_id}` gives node {new_id} a vote"
            )
        if new_id in present.voters:
            raise MembershipRefused(
                f"node {new_id} is a voter already, so it can't take the place of node {old_id}:"
                f" name a new node, or `raftkv member remove {old_id}`"
            )
        if not present.started(new_id):
            raise MembershipRefused(
                f"node {new_id} has not started yet; start it, and repeat this",
                retry_after_s=RETRY_AFTER_S,
                started=False,
            )
        without = _without(present, old_id)
        if old_id not in present.voters:
            return without
        return replace(
            without, voters=without.voters | {new_id}, learners=without.learners - {new_id}
        )

    def done(self, membership: Membership) -> bool:
        return self.old_id not in membership.members and self.new_id in membership.members

    def done_before(self, membership: Membership) -> bool:
        """Whether this is repeated although it was made."""
        return self.old_id in membership.removed and self.new_id in membership.voters


@dataclass(frozen=True, slots=True)
class UpdateAddress(MembershipChange):
    """New addresses of a member; an empty one stays."""

    node_id: int
    address: Address

    def target(self, present: Membership) -> Membership:
        require_member(present, self.node_id)
        return _moved(present, self.node_id, self._merged(present), may_leave_loopback=True)

    def done(self, membership: Membership) -> bool:
        known = membership.addresses.get(self.node_id)
        return known is not None and known == self._merged(membership)

    def _merged(self, present: Membership) -> Address:
        known = present.addresses[self.node_id]
        return Address(self.address.peer or known.peer, self.address.client or known.client)


@dataclass(frozen=True, slots=True)
class Claim(MembershipChange):
    """The start of an added node, which claims its id for its disk, once and for good."""

    node_id: int
    disk_id: int
    versions: VersionRange
    address: Address

    def target(self, present: Membership) -> Membership:
        self.require_allowed(present)
        node_id = self.node_id
        started = node_id in present.disk_ids
        moved = _moved(present, node_id, self.address, may_leave_loopback=started)
        return replace(moved, disk_ids={**present.disk_ids, node_id: self.disk_id})

    def require_allowed(self, present: Membership) -> None:
        """Raises `MembershipRefused` or `MemberUnknown`, with the way to go on."""
        node_id = self.node_id
        if node_id in present.removed:
            raise MembershipRefused(
                f"node {node_id} was removed from this cluster, and a removed id never comes back."
                f" Fix: take a new id with an empty data directory: `raftkv member add"
                f" {free_id(present)} --peer {self.address.peer} --client {self.address.client}`"
            )
        if node_id not in present.members:
            raise MemberUnknown(
                f"node {node_id} is not a member of this cluster. Fix: first run `raftkv member add"
                f" {node_id} --peer {self.address.peer} --client {self.address.client}`, then"
                " start this node again"
            )
        disk_id = present.disk_ids.get(node_id)
        if disk_id != self.disk_id and (disk_id is not None or node_id not in present.learners):
            raise MembershipRefused(
                f"node {node_id} has started from another disk before; an id never starts again"
                f" from an empty disk. Fix: `raftkv member replace {node_id} {free_id(present)}"
                " --peer HOST:PORT --client HOST:PORT`, with addresses that no member has"
            )

    def require_able(self, cluster_version: int) -> None:
        """Raises `MembershipRefused` if the node's program is too old or too new."""
        if cluster_version not in self.versions:
            raise MembershipRefused(
                f"node {self.node_id} can take part in cluster versions {self.versions}, but this"
                f" cluster is at version {cluster_version} (its leader can take part in"
                f" {SUPPORTED}). Fix: start node {self.node_id} with the raftkv of the other nodes"
            )

    def done(self, membership: Membership) -> bool:
        return (membership.disk_ids.get(self.node_id), membership.addresses.get(self.node_id)) == (
            self.disk_id,
            self.address,
        )


def _without(present: Membership, node_id: int) -> Membership:
    return replace(
        present,
        voters=present.voters - {node_id},
        learners=present.learners - {node_id},
        addresses={each: at for each, at in present.addresses.items() if each != node_id},
        disk_ids={each: disk for each, disk in present.disk_ids.items() if each != node_id},
    )


def _moved(
    present: Membership, node_id: int, address: Address, *, may_leave_loopback: bool
) -> Membership:
    if address != present.addresses[node_id]:
        require_free(present, node_id, address)
        require_same_network(present, node_id, address, may_leave_loopback=may_leave_loopback)
    return replace(present, addresses={**present.addresses, node_id: address})


def free_id(present: Membership) -> int:
    """An id that no node has, nor ever had."""
    return max(present.members | present.removed) + 1


def require_member(present: Membership, node_id: int) -> None:
    if node_id not in present.members:
        known = ", ".join(str(member) for member in sorted(present.members))
        raise MemberUnknown(f"node {node_id} is not a member; the members are {known}")


def require_caught_up(
    node_id: int, progress: ProgressView, last_index: int, *, acknowledging: bool
) -> None:
    """A voter that lags or does not acknowledge would cost the majority when another one fails.

    Raises `MembershipRefused`, with the `lag` in entries.
    """
    lag = last_index - progress.match_index
    if progress.replication is not Replication.REPLICATE or lag > CATCH_UP_ENTRIES_MAX:
        problem = f"has not caught up: it lacks {lag} entries; try again when it has"
    elif not acknowledging:
        problem = "acknowledges nothing at the moment; look whether it runs, and at its disk"
    else:
        return
    raise MembershipRefused(
        f"node {node_id} {problem}",
        retry_after_s=RETRY_AFTER_S,
        lag=lag,
        replication=progress.replication.value,
    )
