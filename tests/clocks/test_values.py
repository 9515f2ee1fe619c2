"""The laws of each kind of time, on random values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raftkv.clocks import (
    ClockDrift,
    ClocksIncomparable,
    HybridTime,
    LamportTime,
    Order,
    VectorTime,
)
from raftkv.clocks.hybrid import LOGICAL_MAX, PHYSICAL_MS_MAX
from raftkv.errors import InvalidRequest

members = st.sampled_from(["a", "b", "c", "d", "é"])
lamports = st.builds(LamportTime, st.integers(0, 2**63 - 1))
hybrids = st.builds(HybridTime, st.integers(0, PHYSICAL_MS_MAX - 9), st.integers(0, LOGICAL_MAX))
# Small numbers, so that ties and orders come up, and now and then a large one.
counts = st.dictionaries(members, st.integers(0, 3) | st.integers(0, 2**63 - 1))
whole = st.builds(VectorTime, counts)


@st.composite
def shrunk(draw: st.DrawFn) -> VectorTime:
    time = draw(whole)
    for member in draw(st.sets(members)):
        time = time.without_member(member)
    return time


vectors = whole | shrunk()
triples = st.one_of(*(st.tuples(kind, kind, kind) for kind in (lamports, hybrids, vectors)))


@given(triples)
def test_merge_is_commutative_associative_and_idempotent(times: tuple[Any, Any, Any]) -> None:
    a, b, c = times
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(a) == a


@given(st.one_of(lamports, hybrids, vectors))
def test_a_time_survives_its_bytes(time: Any) -> None:
    assert type(time).decode(time.encode()) == time


@given(
    st.sampled_from([LamportTime, HybridTime, VectorTime]),
    st.binary(max_size=40) | st.binary(min_size=8, max_size=8),
)
def test_any_bytes_are_exactly_one_time_or_a_typed_error(kind: Any, data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert kind.decode(data).encode() == data


@given(vectors, st.integers(0, 60))
def test_truncated_bytes_of_a_vector_are_no_other_vector(time: VectorTime, kept: int) -> None:
    data = time.encode()
    assume(kept < len(data))
    with contextlib.suppress(InvalidRequest):
        # Bytes without the last retired names are undetectable: they encode a valid vector.
        assert VectorTime.decode(data[:kept]).counts == time.counts


@given(st.one_of(st.tuples(lamports, lamports), st.tuples(hybrids, hybrids)))
def test_bytes_sort_as_times_do(pair: tuple[Any, Any]) -> None:
    one, other = pair
    assert (one < other) == (one.encode() < other.encode())


@given(hybrids, hybrids)
def test_texts_of_hybrid_times_sort_as_they_do_and_can_be_read_back(
    one: HybridTime, other: HybridTime
) -> None:
    assert (one < other) == (str(one) < str(other))
    assert HybridTime.parse(str(one)) == one


@pytest.mark.parametrize(
    "text", ["", "1.2", "000000000000001.00002\n", "\u066100000000000001.00002"]
)
def test_a_text_that_is_no_hybrid_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="15 digits"):
        HybridTime.parse(text)


@given(lamports, lamports)
def test_a_lamport_receipt_is_later_than_both(here: LamportTime, sent: LamportTime) -> None:
    assert here < here.tick()
    assert here.receive(sent) > max(here, sent)
    assert here.observe(sent).tick() > max(here, sent)


@given(hybrids, hybrids, st.integers(0, PHYSICAL_MS_MAX - 9))
def test_a_hybrid_receipt_is_later_than_both_and_as_near_to_the_wall_as_it_can_be(
    here: HybridTime, sent: HybridTime, wall_ms: int
) -> None:
    received = here.receive(sent, wall_ms, drift_ms_max=PHYSICAL_MS_MAX)
    assert received > max(here, sent)
    nearest = max(here.physical_ms, sent.physical_ms, wall_ms)
    assert received.physical_ms in (nearest, nearest + (max(here, sent).logical == LOGICAL_MAX))
    if wall_ms > max(here, sent).physical_ms:
        assert received == HybridTime(wall_ms)


@given(hybrids, st.integers(0, PHYSICAL_MS_MAX))
def test_a_hybrid_tick_is_later_whatever_the_wall_clock_shows(
    here: HybridTime, wall_ms: int
) -> None:
    assert here.tick(wall_ms) > here
    assert here.tick(wall_ms).physical_ms >= wall_ms


def test_a_full_counter_borrows_the_next_millisecond() -> None:
    assert HybridTime(7, LOGICAL_MAX).tick(7) == HybridTime(8, 0)


def test_a_hybrid_time_too_far_ahead_is_refused() -> None:
    here = HybridTime(1000, 3)
    assert here.receive(HybridTime(1500), 1000, 500) == HybridTime(1500, 1)
    with pytest.raises(ClockDrift, match="501 ms ahead") as raised:
        here.receive(HybridTime(1501), 1000, 500)
    assert raised.value.facts["ahead_ms"] == "501"


@given(vectors, vectors, vectors)
def test_happened_before_is_a_strict_partial_order(
    a: VectorTime, b: VectorTime, c: VectorTime
) -> None:
    everybody = a.merge(b).merge(c).retired
    a, b, c = (
        VectorTime({n: t.count(n) for n in t.counts if n not in everybody}, everybody)
        for t in (a, b, c)
    )
    assert not a.happened_before(a)
    assert not (a.happened_before(b) and b.happened_before(a))
    if a.happened_before(b) and b.happened_before(c):
        assert a.happened_before(c)
    relations = [a.happened_before(b), b.happened_before(a), a == b, a.concurrent(b)]
    assert relations.count(True) == 1


@given(vectors, vectors, vectors)
def test_a_merge_is_the_least_time_that_is_not_before_either(
    a: VectorTime, b: VectorTime, other: VectorTime
) -> None:
    assume(a.retired == b.retired == other.retired)
    not_after = (Order.BEFORE, Order.EQUAL)
    assert a.compare(a.merge(b)) in not_after
    assert b.compare(a.merge(b)) in not_after
    if a.compare(other) in not_after and b.compare(other) in not_after:
        assert a.merge(b).compare(other) in not_after


@given(whole, st.sampled_from(["new", "a"]))
def test_a_member_that_joins_changes_no_comparison(time: VectorTime, member: str) -> None:
    grown = time.with_member(member)
    assert grown == time
    assert hash(grown) == hash(time)
    assert grown.compare(time) is Order.EQUAL
    assert member in grown.counts


def test_times_of_different_memberships_are_not_compared() -> None:
    old, new = VectorTime({"a": 1, "b": 5}), VectorTime({"a": 2, "b": 3}).without_member("b")
    with pytest.raises(ClocksIncomparable, match="retired b"):
        old.happened_before(new)
    assert old != new
    assert old.without_member("b").happened_before(new)
    assert old.merge(new) == VectorTime({"a": 2}).without_member("b")


def test_a_retired_member_never_comes_back() -> None:
    time = VectorTime({"a": 1, "b": 5}).without_member("b")
    for revive in (time.with_member, time.tick, lambda member: VectorTime().receive(time, member)):
        with pytest.raises(InvalidRequest, match="retired"):
            revive("b")


@pytest.mark.parametrize(
    "make",
    [
        lambda: LamportTime(-1),
        lambda: LamportTime(2**64),
        lambda: HybridTime(0, LOGICAL_MAX + 1),
        lambda: HybridTime(PHYSICAL_MS_MAX + 1),
        lambda: VectorTime({"a": -1}),
        lambda: VectorTime({"": 1}),
        lambda: VectorTime({"x" * 65: 1}),
        lambda: VectorTime({"a": 1}, frozenset("a")),
        lambda: LamportTime().receive(LamportTime(2**63)),
        lambda: VectorTime().receive(VectorTime({"a": 2**63}), "a"),
    ],
)
def test_bytes_that_are_no_time_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequest):
        make()


def test_a_vector_can_not_be_changed_from_outside() -> None:
    mine = {"a": 1}
    time = VectorTime(mine)
    mine["a"] = 9
    assert time.count("a") == 1
    with pytest.raises(TypeError):
        time.counts["a"] = 9  # type: ignore[index]
