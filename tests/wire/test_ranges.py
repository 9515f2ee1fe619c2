"""The ends of ranges of keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftkv.wire.ranges import NO_END, exclusive_end, prefix_end

BYTES = st.lists(st.sampled_from([0, 1, 2, 0xFE, 0xFF]), max_size=5).map(bytes)


@given(BYTES, BYTES)
def test_the_end_of_a_prefix_is_past_all_that_begin_with_it(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)
    inside = prefix <= key and (end is None or key < end)
    assert inside is key.startswith(prefix)


def test_a_range_without_end_on_the_wire_has_none() -> None:
    assert exclusive_end(b"b", NO_END) is None
    assert exclusive_end(b"b", b"c") == b"c"


def test_a_range_never_ends_before_its_start() -> None:
    assert exclusive_end(b"b", b"a") == b"b"
