"""The contract of a log store, on disk and in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv.errors import InvariantViolation
from raftkv.raft.entry import Entry, EntryKind, HardState
from raftkv.storage.log_store import BATCH_BYTES_MAX, RocksLogStore
from raftkv.storage.ports import MemberNote, RecoveredLog, Start, Starts
from raftkv.storage.rocks import RocksDatabase

from .conftest import Logs


def entries(first: int, last: int, term: int = 1, size: int = 20) -> list[Entry]:
    return [
        Entry(term, index, EntryKind.COMMANDS, f"{term}/{index}".encode().ljust(size, b"."))
        for index in range(first, last + 1)
    ]


def parts(log: RecoveredLog) -> tuple[int, int, list[Entry]]:
    return log.compacted_index, log.compacted_term, list(log.entries)


HASH = 2**64 - 1


async def test_a_new_log_is_empty(logs: Logs) -> None:
    assert logs.store.recover() == RecoveredLog(HardState(), 0, 0, logs.store.recover().entries)
    assert not logs.store.recover().entries


async def test_appended_entries_are_recovered_after_a_restart(logs: Logs) -> None:
    written = [
        Entry(1, 1, EntryKind.MEMBERSHIP, b"members"),
        Entry(1, 2, EntryKind.NOOP),
        Entry(3, 3, EntryKind.COMMANDS, bytes(range(256))),
    ]
    await logs.store.append(HardState(3, 2, 1), written)
    recovered = (await logs.reopen()).recover()
    assert recovered.hard_state == HardState(3, 2, 1)
    assert parts(recovered) == (0, 0, written)


async def test_a_hard_state_alone_leaves_the_entries(logs: Logs) -> None:
    await logs.store.append(HardState(1, 1, 0), entries(1, 3))
    await logs.store.append(HardState(2, 3, 2), [])
    await logs.store.append(None, entries(4, 4))
    recovered = (await logs.reopen()).recover()
    assert recovered.hard_state == HardState(2, 3, 2)
    assert parts(recovered) == (0, 0, entries(1, 4))


async def test_numbers_of_64_bits_come_back(logs: Logs) -> None:
    term = 2**64 - 1
    await logs.store.append(HardState(term, term, 0), entries(1, 1, term))
    recovered = (await logs.reopen()).recover()
    assert recovered.hard_state == HardState(term, term, 0)
    assert recovered.entries[0].term == term


async def test_an_append_truncates_the_log_at_its_first_index(logs: Logs) -> None:
    await logs.store.append(None, entries(1, 10))
    await logs.store.append(None, entries(4, 5, term=2))
    assert parts(logs.store.recover()) == (0, 0, entries(1, 3) + entries(4, 5, term=2))
    recovered = (await logs.reopen()).recover()
    assert parts(recovered) == (0, 0, entries(1, 3) + entries(4, 5, term=2))


async def test_the_whole_log_can_be_replaced(logs: Logs) -> None:
    await logs.store.append(None, entries(1, 10))
    await logs.store.append(None, entries(1, 1, term=2))
    assert parts((await logs.reopen()).recover()) == (0, 0, entries(1, 1, term=2))


async def test_a_truncation_after_a_restart_truncates_everything(logs: Logs) -> None:
    await logs.store.append(None, entries(1, 10))
    store = await logs.reopen()
    store.recover()
    await store.append(None, entries(2, 2, term=2))
    assert parts((await logs.reopen()).recover()) == (0, 0, entries(1, 1) + entries(2, 2, 2))


async def test_compaction_forgets_entries_up_to_and_with_its_index(logs: Logs) -> None:
    await logs.store.append(HardState(1, 1, 7), entries(1, 10))
    await logs.store.compact(7, 1, HASH)
    assert parts(logs.store.recover()) == (7, 1, entries(8, 10))
    await logs.store.append(None, entries(11, 12))
    recovered = (await logs.reopen()).recover()
    assert parts(recovered) == (7, 1, entries(8, 12))
    assert recovered.compacted_hash == HASH
    assert recovered.hard_state == HardState(1, 1, 7)


async def test_everything_can_be_compacted_and_the_log_continues(logs: Logs) -> None:
    await logs.store.append(None, entries(1, 10))
    await logs.store.compact(10, 1, HASH)
    assert parts((await logs.reopen()).recover()) == (10, 1, [])
    await logs.store.append(None, entries(11, 11, term=2))
    assert parts((await logs.reopen()).recover()) == (10, 1, entries(11, 11, term=2))


async def test_compaction_continues_from_an_earlier_one(logs: Logs) -> None:
    await logs.store.append(None, entries(1, 10))
    await logs.store.compact(3, 1, 5)
    await logs.store.compact(6, 1, HASH)
    recovered = (await logs.reopen()).recover()
    assert parts(recovered) == (6, 1, entries(7, 10))
    assert recovered.compacted_hash == HASH


async def test_a_reset_forgets_all_entries_and_keeps_the_vote(logs: Logs) -> None:
    await logs.store.append(HardState(4, 2, 3), entries(1, 5))
    await logs.store.reset(100, 3, HASH)
    recovered = (await logs.reopen()).recover()
    assert parts(recovered) == (100, 3, [])
    assert recovered.compacted_hash == HASH
    assert recovered.hard_state == HardState(4, 2, 3)
    await logs.store.append(None, entries(101, 103, term=4))
    assert parts((await logs.reopen()).recover()) == (100, 3, entries(101, 103, term=4))


async def test_a_reset_to_before_the_end_leaves_no_entries(logs: Logs) -> None:
    await logs.store.append(None, entries(1, 50))
    await logs.store.reset(20, 2, HASH)
    await logs.store.append(None, entries(21, 21, term=2))
    assert parts((await logs.reopen()).recover()) == (20, 2, entries(21, 21, term=2))


async def test_an_append_larger_than_a_batch_is_recovered_completely(logs: Logs) -> None:
    await logs.store.append(HardState(1, 1, 0), entries(1, 3))
    large = entries(2, 9, term=2, size=BATCH_BYTES_MAX // 2)
    await logs.store.append(HardState(2, 1, 9), large)
    recovered = (await logs.reopen()).recover()
    assert parts(recovered) == (0, 0, entries(1, 1) + large)
    assert recovered.hard_state == HardState(2, 1, 9)


async def test_an_append_that_would_leave_a_gap_stops_the_node(logs: Logs) -> None:
    await logs.store.append(None, entries(1, 3))
    with pytest.raises(InvariantViolation, match="no gap"):
        await logs.store.append(None, entries(5, 5))


STARTS = Starts(
    Start(3, 2**64 - 1),
    {2: MemberNote(Start(7, 2**63), 900), 2**63 - 1: MemberNote(Start(1, 0), 0)},
)


async def test_starts_are_recovered_after_a_restart(logs: Logs) -> None:
    assert logs.store.recover().starts == Starts()
    await logs.store.write_starts(Starts(Start(1, 1)))
    await logs.store.write_starts(STARTS)
    assert (await logs.reopen()).recover().starts == STARTS


async def test_starts_survive_appends_compactions_and_resets(logs: Logs) -> None:
    await logs.store.write_starts(STARTS)
    await logs.store.append(HardState(1, 1, 0), entries(1, 5))
    await logs.store.append(None, entries(1, 2, term=2))
    await logs.store.compact(1, 2, HASH)
    assert logs.store.recover().starts == STARTS
    await logs.store.reset(20, 2, HASH)
    recovered = (await logs.reopen()).recover()
    assert recovered.starts == STARTS
    assert parts(recovered) == (20, 2, [])
    assert recovered.hard_state == HardState(1, 1, 0)


async def test_each_part_of_a_large_append_is_synced_before_the_next_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RocksDB may put two parts into two write-ahead logs. A power cut could tear the first one and
    leave the second: entries of the new leader would follow old ones, under its commit index.
    """
    calls: list[str] = []

    def counted(name: str) -> Callable[..., None]:
        call = getattr(RocksDatabase, name)

        def count(*arguments: object) -> None:
            calls.append(name)
            call(*arguments)

        return count

    for name in ("write", "sync"):
        monkeypatch.setattr(RocksDatabase, name, counted(name))
    log = RocksLogStore(tmp_path / "log")
    log.recover()
    payload = bytes(BATCH_BYTES_MAX // 2 + 1)
    appended = [Entry(1, index, EntryKind.COMMANDS, payload) for index in range(1, 6)]
    await log.append(HardState(1, 0, 5), appended)
    await log.close()
    assert calls == ["write", "sync"] * 3
