"""Whom this node talks to: what it remembers of its peers' disks, and who is refused by that.

A node that comes back from an older copy of its disk has forgotten votes and acknowledgements, and
a second process from a copy of a disk votes a second time. Both are found out by what their peers
have on their own disks: the highest start of each member, and an index up to which it had
acknowledged what is committed. What no peer has noted escapes (ARCHITECTURE, "Disks").
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
"""Peers of which this node remembers who called last; members are few."""


class PeerRegister:
    """The callers of one node: the last call of each peer, and what is on record of its disk."""

    def __init__(self, node_id: int, starts: Starts, log_disk: LogDisk) -> None:
        self.callers: dict[int, Caller] = {}
        self._node_id = node_id
        self._starts = starts
        self._log_disk = log_disk
        self._written = starts
        # Of each member, the id of the start that has acknowledged what is noted; none if that was
        # noted before this node started, as then it was before any call that can arrive here.
        self._acknowledged_since: dict[int, int] = {}

    async def admit(
        self, caller: Caller, membership: Membership, cluster_version: int
    ) -> HandshakeRefused | None:
        """Why the caller is refused; None if it is not, and then its start is on our disk."""
        refused = self._refusal_of(caller, membership, cluster_version)
        if refused is not None:
            return refused
        if caller.node_id in membership.members:
            await self._note_start(caller)
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

    async def _note_start(self, caller: Caller) -> None:
        note = self._note(caller.node_id)
        if note.start != caller.start:
            self._set_note(caller.node_id, replace(note, start=caller.start))
        # It may have been noted before, by a call that was given up, and not be on the disk yet.
        written = self._written.notes.get(caller.node_id)
        if written is None or written.start != caller.start:
            await self.write()

    def refusal_of_admitted(
        self, caller: Caller, membership: Membership
    ) -> HandshakeRefused | None:
        """Why nothing more is taken from a caller that was admitted; None if it is."""
        id = caller.node_id
        if id in membership.removed:
            return _removed(id)
        latest = self.callers.get(id)
        if latest is None or latest.start.id == caller.start.id:
            return None
        # Of one node only the latest start may speak. If both run, one runs from a copy.
        return HandshakeRefused(
            Refusal.CLONE,
            f"another process runs from a copy of the disk of node {id}, as its start"
            f" {latest.start.number}, and this is start {caller.start.number}: only the later one"
            f" may go on. `raftkv member replace {id} NEW` if that is the wrong one",
        )

    def acknowledged(self, by_member: Mapping[int, Acknowledged]) -> None:
        """The members have acknowledged what is committed up to these indexes."""
        for member, acknowledged in by_member.items():
            note = self._note(member)
            if acknowledged.index > note.index:
                self._set_note(member, replace(note, index=acknowledged.index))
                self._acknowledged_since[member] = acknowledged.start_id

    def start_of(self, member: int) -> Start:
        """The member's start that is noted here."""
        return self._note(member).start

    @property
    def changed(self) -> bool:
        """Whether there is something to write."""
        return self._starts is not self._written

    async def write(self) -> None:
        """Bring the records to the disk."""
        written = await self._log_disk.write_starts(lambda: self._starts if self.changed else None)
        if written is not None:
            self._written = written

    def _refusal_of(
        self, caller: Caller, membership: Membership, cluster_version: int
    ) -> HandshakeRefused | None:
        id, me, note = caller.node_id, self._node_id, self._note(caller.node_id)
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
        # The caller says where its log ended when it called. It may have acknowledged more since.
        late = self._acknowledged_since.get(id) == caller.start.id
        if caller.start.number < note.start.number or (
            caller.last_log_index < note.index and not late
        ):
            return HandshakeRefused(
                Refusal.OLDER_COPY,
                f"this disk of node {id} is an older copy: start {caller.start.number} with a log"
                f" up to {caller.last_log_index}, where node {me} has noted start"
                f" {note.start.number} and acknowledgements up to {note.index}. Put the newest disk"
                f" back, or `raftkv member replace {id} NEW`",
            )
        if caller.start.number == note.start.number and caller.start.id != note.start.id:
            return HandshakeRefused(
                Refusal.CLONE,
                f"two processes have started from copies of the disk of node {id}, both as its"
                f" start {caller.start.number}: one of them lacks what the other has promised. Stop"
                f" both and put the newest disk back, or `raftkv member replace {id} NEW`",
            )
        return None

    def _note(self, member: int) -> MemberNote:
        return self._starts.notes.get(member, MemberNote())

    def _set_note(self, member: int, note: MemberNote) -> None:
        self._starts = replace(self._starts, notes={**self._starts.notes, member: note})


def _removed(id: int) -> HandshakeRefused:
    return HandshakeRefused(Refusal.REMOVED, f"node {id} has been removed from the cluster")
