"""A leader's own proposals: time stamps, the key that signs tokens, the cluster version, disks and
addresses of members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

import structlog

from raftkv.kv.auth import SECRET_BYTES_MIN
from raftkv.kv.rights import Rights
from raftkv.node.clocks import ClusterClock
from raftkv.node.peer_register import PeerRegister
from raftkv.node.proposer import Proposer
from raftkv.node.replica import Replica
from raftkv.peer.handshake import Caller
from raftkv.peer.ports import Submission
from raftkv.raft.entry import Membership
from raftkv.rpc.v1 import auth_pb2, kv_pb2
from raftkv.versions import HASHED

CLUSTER_CHECK_TICKS = 4
"""A leader compares the membership and the cluster version with its callers this often."""


class LeaderMaintenance:
    """Proposals of the leader's own; at other nodes a tick does nothing. `own` is this node, as
    it introduces itself to its peers. `rng` draws the secrets of signing keys, which are replaced
    at the age of `signing_key_age_ms_max`.
    """

    def __init__(
        self,
        own: Caller,
        replica: Replica,
        proposer: Proposer,
        clock: ClusterClock,
        register: PeerRegister,
        rng: Random,
        signing_key_age_ms_max: int,
    ) -> None:
        self._own = own
        self._replica = replica
        self._proposer = proposer
        self._clock = clock
        self._register = register
        self._rng = rng
        self._signing_key_age_ms_max = signing_key_age_ms_max
        self._ticks = 0
        self._stamp_index = 0
        """The last entry that was proposed for its time stamp alone."""
        self._signing_key_index = 0
        """The last entry that was proposed with a new signing key."""
        self._version_proposed = (0, 0)
        """The last cluster version that this node proposed, after the term of the proposal."""
        self._log = structlog.get_logger("raftkv.node").bind(node=own.node_id)

    def begin_role(self) -> None:
        """The term or the role has changed."""
        self._stamp_index = self._signing_key_index = 0

    def tick(self, now_s: float) -> None:
        self._propose_stamp_if_due(now_s)
        self._ticks += 1
        if self._ticks % CLUSTER_CHECK_TICKS == 0:
            self._propose_cluster_changes()
            self._propose_signing_key_if_due(now_s)

    def _propose_stamp_if_due(self, now_s: float) -> None:
        """Propose an entry without commands when leases run and no client writes, and when the
        state machine has something to expire or compact.

        One entry per tick at most, and none before the last one is applied: each costs time of the
        state machine.
        """
        raft, machine, clock = self._replica.raft, self._replica.machine, self._clock
        if not raft.established or raft.last_applied < self._stamp_index:
            return
        if clock.stamp_is_due(machine.next_deadline_ms(), now_s) or machine.upkeep_is_due(
            clock.read_ms(now_s)
        ):
            self._stamp_index = self._proposer.propose([], now_s)

    def _propose_cluster_changes(self) -> None:
        """Raise the cluster version, and record the disks and new addresses of members."""
        raft, cluster_version = self._replica.raft, self._replica.machine.cluster_version
        if not raft.committed_in_term or raft.transferee:
            return
        callers = {**self._register.callers, self._own.node_id: self._own}
        version = next_version(cluster_version, raft.membership, callers)
        if version is not None and self._version_proposed != (raft.current_term, version):
            self._version_proposed = raft.current_term, version
            self._log.info("cluster_version_raised", term=raft.current_term, version=version)
            raft.propose_version(version)
        if raft.membership_committed and not raft.membership.joint:
            updated = updated_membership(raft.membership, callers)
            if updated is not None and cluster_version >= HASHED:
                self._log.info("members_updated", term=raft.current_term)
                raft.propose_membership(updated, force=True)  # its voters stay as they are

    def _propose_signing_key_if_due(self, now_s: float) -> None:
        """Propose a new signing key if there is none yet, or if the newest is old."""
        raft, machine = self._replica.raft, self._replica.machine
        if not raft.established or raft.transferee or raft.last_applied < self._signing_key_index:
            return
        age_ms_max = self._signing_key_age_ms_max
        if not signing_key_is_due(machine.rights, self._clock.read_ms(now_s), age_ms_max):
            return
        keys = machine.rights.signing_keys
        rotate = auth_pb2.SigningKeyRotate(
            secret=self._rng.randbytes(SECRET_BYTES_MIN), replaced=keys[0].id if keys else 0
        )
        command = kv_pb2.Command(auth=auth_pb2.AuthCommand(signing_key_rotate=rotate))
        batch = kv_pb2.CommandBatch(commands=[command])
        # The result concerns no client, so the submission has no origin.
        submission = Submission(origin=0, number=0, commands=batch.SerializeToString())
        self._log.info("signing_key_replaced", term=raft.current_term, replaced=rotate.replaced)
        self._signing_key_index = self._proposer.propose([submission], now_s)


def signing_key_is_due(rights: Rights, time_ms: int, age_ms_max: int) -> bool:
    """Whether to replace the signing key at this cluster time. Without users there are no tokens
    to sign, and an idle cluster stays idle.
    """
    if not rights.users:
        return False
    keys = rights.signing_keys
    return not keys or time_ms - keys[0].created_ms >= age_ms_max


def next_version(
    cluster_version: int, membership: Membership, callers: Mapping[int, Caller]
) -> int | None:
    """The version to raise the cluster to; None while a member has not reported that it can.

    A member that has not started yet does not count: it reports its versions when it joins.
    """
    version = cluster_version + 1
    counted = membership.disk_ids.keys() & membership.members or membership.members
    able = all(id in callers and version in callers[id].versions for id in counted)
    return version if able else None


def updated_membership(membership: Membership, callers: Mapping[int, Caller]) -> Membership | None:
    """The membership with the disks and addresses that its members report; None if nothing
    changes.
    """
    known = {id: callers[id] for id in membership.members & callers.keys()}
    disk_ids = {id: caller.disk_id for id, caller in known.items() if caller.disk_id}
    addresses = {
        id: caller.address
        for id, caller in known.items()
        # An added member that has not started keeps the address that the operator gave it.
        if caller.address.peer and caller.address.client
    }
    updated = replace(
        membership,
        # The first disk of a member is final: a call from another disk was refused.
        disk_ids={**disk_ids, **membership.disk_ids},
        addresses={**membership.addresses, **addresses},
    )
    return None if updated == membership else updated
