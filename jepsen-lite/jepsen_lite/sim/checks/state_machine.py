"""The invariants of applied state: revisions, leases, cluster time, and equal replicas."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from jepsen_lite.sim.checks.disk_losses import Replica
from jepsen_lite.sim.checks.model_comparison import ModelComparison
from jepsen_lite.sim.checks.violation import Violation
from raftkv.errors import DamagedData
from raftkv.kv.machine import StateMachine
from raftkv.kv.meta import META_KEY, Meta
from raftkv.kv.records import change_key, split_change_key, split_lease, unpack_lease
from raftkv.kv.store import Family, StateStore
from raftkv.node.node import Node
from raftkv.peer.ports import Author
from raftkv.raft.entry import Entry
from raftkv.rpc.v1 import kv_pb2, log_pb2

REMOVED_WITHIN_MS: Final = 5_000
"""Of cluster time, which runs only while there is a leader to remove what is over."""


@dataclass(frozen=True, slots=True)
class SeenLeases:
    """(ttl_ms, deadline_ms) of each lease, and cluster time, when a node was looked at last."""

    time_ms: int = 0
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)


def check_leases(
    node_id: int, machine: StateMachine, seen: SeenLeases, renewed: Set[int], granted: Set[int]
) -> SeenLeases:
    """Raises `Violation` if a lease has more than its time to live, or another deadline than before
    although it is none of those that were `renewed` in between; if it lives again although it was
    over and is none of those that were `granted`; or if its rows are there long after its end.
    Damaged rows are not looked at.
    """
    now_ms = machine.time_ms
    try:
        leases = {
            split_lease(key): unpack_lease(row)[:2]
            for key, row in machine.view.scan(Family.LEASES, b"", None)
        }
    except DamagedData:
        return SeenLeases(now_ms)
    for lease, (ttl_ms, deadline_ms) in leases.items():
        if deadline_ms + REMOVED_WITHIN_MS <= now_ms:
            raise Violation(
                f"node {node_id}: lease {lease} is still there, but its time was over"
                f" {now_ms - deadline_ms} ms ago"
            )
        if deadline_ms > now_ms + ttl_ms:
            raise Violation(f"node {node_id}: lease {lease} has more than its time to live")
        known = seen.leases.get(lease)
        if known is None or known == (ttl_ms, deadline_ms):
            continue
        if lease not in renewed:
            raise Violation(
                f"node {node_id}: lease {lease} was to end at {known[1]} ms and now ends at"
                f" {deadline_ms} ms, but it was not renewed"
            )
        if known[1] <= seen.time_ms and deadline_ms > known[1] and lease not in granted:
            raise Violation(f"node {node_id}: lease {lease} was over and lives again")
    return SeenLeases(now_ms, leases)


class NamedLeases(NamedTuple):
    """Leases in commands: those granted, and all that are granted, renewed or ended."""

    granted: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()

    def with_(self, other: NamedLeases) -> NamedLeases:
        return NamedLeases(self.granted | other.granted, self.named | other.named)


def leases_named(commands: bytes) -> NamedLeases:
    """The leases that these commands name."""
    granted: set[int] = set()
    named: set[int] = set()
    for command in kv_pb2.CommandBatch.FromString(commands).commands:
        granted.add(command.lease_grant.lease)
        named |= {command.lease_renew.lease, command.lease_revoke.lease}
        named.update(command.lease_keep_alive.leases)
    return NamedLeases(frozenset(granted), frozenset(named | granted))


def _command_of_node(submission: log_pb2.Submission) -> kv_pb2.Command | None:
    """The command, if a leader has made it by itself: one that replaces the signing key or compacts
    the history, and nothing else.
    """
    commands = kv_pb2.CommandBatch.FromString(submission.commands).commands
    if submission.origin or len(commands) != 1:
        return None
    (command,) = commands
    rotates = command.auth.WhichOneof("command") == "signing_key_rotate" and not submission.user
    return command if rotates or command.WhichOneof("command") == "compact" else None


LAST_SUBMISSIONS: Final = 32
EMPTY_STORE = Meta().revision


def check_revisions(node_id: int, machine: StateMachine, seen: int) -> int:
    """The machine's revision now, when it was `seen` before: it has gone on by one for each command
    that changed a key, so each revision in between has its changes. Rows of revisions to come may
    have been written ahead of them, before a crash.
    """
    revision = machine.revision
    if revision < seen:
        raise Violation(f"node {node_id}: its revision went back from {seen} to {revision}")
    # A snapshot may bring revisions that were compacted before this node ever saw their changes.
    last, position = max(seen, machine.compacted_revision, EMPTY_STORE), 0
    try:
        end = change_key(revision + 1, 0)
        changes = list(machine.view.scan(Family.CHANGES, change_key(last + 1, 0), end))
    except DamagedData:
        return revision  # its disk has lost what this looks at
    for row, _ in changes:
        found = split_change_key(row)
        if found == (last + 1, 0):
            last, position = last + 1, 1
        elif found == (last, position):
            position += 1
        else:
            raise Violation(
                f"node {node_id}: its revisions have a gap: what follows change {position - 1} of"
                f" revision {last} is change {found[1]} of revision {found[0]}"
            )
    if last != revision:
        raise Violation(
            f"node {node_id}: its revision is {revision}, but the last one that changed a key is"
            f" {last}"
        )
    return revision


@dataclass(slots=True)
class AppliedState:
    """What one incarnation of a node had applied when it was checked last."""

    index: int = 0
    revision: int = 0
    leases: SeenLeases = field(default_factory=SeenLeases)


class StateMachineInvariants:
    """Raises `Violation` where one is broken.

    Nodes apply committed entries only, in order, and only commands that clients have submitted;
    revisions have no gaps; leases end by cluster time; and replicas that have applied the same hold
    the same state, which is that of an independent model. `terms_and_digests` has one item for each
    committed entry, by index.
    """

    def __init__(self, terms_and_digests: list[tuple[int, int]]) -> None:
        self.model = ModelComparison()
        self._checks = 0
        self._committed = terms_and_digests
        self._submitted: set[bytes] = set()
        self.last_submissions: deque[tuple[bytes, Author]] = deque(maxlen=LAST_SUBMISSIONS)
        self._leases_named: dict[int, NamedLeases] = {}  # by the entry's index
        self._applied: dict[int, tuple[int, int, int, int]] = {}
        self._states: dict[int, tuple[Replica, int]] = {}
        self._compared: set[tuple[Replica, int]] = set()

    @property
    def checks(self) -> int:
        """How many checks have been made."""
        return self._checks + self.model.checks

    def submitted(self, commands: bytes, author: Author) -> None:
        """A client has submitted these commands to a node."""
        self._submitted.add(commands)
        self.last_submissions.append((commands, author))

    def committed(self, node_id: int, entry: Entry) -> int:
        """The node is the first to commit this entry of commands. Returns the revision up to which
        its leader compacts the history by itself, 0 if it does not.
        """
        compacted = 0
        for submission in log_pb2.StampedBatch.FromString(entry.payload).submissions:
            if submission.commands not in self._submitted:
                command = _command_of_node(submission)
                if command is None:
                    raise Violation(
                        f"node {node_id} commits entry {entry.index} with commands that no client"
                        " has submitted"
                    )
                compacted = max(compacted, command.compact.revision)
            here = leases_named(submission.commands)
            before = self._leases_named.get(entry.index, NamedLeases())
            self._leases_named[entry.index] = before.with_(here)
        return compacted

    def applied(self, replica: Replica, node: Node, seen: AppliedState) -> None:
        """The node has applied more than it had when it was `seen` last."""
        self._checks += 1
        machine, raft = node.machine, node.core
        index = raft.last_applied
        if index < seen.index:
            raise Violation(f"node {replica}: applied went back")
        if index > raft.commit_index:
            raise Violation(f"node {replica} applied {index}, past its commit index")
        self.model.applied(replica, index)
        if machine.applied_index == index:
            self._check_state(replica, node, index)
            seen.revision = check_revisions(node.node_id, machine, seen.revision)
        if raft.established:
            _check_cluster_time(node)
        leases = NamedLeases()
        for each in range(seen.index + 1, index + 1):
            leases = leases.with_(self._leases_named.get(each, NamedLeases()))
        seen.leases = check_leases(node.node_id, machine, seen.leases, leases.named, leases.granted)
        seen.index = index

    def _check_state(self, replica: Replica, node: Node, index: int) -> None:
        """Nodes agree on term, revision and time after each entry."""
        machine = node.machine
        if index < len(self._committed) and machine.applied_term != self._committed[index][0]:
            raise Violation(
                f"node {replica} applied entry {index} of term {machine.applied_term}, but"
                f" the one of term {self._committed[index][0]} was committed"
            )
        here = (machine.applied_term, machine.revision, machine.time_ms, node.node_id)
        known = self._applied.setdefault(index, here)
        if known[:3] != here[:3]:
            raise Violation(
                f"nodes {known[3]} and {replica} differ after entry {index}: term,"
                f" revision and time are {known[:3]} and {here[:3]}"
            )

    def compare(self, stores: Iterable[tuple[Replica, StateStore]]) -> None:
        """All replicas that ever stood at the same index hold the same bytes."""
        for replica, store in stores:
            row = store.get(Family.META, META_KEY)
            if row is None:
                continue
            index = Meta.decode(row).applied_index
            if (replica, index) in self._compared:
                continue
            self._compared.add((replica, index))
            self.model.compare_state(replica, store, index)
            digest = _digest_of_state(store)
            other, known = self._states.setdefault(index, (replica, digest))
            if known != digest:
                raise Violation(
                    f"nodes {other} and {replica} hold different states after entry {index}"
                )
            self._checks += 1


def _check_cluster_time(node: Node) -> None:
    now_ms = node.cluster_time_ms
    if now_ms < node.machine.time_ms:
        raise Violation(
            f"node {node.node_id} leads with its cluster time at {now_ms} ms, behind that of"
            f" the state, {node.machine.time_ms} ms"
        )


def _digest_of_state(store: StateStore) -> int:
    # Some rows hold results as protobuf has written them, which may differ between two versions of
    # the library. All replicas of a simulation live in one process, with one library.
    # Python keeps the hash of bytes, so rows that have not changed cost little the next time.
    return hash(tuple(hash(tuple(store.scan(family, b"", None))) for family in Family))
