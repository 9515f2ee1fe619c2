"""The disks of a cluster that has lost its majority: what they hold, and which one is best.

The nodes are stopped. The best disk has the log that would win an election (Raft section 5.4.1). It
holds every acknowledged write that any of these disks holds, as long as none of them contradicts
another. What only the lost disks held is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from raftkv.errors import DamagedData, OutOfService, RaftkvError, Refused
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.node.config import require_version
from raftkv.node.recovery import log_of, reconciled, require_one_history
from raftkv.raft import quorum
from raftkv.raft.entry import EntryKind, Membership, decode_version
from raftkv.raft.log import Log
from raftkv.raft.running_hash import agree
from raftkv.storage.damage import damage_of, damaged
from raftkv.storage.directory import DataDirectory
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.storage.log_store import read_closed_log
from raftkv.storage.state_storage import live_directory
from raftkv.storage.state_store import RocksStateStore
from raftkv.storage.verification import verify_closed_database
from raftkv.versions import SUPPORTED
from raftkv.wire.membership import decode_membership, encode_membership


@dataclass(frozen=True, slots=True)
class SurvivingDisk:
    """What one data directory holds. `unusable` is the reason for which no cluster can begin from
    it; then the other fields may be those of an empty disk.

    `membership` is the last one in the log, committed or not. `ever_members` are all ids that this
    disk knows to have been given out. `commit_index` is the highest that this disk knows of.
    """

    path: Path
    identity: DirectoryIdentity
    log: Log
    current_term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    membership: Membership = field(default_factory=Membership)
    ever_members: frozenset[int] = frozenset()
    unusable: RaftkvError | None = None

    @property
    def node_id(self) -> int:
        return self.identity.node_id

    @property
    def last_hash(self) -> int:
        """The running hash at the end of the log, 0 if it is not known."""
        return self.log.hash(self.log.last_index) or 0


@dataclass(frozen=True, slots=True)
class Assessment:
    """Which disk is best, and why.

    `best` is None if none can be used. `reasons` say why it was chosen. `warnings` have what an
    operator must know before he uses it, such as logs that contradict each other.
    """

    best: SurvivingDisk | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def read_disk(directory: DataDirectory) -> SurvivingDisk:
    """What this locked directory holds, which stays as it is. Reads and verifies all of it.

    Raises `StorageError` if the disk fails. Damaged data are no error: they make it unusable.
    """
    identity = directory.load()
    if identity is None:
        raise Refused(f"{directory.path} is not the data directory of a node any more")
    empty = SurvivingDisk(directory.path, identity, Log())
    if not directory.has_log:
        reason = f"node {identity.node_id} has never taken part in a cluster: it has no log"
        return replace(empty, unusable=Refused(reason))
    try:
        disk = _read(directory, identity)
    except DamagedData as error:
        # The advice of a node whose cluster is alive would mislead.
        return replace(empty, unusable=DamagedData(damage_of(error), path=directory.path))
    return replace(disk, unusable=disk.unusable or _why_unusable(disk))


def _read(directory: DataDirectory, identity: DirectoryIdentity) -> SurvivingDisk:
    path = directory.path
    state_path = live_directory(directory.state_path)
    if state_path is None:
        raise damaged(f"the state in {path} is gone", path=path)
    for database in (directory.log_path, state_path):
        for _ in verify_closed_database(database):
            pass
    stored = read_closed_log(directory.log_path)
    store = RocksStateStore(state_path, create=False, read_only=True)
    try:
        machine = StateMachine(store, Limits())
        stored = reconciled(identity.node_id, stored, machine)
        log = log_of(stored)
        require_one_history(log, machine)
    finally:
        store.database.close()
    unapplied = [entry for entry in stored.entries if entry.index > machine.applied_index]
    memberships = [
        machine.membership,
        *(
            decode_membership(each.payload)
            for each in unapplied
            if each.kind is EntryKind.MEMBERSHIP
        ),
    ]
    versions = (
        decode_version(each.payload) for each in unapplied if each.kind is EntryKind.VERSION
    )
    unusable: RaftkvError | None = None
    try:
        require_version(max(machine.cluster_version, *versions, 0), SUPPORTED)
    except RaftkvError as error:
        unusable = error
    return SurvivingDisk(
        path,
        identity,
        log,
        max(stored.hard_state.current_term, log.last_term),
        max(stored.hard_state.commit_index, machine.applied_index),
        machine.applied_index,
        memberships[-1],
        frozenset(stored.starts.notes).union(
            *(each.members | each.removed for each in memberships)
        ),
        unusable,
    )


def _why_unusable(disk: SurvivingDisk) -> RaftkvError | None:
    identity, membership, id = disk.identity, disk.membership, disk.node_id
    if identity.out_of_service:
        return OutOfService(f"node {id} is out of service: {identity.out_of_service}")
    if identity.stage is Stage.REFOUNDING:
        return Refused(
            f"{disk.path} has been made the beginning of a new cluster. Fix: start node {id}"
        )
    if id in membership.removed or id not in membership.members:
        return Refused(f"node {id} is not a member of the cluster: others have gone on without it")
    if membership.all_voters == {id}:
        return Refused(
            f"node {id} is the only voter of its cluster, so it needs no other node. Fix: start it"
        )
    return None


# ---- which one is best ----------------------------------------------------------------------


def assess(disks: Sequence[SurvivingDisk]) -> Assessment:
    """Compare the disks of one cluster.

    Raises `Refused` if they belong to several clusters, or if one disk is given twice.
    """
    _require_one_cluster(disks)
    usable = [disk for disk in disks if disk.unusable is None]
    if not usable:
        return Assessment(None, ("no disk can be used",), ())
    best = max(usable, key=_rank)
    others = [disk for disk in usable if disk is not best]
    reasons = [_why_before(best, other) for other in others]
    if not others:
        reasons = [f"{_name(best)} is the only disk that can be used"]
    warnings = [warning for other in others if (warning := _contradiction(best, other))]
    here = frozenset(disk.node_id for disk in usable)
    if quorum.has_majorities(best.membership, here):
        warnings.append(
            f"these disks are a majority: {len(here & best.membership.voters)} of"
            f" {len(best.membership.voters)} voters. Start their nodes, and nothing is lost;"
            " `raftkv recover` is for a majority that is lost"
        )
    return Assessment(best, tuple(reasons), tuple(warnings))


def _require_one_cluster(disks: Sequence[SurvivingDisk]) -> None:
    first, *others = disks
    for other in others:
        for what, one, two in (
            ("cluster", first.identity.cluster_id, other.identity.cluster_id),
            ("incarnation", first.identity.incarnation, other.identity.incarnation),
        ):
            if one != two:
                raise Refused(
                    f"{first.path} is of {what} {one:016x}, {other.path} of {two:016x}. Fix:"
                    " compare the disks of one cluster"
                )


def _rank(disk: SurvivingDisk) -> tuple[int, int, int, int]:
    """Raft's order of logs, section 5.4.1; of equal logs the disk that knows more, then a voter."""
    voter = disk.node_id in disk.membership.all_voters
    return disk.log.last_term, disk.log.last_index, disk.commit_index, int(voter)


