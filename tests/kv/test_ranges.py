"""Range: intervals, old revisions, limit, count, sort and filters (etcd facts 5)."""

from __future__ import annotations

import pytest

from raftkv.kv.limits import Limits
from raftkv.kv.pace import STEP_UNITS
from raftkv.rpc.v1 import kv_pb2 as pb

from .harness import EVERYTHING, Driver, batch, delete, put


def keys(result: pb.Result) -> list[bytes]:
    assert not result.HasField("failure"), result.failure
    return [kv.key for kv in result.range.kvs]


@pytest.fixture
def abc(db: Driver) -> Driver:
    """a=3 b=1 c=2 created at revisions 2, 3, 4; then b is put again at 5."""
    for key, value in ((b"a", b"3"), (b"b", b"0"), (b"c", b"2"), (b"b", b"1")):
        db.do(put(key, value))
    return db


def test_a_single_key_is_found_and_a_missing_one_is_no_error(abc: Driver) -> None:
    assert keys(abc.range(b"a")) == [b"a"]
    missing = abc.range(b"x")
    assert (keys(missing), missing.range.count, missing.revision) == ([], 0, 5)
    assert missing.HasField("range")


@pytest.mark.parametrize("key", [b"a", b"b", b"x", b""])
def test_get_answers_as_a_range_of_one_key(abc: Driver, key: bytes) -> None:
    found = pb.Result()
    abc.machine.get(key, found)
    assert found == abc.range(key)


def test_an_interval_excludes_its_end(abc: Driver) -> None:
    assert keys(abc.range(b"a", b"c")) == [b"a", b"b"]
    assert keys(abc.range(b"b", EVERYTHING)) == [b"b", b"c"]
    assert keys(abc.range(EVERYTHING, EVERYTHING)) == [b"a", b"b", b"c"]


def test_an_interval_that_ends_before_it_begins_is_empty(abc: Driver) -> None:
    for revision in (0, 3):
        assert keys(abc.range(b"c", b"a", revision=revision)) == []
        assert keys(abc.range(b"b", b"b", revision=revision)) == []


def test_a_limit_cuts_and_reports_more_and_count_ignores_it(abc: Driver) -> None:
    cut = abc.range(b"a", EVERYTHING, limit=2)
    assert (keys(cut), cut.range.more, cut.range.count) == ([b"a", b"b"], True, 3)
    whole = abc.range(b"a", EVERYTHING, limit=3)
    assert (keys(whole), whole.range.more) == ([b"a", b"b", b"c"], False)


def test_count_only_returns_no_keys_and_no_more(abc: Driver) -> None:
    counted = abc.range(b"a", EVERYTHING, count_only=True, limit=1)
    assert (keys(counted), counted.range.count, counted.range.more) == ([], 3, False)
    assert abc.range(b"a", EVERYTHING, count_only=True, revision=3).range.count == 2


def test_keys_only_leaves_out_nothing_but_the_value(abc: Driver) -> None:
    (found,) = abc.range(b"b", keys_only=True).range.kvs
    assert (found.value, found.create_revision, found.mod_revision, found.version) == (b"", 3, 5, 2)


@pytest.mark.parametrize(
    ("target", "ascending"),
    [
        (pb.SORT_TARGET_KEY, [b"a", b"b", b"c"]),
        (pb.SORT_TARGET_VALUE, [b"b", b"c", b"a"]),
        (pb.SORT_TARGET_CREATE, [b"a", b"b", b"c"]),
        (pb.SORT_TARGET_MOD, [b"a", b"c", b"b"]),
    ],
)
def test_sorting_is_by_the_target_and_none_means_ascending(
    abc: Driver, target: int, ascending: list[bytes]
) -> None:
    def sort(order: int, limit: int = 0) -> list[bytes]:
        return keys(abc.range(b"a", EVERYTHING, sort_target=target, sort_order=order, limit=limit))

    assert sort(pb.SORT_ORDER_NONE) == ascending
    assert sort(pb.SORT_ORDER_ASCEND) == ascending
    assert sort(pb.SORT_ORDER_DESCEND) == ascending[::-1]
    assert sort(pb.SORT_ORDER_DESCEND, limit=1) == ascending[::-1][:1]


def test_sorting_by_version_puts_the_least_changed_first(abc: Driver) -> None:
    found = abc.range(b"a", EVERYTHING, sort_target=pb.SORT_TARGET_VERSION)
    assert keys(found)[-1] == b"b"


