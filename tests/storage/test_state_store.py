"""The contract of a state store, on disk and in memory."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftkv.kv.store import Family

from .conftest import States

CURRENT, HISTORY, META = Family.CURRENT, Family.HISTORY, Family.META
ROWS = {b"a": b"1", b"b": b"2", b"ba": b"3", b"c": b"4", b"\xff\xff": b"5", b"\0": b"6"}


async def test_a_written_value_is_read(states: States) -> None:
    store = states.storage.store
    store.write({CURRENT: {b"k": b"v", b"empty": b""}})
    assert store.get(CURRENT, b"k") == b"v"
    assert store.get(CURRENT, b"empty") == b""
    assert store.get(CURRENT, b"other") is None


async def test_many_values_are_read_as_each_would_be_in_the_order_asked_for(states: States) -> None:
    store = states.storage.store
    store.write({CURRENT: ROWS, HISTORY: {b"d": b"of another family"}})
    asked = [b"c", b"d", b"a", b"\0", b"a", b"", *ROWS]
    assert store.get_many(CURRENT, asked) == [store.get(CURRENT, key) for key in asked]
    assert store.get_many(CURRENT, []) == []


async def test_families_do_not_mix(states: States) -> None:
    store = states.storage.store
    store.write({family: {b"k": family.value.encode()} for family in Family})
    for family in Family:
        assert store.get(family, b"k") == family.value.encode()
        assert list(store.scan(family, b"", None)) == [(b"k", family.value.encode())]


async def test_a_write_replaces_and_deletes(states: States) -> None:
    store = states.storage.store
    store.write({CURRENT: {b"a": b"1", b"b": b"2"}, HISTORY: {b"a": b"3"}})
    store.write({CURRENT: {b"a": None, b"b": b"4", b"absent": None}})
    assert list(store.scan(CURRENT, b"", None)) == [(b"b", b"4")]
    assert store.get(HISTORY, b"a") == b"3"


async def test_a_scan_has_a_lower_and_an_upper_bound(states: States) -> None:
    store = states.storage.store
    store.write({CURRENT: ROWS})

    def keys(start: bytes, end: bytes | None, reverse: bool = False) -> list[bytes]:
        return [key for key, _ in store.scan(CURRENT, start, end, reverse=reverse)]

    assert keys(b"", None) == sorted(ROWS)
    assert keys(b"a", b"c") == [b"a", b"b", b"ba"]
    assert keys(b"aa", b"bz") == [b"b", b"ba"]
    assert keys(b"b", None) == [b"b", b"ba", b"c", b"\xff\xff"]
    assert keys(b"c", b"a") == []
    assert keys(b"a", b"a") == []
    assert keys(b"a", b"c", reverse=True) == [b"ba", b"b", b"a"]
    assert keys(b"", None, reverse=True) == sorted(ROWS, reverse=True)
    assert keys(b"ab", b"bb", reverse=True) == [b"ba", b"b"]
    assert keys(b"c", b"a", reverse=True) == []


async def test_a_scan_keeps_a_reference_to_its_end(states: States) -> None:
    store = states.storage.store
    store.write({CURRENT: {b"key/%d" % number: b"" for number in range(20)}})
    for reverse in (False, True):
        for _ in range(100):
            rows = store.scan(CURRENT, b"key/", bytes(bytearray(b"key0")), reverse=reverse)
            # If the end's memory were reused, its content would be smaller than every key.
            overwritten = [bytes([number]) * 4 for number in range(50)]
            assert len(list(rows)) == 20, overwritten


async def test_a_scan_sees_the_store_as_it_was_at_the_call(states: States) -> None:
    store = states.storage.store
    store.write({CURRENT: {b"a": b"1", b"b": b"1", b"c": b"1"}})
    forward, backward = (
        store.scan(CURRENT, b"", None),
        store.scan(CURRENT, b"", None, reverse=True),
    )
    store.write({CURRENT: {b"a": b"2", b"aa": b"2", b"b": None}})
    expected = [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")]
    assert list(forward) == expected
    assert list(backward) == expected[::-1]


async def test_a_scan_is_not_affected_by_writes_between_its_rows(states: States) -> None:
    store = states.storage.store
    store.write({CURRENT: {b"%03d" % number: b"old" for number in range(100)}})
    scan = store.scan(CURRENT, b"", None)
    seen = [next(scan)]
    store.write({CURRENT: {b"%03d" % number: None for number in range(100)}})
    seen += scan
    assert len(seen) == 100
    assert list(store.scan(CURRENT, b"", None)) == []


async def test_a_clean_restart_keeps_everything(states: States) -> None:
    states.storage.store.write({CURRENT: ROWS, META: {b"applied": b"7"}})
    store = (await states.reopen()).store
    assert dict(store.scan(CURRENT, b"", None)) == ROWS
    assert store.get(META, b"applied") == b"7"


keys = st.binary(max_size=3)
writes = st.dictionaries(
    st.sampled_from([CURRENT, META]), st.dictionaries(keys, st.none() | st.binary(max_size=4))
)


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    batches=st.lists(writes, max_size=6), start=keys, end=st.none() | keys, reverse=st.booleans()
)
async def test_a_store_is_an_ordered_dictionary_per_family(
    states: States,
    batches: list[dict[Family, dict[bytes, bytes | None]]],
    start: bytes,
    end: bytes | None,
    reverse: bool,
) -> None:
    store = states.storage.store
    model: dict[bytes, bytes] = {}
    store.write({CURRENT: {key: None for key, _ in store.scan(CURRENT, b"", None)}})
    for changes in batches:
        store.write(changes)
        for key, value in changes.get(CURRENT, {}).items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
    expected = sorted(
        (row for row in model.items() if start <= row[0] and (end is None or row[0] < end)),
        reverse=reverse,
    )
    assert list(store.scan(CURRENT, start, end, reverse=reverse)) == expected
    assert all(store.get(CURRENT, key) == value for key, value in model.items())


async def test_a_write_removes_whole_ranges_before_it_applies_its_changes(states: States) -> None:
    store = states.storage.store
    store.write({CURRENT: ROWS, HISTORY: ROWS})
    store.write({CURRENT: {b"ba": b"new"}}, {CURRENT: [(b"a", b"c"), (b"x", b"y")]})
    left = {key: value for key, value in ROWS.items() if key not in (b"a", b"b", b"ba")}
    assert dict(store.scan(CURRENT, b"", None)) == left | {b"ba": b"new"}
    assert dict(store.scan(HISTORY, b"", None)) == ROWS
    assert store.get(CURRENT, b"b") is None
    assert store.get_many(CURRENT, [b"a", b"ba"]) == [None, b"new"]


async def test_a_frozen_state_does_not_change_wherever_it_is_read(states: States) -> None:
    store = states.storage.store
    store.write({CURRENT: ROWS, HISTORY: {b"h": b"1"}})
    frozen = store.frozen()
    store.write({CURRENT: {b"a": b"later", b"new": b"1"}, HISTORY: {b"h": None}})
    store.write({}, {CURRENT: [(b"b", b"c")]})
    assert (frozen.get(CURRENT, b"a"), frozen.get(CURRENT, b"new")) == (b"1", None)
    assert dict(frozen.scan(CURRENT, b"", None)) == ROWS
    assert dict(frozen.scan(CURRENT, b"b", b"c")) == {b"b": b"2", b"ba": b"3"}
    assert frozen.get(HISTORY, b"h") == b"1"
