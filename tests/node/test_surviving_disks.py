"""Which disk of a cluster without a majority is best, and which ones can't be used."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from raftkv.errors import DamagedData, OutOfService, RaftkvError, Refused
from raftkv.kv.new_cluster import NUMBERS_SKIPPED
from raftkv.kv.store import Family
from raftkv.node.config import NodeStores
from raftkv.node.recovery import recover
from raftkv.node.surviving_disks import SurvivingDisk, assess, new_cluster_of, read_disk
from raftkv.raft.entry import Entry, EntryKind, HardState, Membership
from raftkv.raft.log import Log
from raftkv.storage.directory import DataDirectory, open_directory, open_stopped_directory
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.rocks import RocksDatabase
from raftkv.storage.state_storage import RocksStateStorage
from raftkv.wire.membership import decode_membership, encode_membership
from tests.node.wire import CLUSTER, INCARNATION, config_of, identity_of, members_of

FIVE = members_of(1, 2, 3, 4, 5)


def disk(
    node_id: int,
    terms: Iterable[int],
    commit_index: int = 0,
    *,
    payload: bytes = b"",
    compacted: int = 0,
    membership: Membership = FIVE,
) -> SurvivingDisk:
    """A disk whose log has entries of these terms, of which the first `compacted` are gone."""
    log = Log(compacted_hash=INCARNATION)
    log.append(
        [Entry(term, index, EntryKind.COMMANDS, payload) for index, term in enumerate(terms, 1)]
    )
    log.hand_over()
    log.persisted(log.last_index, log.last_term)
    if compacted:
        log.compact(compacted)
    return SurvivingDisk(
        Path(f"/disk-{node_id}"),
        DirectoryIdentity(CLUSTER, node_id, node_id, incarnation=INCARNATION, stage=Stage.MEMBER),
        log,
        current_term=log.last_term,
        commit_index=commit_index,
        applied_index=commit_index,
        membership=membership,
        ever_members=membership.members,
    )


def best_of(*disks: SurvivingDisk) -> int:
    """The same, in whichever order they are given."""
    chosen = {best.node_id for order in (disks, disks[::-1]) if (best := assess(order).best)}
    (best_id,) = chosen
    return best_id


# ---- the choice ---------------------------------------------------------------------------


def test_the_log_with_the_later_last_term_is_best_although_it_is_shorter() -> None:
    assert best_of(disk(1, [1, 1, 1, 1]), disk(2, [1, 1, 2])) == 2


def test_of_logs_that_end_in_one_term_the_longer_is_best() -> None:
    assessment = assess([disk(1, [1, 2, 2]), disk(2, [1, 2])])
    assert assessment.best is not None
    assert assessment.best.node_id == 1
    assert assessment.reasons == (
        "node 1 (/disk-1) before node 2 (/disk-2): both logs end in term 2, and it has 1 more"
        " entries",
    )
    assert assessment.warnings == ()


def test_a_longer_log_of_an_older_term_is_not_a_contradiction_after_the_commit_index() -> None:
    """The leader of term 1 had appended entries that no majority ever had."""
    disks = [disk(1, [1, 1, 1, 1], 2), disk(2, [1, 1, 2], 3)]
    assert assess(disks).warnings == ()


def test_logs_that_differ_where_both_are_committed_contradict_each_other() -> None:
    disks = [disk(1, [1, 1, 1, 1], 3), disk(2, [1, 1, 2], 3)]
    (warning,) = assess(disks).warnings
    assert "contradict each other: their logs differ at index 3" in warning


def test_logs_of_equal_terms_and_other_contents_contradict_each_other() -> None:
    """Two leaders of one term: a vote was forgotten. Only the running hash shows it."""
    disks = [disk(1, [1, 1], payload=b"a"), disk(2, [1, 1, 2], payload=b"b")]
    (warning,) = assess(disks).warnings
    assert "differ at index 1" in warning


def test_a_compacted_log_is_compared_from_its_compaction_on() -> None:
    assert assess([disk(1, [1] * 6, 4, compacted=4), disk(2, [1] * 5, 5)]).warnings == ()
    other = disk(2, [1] * 5, 5, payload=b"other")
    (warning,) = assess([disk(1, [1] * 6, 4, compacted=4), other]).warnings
    assert "differ at index 4" in warning
    # Of logs without a common entry nothing is known.
    assert assess([disk(1, [1] * 6, 6, compacted=6), other]).warnings == ()


def test_disks_that_are_a_majority_need_no_recovery() -> None:
    (warning,) = assess([disk(1, [1]), disk(2, [1]), disk(4, [1])]).warnings
    assert "these disks are a majority: 3 of 5 voters" in warning


def test_a_disk_that_can_t_be_used_is_never_best() -> None:
    damaged = replace(disk(1, [9, 9, 9]), unusable=DamagedData("bits"))
    assert best_of(damaged, disk(2, [1])) == 2
    assert assess([damaged]).best is None


def test_disks_of_two_clusters_or_incarnations_are_not_compared() -> None:
    one, other = disk(1, [1]), disk(2, [1])
    for identity in (
        replace(other.identity, cluster_id=CLUSTER + 1),
        replace(other.identity, incarnation=INCARNATION + 1),
    ):
        foreign = replace(other, identity=identity)
        with pytest.raises(Refused, match="compare the disks of one cluster"):
            assess([one, foreign])


# ---- the new identity ---------------------------------------------------------------------


def test_the_new_cluster_has_this_node_alone_and_no_id_of_a_former_member_comes_back() -> None:
    gone = replace(FIVE, removed=frozenset({7}))
    best = replace(disk(3, [1], membership=gone), ever_members=frozenset({1, 2, 3, 4, 5, 7, 8}))
    identity = new_cluster_of(best, 99)
    membership = decode_membership(identity.membership)
    assert (identity.incarnation, identity.stage) == (99, Stage.REFOUNDING)
    assert membership.voters == membership.members == {3}
    assert membership.removed == {1, 2, 4, 5, 7, 8}
    assert membership.disk_ids == {3: 3}
    assert identity.cluster_id == CLUSTER


def test_no_cluster_begins_from_a_disk_that_can_t_be_used() -> None:
    with pytest.raises(DamagedData, match="bits"):
        new_cluster_of(replace(disk(1, [1]), unusable=DamagedData("bits")), 99)


# ---- what is read from a directory --------------------------------------------------------


def directory_of(
    path: Path, membership: Membership = FIVE, entries: int = 3, late: Membership | None = None
) -> Path:
    """The data directory of node 3, stopped after it had taken part; `late`: its log ends so."""
    founder = identity_of(3, membership)
    directory = open_directory(path, "", 3, 3, free_bytes_min=0)
    directory.save(founder)
    asyncio.run(take_part(directory, founder, entries, late))
    directory.save(replace(founder, stage=Stage.MEMBER, membership=b""))
    directory.close()
    return path


async def take_part(
    directory: DataDirectory, founder: DirectoryIdentity, entries: int, late: Membership | None
) -> None:
    log, state = RocksLogStore(directory.log_path), RocksStateStorage(directory.state_path)
    await recover(
        founder, config_of(leader_lease=False), NodeStores(directory, log, state), Random(1)
    )
    appended = [Entry(2, index, EntryKind.NOOP) for index in range(3, 3 + entries)]
    if late is not None:
        appended.append(Entry(2, 3 + entries, EntryKind.MEMBERSHIP, encode_membership(late)))
    await log.append(HardState(4, 1, 3), appended)
    # A row that nothing reads when a directory is inspected: only the verification does.
    state.store.write({Family.CURRENT: {b"paid": b"yes" * 100}})
    await log.close()
    await state.close()


def read(path: Path) -> SurvivingDisk:
    directory = open_stopped_directory(path)
    try:
        return read_disk(directory)
    finally:
        directory.close()


def reason(path: Path, kind: type[RaftkvError]) -> str:
    unusable = read(path).unusable
    assert isinstance(unusable, kind)
    return unusable.message


def content_of(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_directory_is_read_as_it_is_and_stays_so(tmp_path: Path) -> None:
    path = directory_of(tmp_path / "node", late=members_of(3, 6))
    before = content_of(path)
    found = read(path)
    assert found.unusable is None
    assert (found.log.last_index, found.log.last_term, found.current_term) == (6, 2, 4)
    assert (found.commit_index, found.applied_index) == (3, 0)
    # The membership of an entry that may not be committed; the nodes before it count as well.
    assert found.membership.voters == {3, 6}
    assert found.ever_members == {1, 2, 3, 4, 5, 6}
    assert {name for name, bytes_ in content_of(path).items() if before.get(name) != bytes_} <= {
        str(path / "lock")
    }


def test_a_node_that_is_out_of_service_or_was_converted_begins_no_new_cluster(
    tmp_path: Path,
) -> None:
    path = directory_of(tmp_path / "node")
    identity = open_stopped_directory(path)
    known = identity.load()
    assert known is not None
    for changed, kind, words in (
        (replace(known, out_of_service="its disk is a copy"), OutOfService, "is a copy"),
        (replace(known, stage=Stage.REFOUNDING), Refused, "start node 3"),
    ):
        identity.save(changed)
        identity.close()
        assert words in reason(path, kind)
        identity = open_stopped_directory(path)
    identity.save(known)
    identity.close()


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if file.suffix != ".sst" else 20] ^= 1  # of a table: in its rows
    file.write_bytes(content)


def test_a_flipped_bit_of_log_or_state_makes_the_disk_unusable(tmp_path: Path) -> None:
    path = directory_of(tmp_path / "node")
    (table,) = path.glob("state/*/*.sst")
    files = [*path.glob("log/*.sst"), *path.glob("state/*/MANIFEST-*"), table]
    assert len(files) >= 3
    for number, file in enumerate(files):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(path, copy)
        flip(copy / file.relative_to(path))
        # The advice of a cluster that still has its majority would mislead.
        assert "member replace" not in reason(copy, DamagedData), file


def test_a_disk_without_its_state_or_its_log_can_t_be_used(tmp_path: Path) -> None:
    path = directory_of(tmp_path / "node")
    shutil.copytree(path, tmp_path / "other")
    shutil.rmtree(path / "state")
    assert "state" in reason(path, DamagedData)
    shutil.rmtree(tmp_path / "other" / "log")
    assert "has no log" in reason(tmp_path / "other", Refused)


def test_a_sole_voter_and_a_node_that_was_removed_begin_no_new_cluster(
    tmp_path: Path,
) -> None:
    alone = directory_of(tmp_path / "alone", members_of(3))
    assert "needs no other node" in reason(alone, Refused)
    removed = directory_of(tmp_path / "removed", late=members_of(1, 2))
    assert "others have gone on without it" in reason(removed, Refused)


def test_the_identity_is_the_one_write_that_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is copied at each file operation: it is of the old cluster or of the new."""
    path = directory_of(tmp_path / "node")
    moments: list[Path] = []

    def copying(name: str) -> None:
        call = getattr(os, name)

        def traced(*arguments: object, **options: object) -> object:
            for when in ("before", "after"):
                moment = tmp_path / f"{len(moments)}-{when}-{name}"
                if when == "after":
                    result = call(*arguments, **options)
                shutil.copytree(path, moment)
                moments.append(moment)
            return result

        monkeypatch.setattr(os, name, traced)

    copying("fsync")
    copying("replace")
    directory = open_stopped_directory(path)
    old = directory.load()
    new = new_cluster_of(read_disk(directory), 99)
    directory.save(new)
    directory.close()
    monkeypatch.undo()
    found = [DataDirectory.load(open_stopped_directory(moment)) for moment in moments]
    assert set(found) == {old, new}
    assert found == sorted(found, key=lambda each: each == new), "it never goes back"