def test_a_sorted_limit_picks_from_all_keys_however_many(db: Driver) -> None:
    total = 3 * STEP_UNITS
    db.send(batch(*(put(b"%05d" % each, b"%05d" % (total - each)) for each in range(total))))
    found = db.range(b"0", EVERYTHING, sort_target=pb.SORT_TARGET_VALUE, limit=2)
    assert [kv.value for kv in found.range.kvs] == [b"00001", b"00002"]
    assert (found.range.more, found.range.count) == (True, total)


def test_filters_are_inclusive_and_do_not_change_the_count(abc: Driver) -> None:
    found = abc.range(b"a", EVERYTHING, min_mod_revision=4, max_mod_revision=4)
    assert (keys(found), found.range.count, found.range.more) == ([b"c"], 3, False)
    assert keys(abc.range(b"a", EVERYTHING, min_create_revision=3)) == [b"b", b"c"]
    assert keys(abc.range(b"a", EVERYTHING, max_create_revision=3)) == [b"a", b"b"]
    assert keys(abc.range(b"a", EVERYTHING, min_mod_revision=4, limit=1)) == [b"b"]


def test_an_old_revision_shows_the_keys_of_that_time(abc: Driver) -> None:
    abc.do(delete(b"a"))
    assert [abc.value(b"b", revision) for revision in (2, 3, 4, 5, 6)] == [
        None,
        b"0",
        b"0",
        b"1",
        b"1",
    ]
    assert (abc.value(b"a", 5), abc.value(b"a", 6), abc.value(b"a")) == (b"3", None, None)
    old = abc.range(b"a", EVERYTHING, revision=3)
    assert [(kv.key, kv.value) for kv in old.range.kvs] == [(b"a", b"3"), (b"b", b"0")]
    assert old.revision == 6, "the header names the present revision"


def test_an_old_revision_keeps_generations_apart(db: Driver) -> None:
    db.do(put(b"k", b"1"))
    db.do(delete(b"k"))
    db.do(put(b"k", b"2"))
    assert [db.value(b"k", revision) for revision in (2, 3, 4)] == [b"1", None, b"2"]
    assert [db.range(b"a", b"z", revision=revision).range.count for revision in (2, 3, 4)] == [
        1,
        0,
        1,
    ]


def test_old_versions_of_keys_that_contain_zero_bytes_do_not_mix(db: Driver) -> None:
    names = [b"a", b"a\x00", b"a\x00\x01", b"a\x00\xff", b"a\x01", b"\x00", b"\x00\xff"]
    for name in names:
        db.do(put(name, b"old " + name))
    revision = db.machine.revision
    db.do(delete(EVERYTHING, EVERYTHING))
    found = db.range(EVERYTHING, EVERYTHING, revision=revision).range.kvs
    assert [(kv.key, kv.value) for kv in found] == [
        (name, b"old " + name) for name in sorted(names)
    ]
    assert [db.value(name, revision) for name in names] == [b"old " + name for name in names]


def test_a_future_revision_fails_with_the_current_one(abc: Driver) -> None:
    failure = abc.range(b"a", revision=6).failure
    assert (failure.reason, failure.facts["revision"]) == ("REVISION_IN_FUTURE", "5")


def test_a_reply_over_the_limit_fails_with_the_fix() -> None:
    db = Driver(Limits(reply_bytes_max=10_000))
    for each in range(20):
        db.do(put(b"%02d" % each, bytes(1_000)))
    failure = db.range(b"0", EVERYTHING).failure
    assert failure.reason == "TOO_LARGE"
    assert "limit" in failure.message
    for sort_target in (pb.SORT_TARGET_KEY, pb.SORT_TARGET_VALUE):
        page = db.range(b"0", EVERYTHING, limit=9, sort_target=sort_target)
        assert len(keys(page)) == 9
        assert db.range(b"0", EVERYTHING, limit=15, sort_target=sort_target).HasField("failure")
    assert len(keys(db.range(b"0", EVERYTHING, keys_only=True))) == 20


def test_a_long_read_pauses_and_still_shows_the_store_as_it_was_at_its_start(db: Driver) -> None:
    total = 2 * STEP_UNITS + 1
    db.send(batch(*(put(b"%05d" % each, b"old") for each in range(total))))
    revision = db.machine.revision
    for pinned in (0, revision):
        steps = db.machine.read(pb.Range(key=b"0", range_end=EVERYTHING, revision=pinned))
        pauses = 0
        while True:
            try:
                next(steps)
            except StopIteration as done:
                result = done.value
                break
            pauses += 1
            db.do(put(b"%05d" % (total - pauses), b"new"))
            db.do(delete(b"%05d" % (total - 10 - pauses)))
        assert pauses >= 2
        assert result.range.count == total
        assert {kv.value for kv in result.range.kvs} == {b"old"}
        db.send(batch(*(put(b"%05d" % each, b"old") for each in range(total))))
