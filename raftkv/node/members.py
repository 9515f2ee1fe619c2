"""Changes of membership as an operator asks for them. Knows targets, not steps."""

from __future__ import annotations

from dataclasses import replace

from raftkv.errors import MembershipRefused, MemberUnknown
from raftkv.raft.entry import Address, Membership
from raftkv.raft.progress import Progress, Replication

CATCH_UP_ENTRIES_MAX = 256


def with_learner(present: Membership, node_id: int, address: Address) -> Membership:
    """`present` and a learner that is reached at `address`."""
    if node_id in present.members:
        known = present.addresses[node_id]
        raise MembershipRefused(
            f"node {node_id} is a member already, at {known.peer}; choose another id",
        )
    if node_id in present.removed:
        raise MembershipRefused(
            f"node {node_id} was removed once, and a removed id never comes back; choose a new one"
        )
    for other, known in present.addresses.items():
        if address.peer == known.peer or address.client == known.client:
            raise MembershipRefused(f"node {other} already has this address ({known.peer})")
    return replace(
        present,
        learners=present.learners | {node_id},
        addresses={**present.addresses, node_id: address},
    )


def with_promoted(present: Membership, node_id: int) -> Membership:
    """`present` with the learner `node_id` as a voter."""
    require_member(present, node_id)
    if node_id in present.voters:
        raise MembershipRefused(f"node {node_id} is a voter already")
    return replace(
        present, voters=present.voters | {node_id}, learners=present.learners - {node_id}
    )


def without(present: Membership, node_id: int) -> Membership:
    """`present` without `node_id`."""
    require_member(present, node_id)
    if present.voters == {node_id}:
        raise MembershipRefused(f"node {node_id} is the last voter; a cluster needs one")
    addresses = {peer: known for peer, known in present.addresses.items() if peer != node_id}
    return replace(
        present,
        voters=present.voters - {node_id},
        learners=present.learners - {node_id},
        addresses=addresses,
    )


def require_member(present: Membership, node_id: int) -> None:
    if node_id not in present.members:
        known = ", ".join(str(member) for member in sorted(present.members))
        raise MemberUnknown(f"node {node_id} is not a member; the members are {known}")


def require_caught_up(node_id: int, progress: Progress, last_index: int) -> None:
    """A voter that lags would cost the cluster its majority when another one fails."""
    lag = last_index - progress.match_index
    if progress.replication is not Replication.REPLICATE or lag > CATCH_UP_ENTRIES_MAX:
        raise MembershipRefused(
            f"node {node_id} has not caught up: it lacks {lag} entries; promote it when it has",
            lag=lag,
        )
