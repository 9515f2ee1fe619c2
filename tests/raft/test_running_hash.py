"""The running hash: one number that names a whole log, the same on every node and for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.raft.entry import Entry, EntryKind, encode_version
from raftkv.raft.log import Log
from raftkv.raft.running_hash import UNKNOWN, agree, next_hash
from tests.raft.cluster import Cluster
from tests.raft.disk import FOUNDED

# Computed once, outside this program: blake2b(">QQQB" of previous, term, index, kind; payload).
GOLDEN = [
    (1, Entry(1, 1, EntryKind.NOOP, b""), 0xA997AB02F550C54F),
    (0x0123456789ABCDEF, Entry(3, 7, EntryKind.COMMANDS, b"payload"), 0x7911AD2EC6FC0F35),
    (2**64 - 1, Entry(2**62, 2**62, EntryKind.MEMBERSHIP, bytes(9)), 0x59A32E4D7E56BFEA),
    (UNKNOWN, Entry(2, 3, EntryKind.VERSION, encode_version(1)), 0x4612F2881D925B2B),
]


def command(term: int, index: int, payload: bytes = b"") -> Entry:
    return Entry(term, index, EntryKind.COMMANDS, payload or b"%d.%d" % (term, index))


def log_of(*terms: int, founded: int = FOUNDED) -> Log:
    return Log(0, 0, [command(term, at) for at, term in enumerate(terms, 1)], founded)


@pytest.mark.parametrize(("previous", "entry", "golden"), GOLDEN)
def test_the_bytes_that_are_hashed_never_change(previous: int, entry: Entry, golden: int) -> None:
    assert next_hash(previous, entry) == golden


@pytest.mark.parametrize(
    "other",
    [
        Entry(2, 1, EntryKind.COMMANDS, b"x"),
        Entry(1, 2, EntryKind.COMMANDS, b"x"),
        Entry(1, 1, EntryKind.MEMBERSHIP, b"x"),
        Entry(1, 1, EntryKind.COMMANDS, b"y"),
        Entry(1, 1, EntryKind.COMMANDS, b"x\0"),
    ],
)
def test_every_field_of_an_entry_changes_the_hash(other: Entry) -> None:
    assert next_hash(1, other) != next_hash(1, Entry(1, 1, EntryKind.COMMANDS, b"x"))


def test_every_earlier_entry_changes_the_hash() -> None:
    assert next_hash(1, command(1, 1)) != next_hash(2, command(1, 1))
    assert log_of(1, 1, 2).hash(3) != log_of(1, 2, 2).hash(3)


@given(compactions=st.lists(st.integers(0, 3), max_size=6), terms=st.integers(0, 7))
def test_the_hash_does_not_depend_on_the_compaction_index(
    compactions: list[int], terms: int
) -> None:
    log, whole = log_of(), log_of()
    for index, step in enumerate([*compactions, 0], 1):
        log.append([command(terms, index)])
        whole.append([command(terms, index)])
        log.persisted_index = log.last_index
        log.compact(max(log.compacted_index, index - step))
        for known in range(log.compacted_index, log.last_index + 1):
            assert log.hash(known) == whole.hash(known)
    assert log.hash(log.compacted_index - 1) is None
    assert log.hash(log.last_index + 1) is None


def test_a_log_that_is_read_back_from_its_compaction_point_has_the_same_hash() -> None:
    log = log_of(1, 1, 2, 3)
    log.compact(2)
    again = Log(2, 1, log.entries(3, 5, 1 << 20), log.compacted_hash)
    assert [again.hash(index) for index in (2, 3, 4)] == [log.hash(index) for index in (2, 3, 4)]


def test_a_tail_that_is_cut_off_takes_its_hash_with_it() -> None:
    log = log_of(1, 1, 1, 1)
    log.merge([command(2, 3)], commit_index=2)
    assert log.hash(4) is None
    assert log.hash(3) == log_of(1, 1, 2).hash(3)
    log.append([command(2, 4)])
    assert log.hash(4) == log_of(1, 1, 2, 2).hash(4)


def test_after_a_snapshot_the_log_goes_on_from_its_hash() -> None:
    log = log_of(1)
    log.reset(3, 2, log_of(1, 1, 2).hash(3) or 0)
    log.append([command(2, 4)])
    assert log.hash(4) == log_of(1, 1, 2, 2).hash(4)


def test_a_log_without_a_hash_gets_one_with_the_entry_that_raises_the_version() -> None:
    log = log_of(1, 1, founded=UNKNOWN)
    assert log.hash(2) == UNKNOWN
    raised = Entry(2, 3, EntryKind.VERSION, encode_version(1))
    log.append([raised, command(2, 4)])
    assert log.hash(3) == next_hash(UNKNOWN, raised) != UNKNOWN
    assert log.hash(4) == next_hash(log.hash(3) or 0, command(2, 4))


@pytest.mark.parametrize("founded", [FOUNDED, UNKNOWN])
def test_nodes_that_compacted_at_different_indexes_agree(founded: int) -> None:
    cluster = Cluster(3, founded=founded)
    cluster.elect(1)
    for compacted, command in enumerate((b"a", b"b", b"c"), 1):
        cluster.propose(1, command)
        cluster.settle()
        cluster.nodes[compacted].compact(compacted)
        if command == b"b":
            cluster[1].propose_version(1)
    cluster.propose(1, b"d")
    cluster.settle()
    assert {cluster[node].log.compacted_index for node in (1, 2, 3)} == {1, 2, 3}
    last = cluster[1].log.last_index
    assert {cluster[node].log.hash(last) for node in (1, 2, 3)} == {cluster[1].log.hash(last)}
    assert cluster[1].log.hash(last) != UNKNOWN
    assert cluster.commands(3) == [b"a", b"b", b"c", b"d"]


def test_a_hash_that_is_not_known_contradicts_nothing() -> None:
    assert agree(UNKNOWN, 5)
    assert agree(5, UNKNOWN)
    assert agree(5, 5)
    assert not agree(5, 6)


def test_a_log_contradicts_another_only_at_indexes_that_it_has() -> None:
    log = log_of(1, 1, 2)
    there = log.hash(2) or 0
    assert not log.contradicts(2, 1, there)
    assert log.contradicts(2, 1, there + 1)
    assert log.contradicts(2, 2, there)
    assert not log.contradicts(4, 1, 5)
    log.compact(3)
    assert not log.contradicts(2, 1, there + 1)
