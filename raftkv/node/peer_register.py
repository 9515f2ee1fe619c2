"""Admission of peers: a node on an older copy, or a second process on a copy, of a disk is refused.

A node on an older copy of its disk has lost votes and acknowledgements, and a second process on a
copy of a disk votes a second time. Peers find both by their own records on disk: the highest start
of each member, and an index up to which it had acknowledged what is committed. What no peer has on
record is not found (ARCHITECTURE, "Disks").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from raftkv.node.replica import LogDisk
from raftkv.peer.handshake import Caller, HandshakeRefused, Refusal
from raftkv.peer.ports import Acknowledged
from raftkv.raft.entry import Membership
from raftkv.storage.ports import MemberNote, Start, Starts

CALLERS_MAX = 64
"""Peers whose last call is kept; members are few."""


class PeerRegister:
    """The callers of one node: the last call of each peer, and what is on record of its disk."""

    def __init__(self, node_id: int, starts: Starts, log_disk: LogDisk) -> None:
        self.callers: dict[int, Caller] = {}
        self._node_id = node_id
        self._starts = starts
        self._log_disk = log_disk
        self._written = starts
        # By member, the id of the start that has acknowledged the recorded index. Missing if the
        # record is older than this process, and so older than every call that can arrive now.
        self._acknowledged_since: dict[int, int] = {}

    async def admit(
        self, caller: Caller, membership: Membership, cluster_version: int
    ) -> HandshakeRefused | None:
        """Why the caller is refused; None if it is not, and then its start is on our disk."""
        refused = self._refusal_of(caller, membership, cluster_version)
        if refused is not None:
            return refused
        if caller.node_id in membership.members:
            await self._record_start(caller)
            # Another copy of the disk may have called while this one's start was written.
            refused = self._refusal_of(caller, membership, cluster_version)
            if refused is not None:
                return refused
        self.callers.pop(caller.node_id, None)
        self.callers[caller.node_id] = caller
        if len(self.callers) > CALLERS_MAX:
            strangers = (id for id in self.callers if id not in membership.members)
            del self.callers[next(strangers, next(iter(self.callers)))]
        return None

    async def _record_start(self, caller: Caller) -> None:
        record = self._record_of(caller.node_id)
        if record.start != caller.start:
            self._set_record(caller.node_id, replace(record, start=caller.start))
        # An earlier call, which was cancelled, may have left the record in memory only.
        written = self._written.notes.get(caller.node_id)
        if written is None or written.start != caller.start:
            await self.write()

    def refusal_of_admitted(
        self, caller: Caller, membership: Membership
    ) -> HandshakeRefused | None:
        """Why no more messages are taken from a caller that was admitted; None if they are."""
        id = caller.node_id
        if id in membership.removed:
            return _removed(id)
        latest = self.callers.get(id)
        if latest is None or latest.start.id == caller.start.id:
            return None
        # Only the latest start of a node may send. If both still run, one runs from a copied disk.
        return HandshakeRefused(
            Refusal.CLONE,
            f"another process runs from a copy of the disk of node {id}, as its start"
            f" {latest.start.number}, and this is start {caller.start.number}: only the later one"
            f" may go on. `raftkv member replace {id} NEW` if that is the wrong one",
        )

    def acknowledged(self, by_member: Mapping[int, Acknowledged]) -> None:
        """The members have acknowledged what is committed up to these indexes."""
        for member, acknowledged in by_member.items():
            record = self._record_of(member)
            if acknowledged.index > record.index:
                self._set_record(member, replace(record, index=acknowledged.index))
                self._acknowledged_since[member] = acknowledged.start_id

    def start_of(self, member: int) -> Start:
        """The member's start that is on record here."""
        return self._record_of(member).start

    @property
    def changed(self) -> bool:
        """Whether there is something to write."""
        return self._starts is not self._written

    async def write(self) -> None:
        """Write the records to the disk."""
        written = await self._log_disk.write_starts(lambda: self._starts if self.changed else None)
        if written is not None:
            self._written = written

    def _refusal_of(
        self, caller: Caller, membership: Membership, cluster_version: int
    ) -> HandshakeRefused | None:
        id, me, record = caller.node_id, self._node_id, self._record_of(caller.node_id)
        if id in membership.removed:
            return _removed(id)
        if cluster_version not in caller.versions:
            return HandshakeRefused(
                Refusal.WRONG_VERSION,
                f"the cluster is at version {cluster_version}, node {id} can take part in versions"
                f" {caller.versions}: run a program that can",
            )
        disk_id = membership.disk_ids.get(id, caller.disk_id)
        if caller.disk_id != disk_id:
            return HandshakeRefused(
                Refusal.OTHER_DISK,
                f"node {id} started from disk {disk_id:016x}, and this is disk"
                f" {caller.disk_id:016x}: what that one held is lost here, votes and"
                f" acknowledgements too. Put it back, or `raftkv member replace {id} NEW`",
            )
        # `last_log_index` is as of the call. The same start may have acknowledged more since.
        late = self._acknowledged_since.get(id) == caller.start.id
        if caller.start.number < record.start.number or (
            caller.last_log_index < record.index and not late
        ):
            return HandshakeRefused(
                Refusal.OLDER_COPY,
                f"this disk of node {id} is an older copy: start {caller.start.number} with a log"
                f" up to {caller.last_log_index}, where node {me} has noted start"
                f" {record.start.number} and acknowledgements up to {record.index}. Put the newest"
                f" disk back, or `raftkv member replace {id} NEW`",
            )
        if caller.start.number == record.start.number and caller.start.id != record.start.id:
            return HandshakeRefused(
                Refusal.CLONE,
                f"two processes have started from copies of the disk of node {id}, both as its"
                f" start {caller.start.number}: one of them lacks what the other has promised. Stop"
                f" both and put the newest disk back, or `raftkv member replace {id} NEW`",
            )
        return None

    def _record_of(self, member: int) -> MemberNote:
        return self._starts.notes.get(member, MemberNote())

    def _set_record(self, member: int, record: MemberNote) -> None:
        self._starts = replace(self._starts, notes={**self._starts.notes, member: record})


def _removed(id: int) -> HandshakeRefused:
    return HandshakeRefused(Refusal.REMOVED, f"node {id} has been removed from the cluster")
