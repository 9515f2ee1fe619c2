"""What a leader changes by itself: the cluster version, and where and on which disks members are.

Knows what peers said of themselves when they called, decides nothing about consensus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from raftkv.errors import ConfigurationError
from raftkv.peer.handshake import Caller
from raftkv.raft.entry import Membership
from raftkv.versions import VersionRange


def next_version(
    cluster_version: int, membership: Membership, callers: Mapping[int, Caller]
) -> int | None:
    """The version to raise the cluster to; None while a member has not reported that it can.

    A member that has not started yet is not asked: it is when it joins.
    """
    version = cluster_version + 1
    asked = membership.disk_ids.keys() & membership.members or membership.members
    able = all(id in callers and version in callers[id].versions for id in asked)
    return version if able else None


def require_version(version: int, versions: VersionRange) -> None:
    """Raise `ConfigurationError` if this program can't take part in a cluster of that version: it
    would apply what follows differently than the others.
    """
    if version not in versions:
        raise ConfigurationError(
            f"the cluster is at version {version}, and this program can take part in versions"
            f" {versions}. Fix: run a raftkv that can; the data directory stays as it is.",
            key="cluster_version",
        )


def updated_membership(membership: Membership, callers: Mapping[int, Caller]) -> Membership | None:
    """The membership with the disks and addresses that its members say they have; None if it says
    so already.
    """
    known = {id: callers[id] for id in membership.members & callers.keys()}
    disk_ids = {id: caller.disk_id for id, caller in known.items() if caller.disk_id}
    addresses = {
        id: caller.address
        for id, caller in known.items()
        # A member that was added and has not started is where the operator says.
        if caller.address.peer and caller.address.client
    }
    updated = replace(
        membership,
        # A disk is noted once: another one is a fault, and was refused.
        disk_ids={**disk_ids, **membership.disk_ids},
        addresses={**membership.addresses, **addresses},
    )
    return None if updated == membership else updated
