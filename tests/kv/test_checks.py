"""Requests that are refused before the log: limits, malformed requests, duplicate keys (etcd facts
5-8)."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import InvalidRequest, TooLarge
from raftkv.kv.limits import (
    IDEMPOTENCY_TTL_MS_MAX,
    LEASE_TTL_MS_MAX,
    TRANSACTION_DEPTH_MAX,
    Limits,
)
from raftkv.kv.pace import run
from raftkv.kv.validation import (
    HEAVY_COMMAND_WEIGHT,
    WHOLE_BATCH,
    check_batch,
    check_command,
    check_duplicates,
    check_forwarded,
    check_range,
)
from raftkv.rpc.v1 import auth_pb2
from raftkv.rpc.v1 import kv_pb2 as pb

from .harness import EVERYTHING, batch, delete, grant, put, transaction

LIMITS = Limits()


def swap(**fields: object) -> pb.Command:
    return pb.Command(compare_and_swap=pb.CompareAndSwap(**fields))


def txn(*args: object, **kwargs: object) -> pb.Command:
    return pb.Command(transaction=transaction(*args, **kwargs))


ACCEPTED = [
    put(b"k"),
    put(b"k" * LIMITS.key_bytes_max, bytes(LIMITS.value_bytes_max)),
    put(b"k", ignore_value=True, lease=1),
    put(b"k", b"v", ignore_lease=True),
    delete(b"k", EVERYTHING),
    txn(),
    swap(key=b"k", absent=True),
    grant(LEASE_TTL_MS_MAX),
    grant(0),
    pb.Command(compact=pb.Compact(revision=-1)),
    pb.Command(put=pb.Put(key=b"k"), idempotency_key=b"i" * LIMITS.idempotency_key_bytes_max),
]

REFUSED: list[tuple[pb.Command, type[InvalidRequest], str]] = [
    (pb.Command(), InvalidRequest, "command is not set"),
    (put(b""), InvalidRequest, "put.key is empty"),
    (put(b"k" * (LIMITS.key_bytes_max + 1)), TooLarge, "put.key has 8193 bytes, the limit is 8192"),
    (put(b"k", bytes(LIMITS.value_bytes_max + 1)), TooLarge, "put.value"),
    (put(b"k", b"v", ignore_value=True), InvalidRequest, "put.value is given with ignore_value"),
    (put(b"k", lease=1, ignore_lease=True), InvalidRequest, "put.lease is given with ignore_lease"),
    (delete(b""), InvalidRequest, "delete_range.key is empty"),
    (swap(key=b"k"), InvalidRequest, "expected is not set"),
    (swap(absent=True), InvalidRequest, "compare_and_swap.key is empty"),
    (swap(key=b"k", absent=True, new_value=bytes(2 << 20)), TooLarge, "split"),
    (grant(LEASE_TTL_MS_MAX + 1), InvalidRequest, "renew"),
    (pb.Command(acquire=pb.Acquire(name=b"", lease=1)), InvalidRequest, "acquire.name is empty"),
    (pb.Command(put=pb.Put(key=b"k"), fences=[pb.Fence(token=1)]), InvalidRequest, "fence.name is"),
    (txn(success=[put(b"")]), InvalidRequest, "put.key is empty"),
    (txn(failure=[put(b"")]), InvalidRequest, "put.key is empty"),
    (txn(success=[pb.Range()]), InvalidRequest, "range.key is empty"),
    (txn([pb.Compare(version=1)]), InvalidRequest, "compare.key is empty"),
    (txn([pb.Compare(key=b"k")]), InvalidRequest, "compare needs a target"),
    (txn([pb.Compare(key=b"k", version=1, result=7)]), InvalidRequest, "known result"),
    (
        pb.Command(put=pb.Put(key=b"k"), idempotency_key=b"i" * 257),
        TooLarge,
        "idempotency_key has 257 bytes",
    ),
    (
        pb.Command(
            put=pb.Put(key=b"k"),
            idempotency_key=b"i",
            idempotency_ttl_ms=IDEMPOTENCY_TTL_MS_MAX + 1,
        ),
        InvalidRequest,
        "idempotency_ttl_ms",
    ),
    (
        txn(success=[put(bytes((each,)), bytes(LIMITS.value_bytes_max)) for each in b"ab"]),
        TooLarge,
        "the command has",
    ),
]


@pytest.mark.parametrize("command", ACCEPTED)
def test_a_command_that_can_succeed_is_accepted(command: pb.Command) -> None:
    assert check_batch(batch(command), LIMITS).refused == []


@pytest.mark.parametrize(("command", "error", "says"), REFUSED)
def test_a_command_that_can_never_succeed_is_refused_with_its_position_field_and_limit(
    command: pb.Command, error: type[InvalidRequest], says: str
) -> None:
    ((position, refused),) = check_batch(batch(put(b"fine"), command, put(b"too")), LIMITS).refused
    assert position == 1
    assert type(refused) is error
    assert says in refused.message


def test_every_bad_command_of_a_batch_is_reported() -> None:
    refused = check_batch(batch(put(b""), put(b"k"), delete(b"")), LIMITS).refused
    assert [position for position, _ in refused] == [0, 2]


def test_limits_hold_in_a_batch_that_is_smaller_than_they_are() -> None:
    tight = replace(LIMITS, value_bytes_max=10, request_bytes_max=100)
    assert check_batch(batch(put(b"k", bytes(10))), tight).refused == []
    assert check_batch(batch(put(b"k", bytes(11))), tight).refused != []
    assert check_batch(batch(*[put(b"k", bytes(10))] * 50), tight).refused == []


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (batch(*[put(b"k")] * (LIMITS.batch_commands_max + 1)), "commands, the limit is"),
        (batch(*[put(b"k", bytes(1 << 20))] * 4), "bytes, the limit is"),
        (batch(put(b"k"), session=1), "number the batches of a session from 1"),
        (batch(put(b"k"), session=1, sequence=3, acknowledged=3), "is not above acknowledged"),
    ],
)
def test_a_bad_batch_is_refused_as_a_whole(bad: pb.CommandBatch, says: str) -> None:
    ((position, refused),) = check_batch(bad, LIMITS).refused
    assert position == WHOLE_BATCH
    assert says in refused.message


@pytest.mark.parametrize(
    "request_",
    [pb.Range(), pb.Range(key=b"k", sort_order=3), pb.Range(key=b"k", sort_target=5)],
)
def test_a_malformed_range_is_refused(request_: pb.Range) -> None:
    with pytest.raises(InvalidRequest):
        check_range(request_, LIMITS)


# ---- number of operations -------------------------------------------------------


def puts(count: int, prefix: bytes = b"") -> list[pb.Command]:
    return [put(b"%s%d" % (prefix, each)) for each in range(count)]


def compares(count: int) -> list[pb.Compare]:
    return [pb.Compare(key=b"k", version=0)] * count


@pytest.mark.parametrize("lists", list(itertools.product((0, 128), repeat=3)))
def test_each_list_may_have_128_members(lists: tuple[int, int, int]) -> None:
    compare, success, failure = lists
    check_command(txn(compares(compare), puts(success), puts(failure)), LIMITS)


@pytest.mark.parametrize("lists", [(129, 0, 0), (0, 129, 0), (0, 0, 129)])
def test_no_list_may_have_129_members(lists: tuple[int, int, int]) -> None:
    compare, success, failure = lists
    with pytest.raises(InvalidRequest, match="limit is 128"):
        check_command(txn(compares(compare), puts(success), puts(failure)), LIMITS)


def test_a_nested_transaction_has_what_its_parents_longest_list_leaves() -> None:
    def nested(inner: int) -> pb.Command:
        return txn(compares(28), [transaction(success=puts(inner))], puts(7))

    check_command(nested(100), LIMITS)
    with pytest.raises(InvalidRequest, match="limit is 100"):
        check_command(nested(101), LIMITS)


def test_a_full_list_leaves_nothing_for_a_nested_transaction() -> None:
    with pytest.raises(InvalidRequest, match="limit is 0"):
        check_command(txn(success=[*puts(127), transaction(success=[put(b"x")])]), LIMITS)
    check_command(txn(success=[*puts(127), transaction()]), LIMITS)


def nested_transactions(depth: int) -> pb.Command:
    inner = transaction(success=[pb.Range(key=b"k")])
    for _ in range(depth - 1):
        inner = transaction(success=[inner])
    return pb.Command(transaction=inner)


def test_transactions_are_nested_no_deeper_than_their_results_can_be_read() -> None:
    check_command(nested_transactions(TRANSACTION_DEPTH_MAX), LIMITS)
    with pytest.raises(InvalidRequest, match="nested more than 32 deep"):
        check_command(nested_transactions(TRANSACTION_DEPTH_MAX + 1), LIMITS)


# ---- duplicate keys -------------------------------------------------------------

PUT, DELETE = put(b"k"), delete(b"k")
NESTED_PUT = transaction(success=[put(b"k")])
NESTED_DELETE = transaction(failure=[delete(b"a", b"z")])

CLASHES = {
    "a key put twice": [PUT, PUT],
    "a key put and deleted": [PUT, DELETE],
    "a key put inside a deleted range": [put(b"c"), delete(b"a", b"d")],
    "a key put inside an open deleted range": [put(b"z"), delete(b"a", EVERYTHING)],
    "a put beside a nested put": [PUT, NESTED_PUT],
    "a put beside a nested delete": [PUT, NESTED_DELETE],
    "a delete beside a nested put": [DELETE, NESTED_PUT],
    "a put in two nested transactions": [NESTED_PUT, NESTED_PUT],
    "a put and a delete in two nested transactions": [NESTED_PUT, NESTED_DELETE],
    "a put two levels down": [PUT, transaction(success=[NESTED_PUT])],
}

NO_CLASHES = {
    "different keys": [put(b"a"), put(b"b"), delete(b"c")],
    "deletes that overlap": [delete(b"a", b"m"), delete(b"b", b"z"), DELETE],
    "a key just past a deleted range": [put(b"d"), delete(b"a", b"d")],
    "a key just past a deleted key": [put(b"k\x00"), DELETE],
    "reads of anything": [PUT, pb.Range(key=b"a", range_end=EVERYTHING), pb.Range(key=b"k")],
    "the key in both branches of a nested transaction": [
        transaction(success=[put(b"k")], failure=[put(b"k")])
    ],
    "put in one and deleted in the other branch of a nested transaction": [
        transaction(success=[put(b"k")], failure=[delete(b"k")])
    ],
    "a delete of an empty interval": [put(b"k"), delete(b"k", b"k"), delete(b"z", b"a")],
}


@pytest.mark.parametrize("branch", list(CLASHES.values()), ids=list(CLASHES))
def test_a_branch_may_not_write_a_key_twice(branch: list[pb.Command]) -> None:
    for order in (branch, branch[::-1]):
        for request in (transaction(success=order), transaction(failure=order)):
            with pytest.raises(InvalidRequest, match="let each branch write a key once"):
                check_duplicates(request)


@pytest.mark.parametrize("branch", NO_CLASHES.values(), ids=NO_CLASHES)
def test_a_transaction_that_can_not_write_a_key_twice_is_allowed(branch: list[pb.Command]) -> None:
    for order in (branch, branch[::-1]):
        check_duplicates(transaction(success=order))
        check_duplicates(transaction(failure=order))


def test_the_branches_of_the_outer_transaction_exclude_each_other() -> None:
    check_duplicates(transaction(success=[PUT], failure=[PUT]))
    check_duplicates(transaction(success=[PUT], failure=[DELETE]))


@pytest.mark.parametrize(("command", "error", "says"), REFUSED)
def test_forwarded_commands_pass_the_same_checks_as_those_of_clients(
    command: pb.Command, error: type[InvalidRequest], says: str
) -> None:
    good = batch(put(b"k"))
    assert run(check_forwarded(good.SerializeToString(), LIMITS)).refused == []
    ((_, found),) = run(
        check_forwarded(batch(put(b"k"), command).SerializeToString(), LIMITS)
    ).refused
    assert isinstance(found, error)
    assert says in found.message


def test_commands_on_users_are_taken_from_nodes_only() -> None:
    change = pb.Command(auth=auth_pb2.AuthCommand(enable=auth_pb2.AuthEnable()))
    ((position, refused),) = check_batch(batch(put(b"k"), change), LIMITS).refused
    assert position == 1
    assert "service Auth" in refused.message
    forwarded = check_forwarded(batch(put(b"k"), change).SerializeToString(), LIMITS)
    assert run(forwarded).refused == []


def test_compactions_are_found_with_their_positions() -> None:
    compact = pb.Command(compact=pb.Compact(revision=7))
    assert list(check_batch(batch(put(b"k"), compact), LIMITS).compactions) == [(1, 7)]


def test_bytes_that_are_no_batch_are_refused_from_another_node() -> None:
    ((_, found),) = run(check_forwarded(b"\xff\xff\xff", LIMITS)).refused
    assert isinstance(found, InvalidRequest)
    assert "not a CommandBatch" in found.message


def test_a_batch_that_is_forwarded_is_checked_as_a_whole() -> None:
    limits = replace(LIMITS, batch_commands_max=1)
    ((_, found),) = run(
        check_forwarded(batch(put(b"a"), put(b"b")).SerializeToString(), limits)
    ).refused
    assert isinstance(found, TooLarge)


KEY = st.sampled_from([b"a", b"b", b"c", b"d"])
OPERATION = st.recursive(
    st.builds(put, KEY) | st.builds(delete, KEY, KEY | st.just(b"") | st.just(EVERYTHING)),
    lambda each: st.builds(
        lambda success, failure: transaction(success=success, failure=failure),
        st.lists(each, max_size=3),
        st.lists(each, max_size=3),
    ),
    max_leaves=6,
)


def runs(branch: list[object]) -> list[list[tuple[str, frozenset[bytes]]]]:
    """The possible writes, for each outcome of the nested compares."""
    ways: list[list[tuple[str, frozenset[bytes]]]] = [[]]
    for each in branch:
        if isinstance(each, pb.Operation):
            each = getattr(each, each.WhichOneof("operation"))
            if not isinstance(each, pb.Transaction):
                name = "put" if isinstance(each, pb.Put) else "delete_range"
                each = pb.Command(**{name: each})
        if isinstance(each, pb.Transaction):
            more = runs(list(each.success)) + runs(list(each.failure))
        elif each.HasField("put"):
            more = [[("put", frozenset({each.put.key}))]]
        else:
            start, end = each.delete_range.key, each.delete_range.range_end
            touched = {
                key
                for key in (b"a", b"b", b"c", b"d")
                if (key == start if not end else key >= start and (end == b"\x00" or key < end))
            }
            more = [[("delete", frozenset(touched))]]
        ways = [way + tail for way in ways for tail in more]
    return ways


def clashes(way: list[tuple[str, frozenset[bytes]]]) -> bool:
    return any(
        first[1] & second[1] and "put" in (first[0], second[0])
        for first, second in itertools.combinations(way, 2)
    )


@given(st.lists(OPERATION, max_size=4))
def test_a_branch_is_refused_if_and_only_if_some_run_of_it_would_clash(
    branch: list[object],
) -> None:
    try:
        check_duplicates(transaction(success=branch))
    except InvalidRequest:
        refused = True
    else:
        refused = False
    assert refused is any(clashes(way) for way in runs(branch))


@pytest.mark.parametrize(
    ("command", "weight"),
    [
        (put(b"k"), 1),
        (delete(b"k"), 1),
        (delete(b"a", b"b", limit=1), 1 + HEAVY_COMMAND_WEIGHT),
        (pb.Command(lease_revoke=pb.LeaseRevoke(lease=1)), 1 + HEAVY_COMMAND_WEIGHT),
        (pb.Command(lease_keep_alive=pb.LeaseKeepAlive(leases=[1, 2, 3])), 4),
        (pb.Command(transaction=transaction(success=[put(b"a"), put(b"b")])), 3),
        (
            pb.Command(
                transaction=transaction(failure=[transaction(failure=[delete(b"a", b"b")])])
            ),
            2 + HEAVY_COMMAND_WEIGHT,
        ),
        (
            pb.Command(transaction=transaction([pb.Compare(key=b"a", range_end=b"b", version=1)])),
            1 + HEAVY_COMMAND_WEIGHT,
        ),
    ],
)
def test_a_batch_weighs_what_its_commands_may_cost(command: pb.Command, weight: int) -> None:
    assert check_batch(batch(command), LIMITS).weight == weight
    assert check_batch(batch(put(b"a"), command), LIMITS).weight == weight + 1