def _why_before(best: SurvivingDisk, other: SurvivingDisk) -> str:
    ours, theirs = best.log, other.log
    if ours.last_term != theirs.last_term:
        why = f"its log ends in term {ours.last_term}, the other in the earlier {theirs.last_term}"
    elif ours.last_index != theirs.last_index:
        why = (
            f"both logs end in term {ours.last_term}, and it has"
            f" {ours.last_index - theirs.last_index} more entries"
        )
    else:
        why = "their logs end at the same entry, so either has all that the other has"
    return f"{_name(best)} before {_name(other)}: {why}"


def _contradiction(one: SurvivingDisk, other: SurvivingDisk) -> str:
    """How the two logs contradict each other; empty if they do not, as far as both have entries.

    Logs may differ after the commit index of either: that entry was never committed (section 5.3).
    """
    first = max(one.log.compacted_index, other.log.compacted_index)
    last = min(one.log.last_index, other.log.last_index)
    agreed = _last_agreement(one.log, other.log, first, last)
    if agreed == last or first > last:
        return ""
    index = agreed + 1
    if one.log.term(index) != other.log.term(index) and agreed >= min(
        one.commit_index, other.commit_index
    ):
        return ""
    return (
        f"{_name(one)} and {_name(other)} contradict each other: their logs differ at index"
        f" {index}, which both believe to be committed, or of one term. One of the disks has lost"
        " what it promised, or is of another history. Keep both, and export what both hold before"
        " you decide"
    )


def _last_agreement(one: Log, other: Log, first: int, last: int) -> int:
    """The last index of `first` .. `last` up to which the logs are the same; `first` - 1: none."""
    low, high = first - 1, last
    while low < high:
        middle = (low + high + 1) // 2
        same = one.term(middle) == other.term(middle) and agree(
            one.hash(middle) or 0, other.hash(middle) or 0
        )
        low, high = (middle, high) if same else (low, middle - 1)
    return low


def _name(disk: SurvivingDisk) -> str:
    return f"node {disk.node_id} ({disk.path})"


# ---- the new cluster -------------------------------------------------------------------------


def new_cluster_of(disk: SurvivingDisk, incarnation: int) -> DirectoryIdentity:
    """The identity with which this node's next start begins a cluster of this node alone.

    `incarnation` is a new random number. The ids of all former members are spent. Raises what makes
    the disk unusable.
    """
    if disk.unusable is not None:
        raise disk.unusable
    id, identity = disk.node_id, disk.identity
    address = disk.membership.addresses.get(id)
    membership = Membership(
        voters=frozenset({id}),
        addresses={} if address is None else {id: address},
        removed=disk.ever_members - {id},
        disk_ids={id: identity.disk_id},
    )
    return replace(
        identity,
        incarnation=incarnation,
        stage=Stage.REFOUNDING,
        membership=encode_membership(membership),
    )
