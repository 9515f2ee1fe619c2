"""The interval index finds exactly the filters that contain a key, without scanning the others."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from raftkv.server.watch import interval_index
from raftkv.server.watch.filter import WatchFilter
from raftkv.server.watch.interval_index import IntervalIndex

KEYS = st.text("abc", min_size=1, max_size=3).map(str.encode)


def filter_of(key: bytes, end: bytes | None) -> WatchFilter:
    return WatchFilter(key, end, prev_kv=False, puts=True, deletes=True)


def holds(each: WatchFilter, key: bytes) -> bool:
    return each.key <= key and (each.end is None or key < each.end)


RANGES = st.tuples(KEYS, KEYS | st.none()).filter(lambda r: r[1] is None or r[0] < r[1])
SINGLES = KEYS.map(lambda key: (key, key + b"\x00"))


@given(
    st.lists(st.tuples(RANGES | SINGLES, st.integers(0, 3)), max_size=150),
    st.lists(KEYS, min_size=5, max_size=20),
)
def test_a_key_finds_the_filters_that_contain_it_and_no_other(
    steps: list[tuple[tuple[bytes, bytes | None], int]], keys: list[bytes]
) -> None:
    index: IntervalIndex[int] = IntervalIndex()
    present: dict[int, WatchFilter] = {}
    with patch.object(interval_index, "LOOSE_RANGES_MAX", 2):  # so that there is a tree
        for number, (bounds, removals) in enumerate(steps):
            present[number] = filter_of(*bounds)
            index.add(present[number], number)
            if removals == 0:
                gone = next(iter(present))
                index.remove(present.pop(gone), gone)
    for key in keys:
        expected = sorted(number for number, each in present.items() if holds(each, key))
        assert sorted(index.find(key)) == expected


class Counted(bytes):
    """A key that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__lt__(self, other)

    def __gt__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__gt__(self, other)

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        return bytes.__eq__(self, other)


def test_a_lookup_compares_few_of_a_thousand_filters() -> None:
    index: IntervalIndex[int] = IntervalIndex()
    for number in range(1_000):
        key = b"k%04d" % number
        index.add(filter_of(key, key + b"\x00"), number)
        index.add(filter_of(key, key + b"\xff"), 1_000 + number)
    Counted.comparisons = 0
    assert list(index.find(Counted(b"k0500"))) == [500, 1_500]
    assert Counted.comparisons < 100
