"""An overlay reads like the store after the write; encodings keep the order and are reversible."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from raftkv.kv.limits import ROW_BYTES
from raftkv.kv.meta import Meta
from raftkv.kv.overlay import Overlay
from raftkv.kv.records import escape, history_end, history_key, split_history_key
from raftkv.kv.store import Family
from raftkv.storage.memory_state import MemoryStateStore

BYTES = st.lists(st.sampled_from([0, 1, 2, 0xFE, 0xFF]), max_size=5).map(bytes)
CHANGES = st.dictionaries(BYTES, st.none() | st.binary(max_size=2), max_size=8)


@given(
    base=st.dictionaries(BYTES, st.binary(max_size=2), max_size=8),
    layers=st.lists(CHANGES, max_size=3),
    start=BYTES,
    end=st.none() | BYTES,
    reverse=st.booleans(),
)
def test_an_overlay_reads_as_the_store_after_the_write(
    base: dict[bytes, bytes],
    layers: list[dict[bytes, bytes | None]],
    start: bytes,
    end: bytes | None,
    reverse: bool,
) -> None:
    store, written = MemoryStateStore(), MemoryStateStore()
    for each in (store, written):
        each.write({Family.CURRENT: base})
    overlay = Overlay(Overlay(store))
    for layer in layers:
        above = Overlay(overlay)
        above.changes[Family.CURRENT].update(layer)
        overlay.absorb(above)
        written.write({Family.CURRENT: layer})
        # Scanned between the layers: the index must see what comes after it was built.
        found = list(overlay.scan(Family.CURRENT, start, end, reverse=reverse))
        assert found == list(written.scan(Family.CURRENT, start, end, reverse=reverse))
    for key in {*base, *(key for layer in layers for key in layer)}:
        assert overlay.get(Family.CURRENT, key) == written.get(Family.CURRENT, key)


def test_a_scan_shows_no_later_changes_of_the_base() -> None:
    store = MemoryStateStore()
    overlay = Overlay(store)
    store.write({Family.CURRENT: {b"a": b"1", b"c": b"1"}})
    overlay.changes[Family.CURRENT].update({b"b": b"1"})
    scan = overlay.scan(Family.CURRENT, b"", None)
    store.write({Family.CURRENT: {b"a": None, b"c": b"2"}})
    assert list(scan) == [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")]


def test_rows_are_taken_up_to_a_size_and_stay_deleted_where_they_were() -> None:
    overlay = Overlay(MemoryStateStore())
    changes = overlay.changes[Family.HISTORY]
    changes.update({b"%d" % number: b"x" * 100 for number in range(9)})
    changes[b"0"] = None
    taken, size_bytes = overlay.take(Family.HISTORY, 2 * (100 + ROW_BYTES) + 1)
    assert (list(taken), size_bytes) == ([b"1", b"2", b"3"], 3 * (100 + ROW_BYTES))
    assert list(changes) == [b"0", b"4", b"5", b"6", b"7", b"8"]
    assert changes[b"0"] is None


def test_rows_that_are_deleted_as_a_range_are_written_without_deletions_of_their_own() -> None:
    overlay = Overlay(MemoryStateStore())
    overlay.changes[Family.CURRENT].update({b"a": None, b"b": None, b"c": None, b"z": None})
    overlay.removes(Family.CURRENT, [b"a", b"b", b"c"])
    overlay.changes[Family.CURRENT][b"b"] = b"again"
    assert overlay.for_store()[Family.CURRENT] == {b"b": b"again", b"z": None}
    assert overlay.removed == {Family.CURRENT: [(b"a", b"c\0")]}


def test_a_range_that_a_transaction_deletes_is_written_without_deletions_of_its_own() -> None:
    overlay = Overlay(MemoryStateStore())
    transaction = Overlay(overlay)
    transaction.changes[Family.CURRENT].update({b"a": None, b"b": None, b"c": None})
    transaction.removes(Family.CURRENT, [b"a", b"b", b"c"])
    overlay.absorb(transaction)
    assert overlay.for_store()[Family.CURRENT] == {}
    assert overlay.removed == {Family.CURRENT: [(b"a", b"c\0")]}


@given(BYTES, BYTES, BYTES)
def test_escaping_keeps_the_order_of_keys_before_any_suffix(
    first: bytes, second: bytes, tail: bytes
) -> None:
    if first < second:
        assert escape(first) + tail < escape(second)
        assert history_end(first) <= escape(second)


@given(BYTES, st.integers(0, (1 << 63) - 1))
def test_a_history_key_is_decoded_and_lies_in_the_range_of_its_key(
    key: bytes, revision: int
) -> None:
    row = history_key(key, revision)
    assert split_history_key(row) == (key, revision)
    assert escape(key) < row < history_end(key)


def test_encoded_meta_is_decoded_alike() -> None:
    meta = Meta(1, 2, 3, 4, 5, 6, 2**64 - 1, 7, b"cursor")
    assert Meta.decode(meta.encode()) == meta
    assert Meta.decode(Meta().encode()) == Meta()


def test_the_meta_row_of_0_1_0_is_decoded() -> None:
    row = struct.pack("<QQqqqq", 1, 2, 3, 4, 5, 6) + b"cursor"
    meta = Meta(1, 2, 3, 4, 5, 6, compaction_cursor=b"cursor")
    assert Meta.decode_0(row) == meta
    assert (meta.applied_hash, meta.cluster_version) == (0, 0)
