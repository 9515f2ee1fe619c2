"""The keys of a lock's queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.wire.lock_keys import entry_key, is_entry, name_of, queue_bounds

NAMES = st.binary(min_size=1, max_size=20)
TOKENS = st.integers(1, 2**63 - 1)


@given(NAMES, TOKENS)
def test_an_entry_lies_in_the_bounds_of_its_queue_and_names_it(name: bytes, token: int) -> None:
    key = entry_key(name, token)
    start, end = queue_bounds(name)
    assert start <= key < end
    assert name_of(key) == name
    assert is_entry(name, key, token)


@given(NAMES, TOKENS, TOKENS)
def test_entries_are_in_the_order_of_their_tokens(name: bytes, first: int, second: int) -> None:
    assert (entry_key(name, first) < entry_key(name, second)) is (first < second)


@pytest.mark.parametrize("key", [b"", b"n", b"n/1", b"/0000000000000001", b"n-0000000000000001"])
def test_a_key_of_another_form_belongs_to_no_queue(key: bytes) -> None:
    assert name_of(key) is None


def test_a_key_that_another_client_wrote_between_the_entries_is_no_entry() -> None:
    assert not is_entry(b"n", b"n/0000000000000001", 7)
