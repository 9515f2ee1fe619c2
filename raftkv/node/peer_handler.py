"""What arrives from peers: handshakes, Raft messages, forwarded proposals and snapshots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from raftkv.errors import InvalidRequest, OutOfService
from raftkv.node.peer_register import PeerRegister
from raftkv.node.proposer import Proposer
from raftkv.node.removal import Removal
from raftkv.node.replica import Replica
from raftkv.node.run_loop import RunLoop
from raftkv.node.snapshots import SnapshotInstaller
from raftkv.peer.bounds import TERM_JUMP_MAX
from raftkv.peer.handshake import Caller, HandshakeRefused, Refusal
from raftkv.peer.ports import Acknowledged, Frame
from raftkv.raft.breach import ProtocolBreach
from raftkv.raft.messages import InstallSnapshot, Message

CONTACTS_MAX = 256
"""Senders whose last message has a recorded time; a sender beyond the members may be a stranger."""

# Refusals by which a peer says that its own disk proves this node's disk to be the wrong one.
_WRONG_DISK = (Refusal.OTHER_DISK, Refusal.OLDER_COPY, Refusal.CLONE)


class NodePeerHandler:
    """The node as its peers see it; see `raftkv.peer.ports.PeerHandler`.

    `observe_role` is called before forwards are queued, because they belong to one term.
    """

    def __init__(
        self,
        replica: Replica,
        register: PeerRegister,
        removal: Removal,
        proposer: Proposer,
        snapshots: SnapshotInstaller,
        run: RunLoop,
        observe_role: Callable[[], None],
    ) -> None:
        self.last_contact: dict[int, float] = {}
        """When the last message of each sender arrived, in time of the loop."""
        self.history_needed: dict[int, int] = {}
        """By member, the oldest revision that it needs, by its last report."""
        self._replica = replica
        self._raft = replica.raft
        self._register = register
        self._removal = removal
        self._proposer = proposer
        self._snapshots = snapshots
        self._run = run
        self._observe_role = observe_role

    @property
    def last_log_index(self) -> int:
        """The end of the log on this node's disk."""
        return self._raft.log.persisted_index

    @property
    def cluster_version(self) -> int:
        """The cluster version in force here."""
        return self._replica.machine.cluster_version

    # ---- handshakes ------------------------------------------------------------------

    async def admit(self, caller: Caller) -> HandshakeRefused | None:
        """Why this node refuses the handshake of a peer; None if it admits the peer."""
        if not self._run.dead:
            self.record_acknowledged()
            with self._run.fatal:  # a disk that does not take the record fails the node
                machine = self._replica.machine
                return await self._register.admit(
                    caller, machine.membership, machine.cluster_version
                )
        return HandshakeRefused(Refusal.NOT_READY, f"node {self._raft.node_id} is stopping")

    def refusal_of(self, caller: Caller) -> HandshakeRefused | None:
        """Why this node takes no more messages of an admitted caller; None if it does."""
        return self._register.refusal_of_admitted(caller, self._replica.machine.membership)

    def link_up(self, peer: int) -> None:
        """The peer has admitted this node."""
        self._removal.admitted(peer)

    def link_down(self, peer: int) -> None:
        """The link to this peer broke."""
        self._raft.unreachable(peer)
        self._run.wake()

    def refused(self, by: int, refused: HandshakeRefused) -> None:
        """A peer does not admit this node. The refusal of a stranger has no effect."""
        if self._run.dead:
            return
        known = self._is_known(by)
        if refused.reason is Refusal.REMOVED:
            # A node without an entry knows no members. It takes the word of any caller that it has
            # admitted: it holds nothing that could be lost.
            if known or (not self._raft.peers and by in self._register.callers):
                self._removal.reported(by)
        elif known and refused.reason in _WRONG_DISK:
            self._run.fail(OutOfService(f"node {by} does not admit this node: {refused.message}"))

    def _is_known(self, peer: int) -> bool:
        """Whether the peer belongs to the cluster: it has proved that, or it is a member here."""
        caller = self._register.callers.get(peer)
        return (caller is not None and caller.proven) or peer in self._raft.peers

    # ---- frames ----------------------------------------------------------------------

    def receive(self, sender: int, frame: Frame) -> None:
        """A frame of an admitted peer has arrived.

        Raises `InvalidRequest` or `ProtocolBreach` if its link must be closed.
        """
        for message in frame.messages:
            self._require_sane_term(message)
            if type(message) is InstallSnapshot:
                raise InvalidRequest(f"node {sender} announces a snapshot without its data")
        self._step(sender, frame)

    def _step(self, sender: int, frame: Frame) -> None:
        if self._run.dead:
            return
        self._record_contact(sender)
        breach_of_stranger: ProtocolBreach | None = None
        with self._run.fatal:
            try:
                for message in frame.messages:
                    self._raft.step(message)
            except ProtocolBreach as breach:
                if self._is_known(breach.sender):
                    raise self._out_of_service(breach) from breach
                breach_of_stranger = breach
            else:
                if frame.forwards:
                    self._observe_role()
                    self._proposer.take_forwards(sender, frame.forwards)
                if frame.acknowledged and sender == self._raft.leader_id:
                    self._record_acknowledged_by_leader(frame.acknowledged)
                if frame.state_marks and self._is_known(sender):
                    self._replica.comparison.reported(sender, frame.state_marks)
                if frame.history_needed and sender in self._raft.peers:
                    self.history_needed[sender] = frame.history_needed
                if frame.forwards_refused:
                    self._proposer.take_refusals(sender, frame.forwards_refused)
        self._run.wake()
        if breach_of_stranger is not None:
            raise breach_of_stranger

    def _record_contact(self, sender: int) -> None:
        self.last_contact[sender] = self._run.loop.time()
        if len(self.last_contact) > CONTACTS_MAX:
            peers = self._raft.peers
            self.last_contact = {id: at for id, at in self.last_contact.items() if id in peers}

    def _require_sane_term(self, message: Message) -> None:
        if message.term > self._raft.current_term + TERM_JUMP_MAX:
            raise InvalidRequest(
                f"node {message.sender} sends term {message.term}, and this node is in term"
                f" {self._raft.current_term}: elections raise it one by one"
            )

    def _out_of_service(self, breach: ProtocolBreach) -> OutOfService:
        """The reason to stop when a member and this node contradict each other."""
        return OutOfService(
            f"{breach}: one of the two has lost or forgotten what it promised, and this node"
            " can't tell which. It takes no part any more. Keep this directory and export it;"
            " compare what both nodes hold, then rebuild the one that is wrong: `raftkv member"
            f" replace {self._raft.node_id} NEW`",
            peer=breach.sender,
        )

    # ---- acknowledgements on record --------------------------------------------------

    def record_acknowledged(self) -> Mapping[int, Acknowledged]:
        """At a leader: record up to where each member has acknowledged what is committed."""
        raft = self._raft
        acknowledged = {
            peer: Acknowledged(
                min(progress.match_index, raft.commit_index), self._register.start_of(peer).id
            )
            for peer, progress in raft.progress.items()
            if peer in raft.membership.members
        }
        self._register.acknowledged(acknowledged)
        return acknowledged

    def _record_acknowledged_by_leader(self, acknowledged: Mapping[int, Acknowledged]) -> None:
        """Record what the leader reports, as far as this node knows it to be committed."""
        raft = self._raft
        self._register.acknowledged(
            {
                member: replace(each, index=min(each.index, raft.commit_index))
                for member, each in acknowledged.items()
                if member in raft.membership.members and member != raft.node_id
            }
        )

    # ---- snapshots -------------------------------------------------------------------

    def begin_snapshot(self, message: InstallSnapshot) -> Path:
        """See `SnapshotInstaller.begin`."""
        self._require_sane_term(message)
        return self._snapshots.begin(message)

    async def finish_snapshot(self, message: InstallSnapshot, received: Path) -> None:
        """All files have arrived: verify them, step the message, and wait for the installation.

        Raises `DamagedData`, and `Unavailable` if the snapshot is not installed.
        """
        await self._snapshots.verify(message, received)
        self._step(message.sender, Frame(messages=(message,)))
        await self._snapshots.until_installed(message)