# ---- the next start, on real stores -------------------------------------------------------


async def start(path: Path) -> tuple[int, int, Membership]:
    """The applied index, the revision and the membership with which node 3 starts."""
    directory = open_directory(path, "", 3, 3, free_bytes_min=0)
    identity = directory.load()
    assert identity is not None
    log, state = RocksLogStore(directory.log_path), RocksStateStorage(directory.state_path)
    stores = NodeStores(directory, log, state)
    recovered = await recover(identity, config_of(leader_lease=False), stores, Random(1))
    assert recovered.raft.log.hash(recovered.raft.log.last_index) == recovered.machine.applied_hash
    assert recovered.raft.current_term >= recovered.raft.log.last_term
    await log.close()
    await state.close()
    directory.close()
    machine = recovered.machine
    return machine.applied_index, machine.revision, machine.membership


@pytest.mark.slow
def test_after_a_crash_between_any_two_writes_the_next_start_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory_of(tmp_path / "node", members_of(1, 2, 3), entries=4)
    directory = open_stopped_directory(path)
    directory.save(new_cluster_of(read_disk(directory), 99))
    directory.close()
    moments: list[Path] = []

    def copying(name: str) -> None:
        call = getattr(RocksDatabase, name)

        def traced(database: RocksDatabase, *arguments: object) -> object:
            for when in ("before", "after"):
                result = call(database, *arguments) if when == "after" else None
                moments.append(tmp_path / f"{len(moments)}-{when}-{name}")
                shutil.copytree(path, moments[-1])
            return result

        monkeypatch.setattr(RocksDatabase, name, traced)

    copying("write")
    copying("sync")
    done = asyncio.run(start(path))
    monkeypatch.undo()
    # Six entries, and the membership of the new cluster.
    assert done[:2] == (7, 1 + NUMBERS_SKIPPED)
    assert done[2].members == {3}
    assert len(moments) >= 2 * 2 * 4, "state, term, log, start: a write and a sync each"
    for moment in moments:
        assert asyncio.run(start(moment)) == done, moment
