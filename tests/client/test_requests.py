"""The arguments of calls arrive as the messages that they stand for."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest

import raftkv
from raftkv import op, when
from raftkv.client.client import Client
from raftkv.client.model.results import transaction_result
from raftkv.errors import InvalidRequest, TooLarge
from raftkv.rpc.v1 import api_pb2, kv_pb2
from tests.client.scripted import ScriptedCluster, ScriptedLink

COMPARE = kv_pb2.Compare


def last_command(cluster: ScriptedCluster) -> kv_pb2.Command:
    return cluster.writes[-1].batch.commands[0]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (when.version("k") == 0, COMPARE(result="COMPARE_RESULT_EQUAL", key=b"k", version=0)),
        (when.value("k") != "v", COMPARE(result="COMPARE_RESULT_NOT_EQUAL", key=b"k", value=b"v")),
        (when.value(b"k") < b"v", COMPARE(result="COMPARE_RESULT_LESS", key=b"k", value=b"v")),
        (
            when.mod_revision("k") > 7,
            COMPARE(result="COMPARE_RESULT_GREATER", key=b"k", mod_revision=7),
        ),
        (
            when.create_revision("k", "m") < 7,
            COMPARE(result="COMPARE_RESULT_LESS", key=b"k", range_end=b"m", create_revision=7),
        ),
        (when.lease("k") == 5, COMPARE(result="COMPARE_RESULT_EQUAL", key=b"k", lease=5)),
        (when.absent("k"), COMPARE(result="COMPARE_RESULT_EQUAL", key=b"k", version=0)),
        (when.exists("k"), COMPARE(result="COMPARE_RESULT_GREATER", key=b"k", version=0)),
    ],
)
def test_a_condition_reads_as_it_is_sent(condition: when.Compare, message: kv_pb2.Compare) -> None:
    assert condition.wire == message
    assert condition.wire.WhichOneof("target") == message.WhichOneof("target")


async def test_a_transaction_carries_its_branches(client: Client, cluster: ScriptedCluster) -> None:
    await client.txn(
        compare=[when.version("k") == 0],
        success=[op.put("k", "v", lease=5), op.delete("old", prev_kv=True)],
        failure=[op.get("k"), op.transaction(success=[op.range("a", "b", limit=3)])],
    )
    transaction = last_command(cluster).transaction
    assert transaction.success[0].put == kv_pb2.Put(key=b"k", value=b"v", lease=5)
    assert transaction.success[1].delete_range == kv_pb2.DeleteRange(key=b"old", prev_kv=True)
    assert transaction.failure[0].range == kv_pb2.Range(key=b"k")
    assert transaction.failure[1].transaction.success[0].range.limit == 3


async def test_a_transaction_that_no_node_can_parse_is_refused_before_it_joins_a_batch(
    client: Client, cluster: ScriptedCluster
) -> None:
    deep = op.get("k")
    for _ in range(32):
        deep = op.transaction(success=[deep])
    with pytest.raises(InvalidRequest, match="nested more than 32 deep"):
        await client.txn(success=[deep])
    assert not cluster.writes


async def test_a_transaction_is_checked_before_it_is_sent(client: Client) -> None:
    with pytest.raises(TooLarge, match="128"):
        await client.txn(success=[op.put(f"k{i}", "v") for i in range(129)])
    with pytest.raises(InvalidRequest, match="key is empty"):
        await client.txn(failure=[op.transaction(success=[op.delete("")])])
    with pytest.raises(TooLarge, match="value has 1048577 bytes"):
        await client.txn(success=[op.put("k", bytes((1 << 20) + 1))])


@pytest.mark.parametrize(
    ("expected", "field", "value"),
    [(None, "absent", True), ("v", "value", b"v"), (b"v", "value", b"v"), (7, "mod_revision", 7)],
)
async def test_a_swap_expects_a_value_a_revision_or_absence(
    client: Client,
    cluster: ScriptedCluster,
    expected: str | bytes | int | None,
    field: str,
    value: object,
) -> None:
    await client.compare_and_swap("k", expected, "new")
    swap = last_command(cluster).compare_and_swap
    assert swap.WhichOneof("expected") == field
    assert getattr(swap, field) == value
    assert swap.new_value == b"new"


async def test_an_idempotency_key_is_sent_with_its_lifetime_in_milliseconds(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v", idempotency_key="order-7", idempotency_ttl=1.5)
    command = last_command(cluster)
    assert (command.idempotency_key, command.idempotency_ttl_ms) == (b"order-7", 1_500)
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        await client.put("k", "v", idempotency_ttl=1.5)


async def test_a_lease_is_granted_in_seconds(client: Client, cluster: ScriptedCluster) -> None:
    granted = await client.lease_grant(2.5)
    assert last_command(cluster).lease_grant.ttl_ms == 2_500
    assert granted.ttl_s == 2.5
    with pytest.raises(InvalidRequest, match="ttl"):
        await client.lease_grant(0)


async def test_the_store_picks_the_id_of_a_lease_unless_the_caller_does(
    client: Client, cluster: ScriptedCluster
) -> None:
    first, second = await client.lease_grant(5.0), await client.lease_grant(5.0)
    assert last_command(cluster).lease_grant.lease == 0
    assert first.lease != second.lease
    assert (await client.lease_grant(5.0, lease=77)).lease == 77


async def test_the_keys_of_a_lease_are_asked_for_only_if_the_caller_wants_them(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[api_pb2.LeaseTimeToLiveRequest] = []
    call = ScriptedLink.call

    async def recorded(
        link: ScriptedLink, method: str, request: bytes, timeout_s: float, token: str = ""
    ) -> bytes:
        if method.endswith("/TimeToLive"):
            asked.append(api_pb2.LeaseTimeToLiveRequest.FromString(request))
        return await call(link, method, request, timeout_s, token)

    monkeypatch.setattr(ScriptedLink, "call", recorded)
    await client.lease_time_to_live(7)
    await client.lease_time_to_live(7, keys=True)
    assert asked == [
        api_pb2.LeaseTimeToLiveRequest(lease=7),
        api_pb2.LeaseTimeToLiveRequest(lease=7, keys=True),
    ]


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("-inf")])
async def test_a_timeout_that_is_none_is_refused(client: Client, timeout: float) -> None:
    with pytest.raises(InvalidRequest, match="timeout"):
        await client.put("k", "v", timeout=timeout)


def test_a_transactions_result_holds_its_operations_results() -> None:
    kv = kv_pb2.KeyValue(key=b"k", value=b"v", mod_revision=3, version=1)
    wire = kv_pb2.Result(revision=9)
    wire.transaction.succeeded = True
    wire.transaction.responses.add(revision=9)
    wire.transaction.responses.add(revision=9).delete_range.deleted = 2
    wire.transaction.responses.add(revision=9).range.kvs.append(kv)
    wire.transaction.responses.add(revision=9).transaction.succeeded = False
    result = transaction_result(wire)
    put, deletion, found, nested = result.responses
    assert put == raftkv.PutResult(9)
    assert deletion == raftkv.DeleteResult(9, 2)
    assert isinstance(found, raftkv.RangeResult)
    assert found.kvs == (raftkv.KeyValue(b"k", b"v", 0, 3, 1, 0),)
    assert isinstance(nested, raftkv.TransactionResult)
    assert not nested.succeeded


HUGE = 2**63
BAD_CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "put.lease": lambda client: client.put("k", "v", lease=HUGE),
    "put.key": lambda client: client.put("\udcff", "v"),
    "get.revision": lambda client: client.get("k", revision=HUGE),
    "get.revision below 0": lambda client: client.get("k", revision=-1),
    "range.limit": lambda client: client.range("a", "b", limit=HUGE),
    "range.revision below 0": lambda client: client.range("a", "b", revision=-1),
    "compare_and_swap.expected": lambda client: client.compare_and_swap("k", HUGE, "v"),
    "compare_and_swap.lease": lambda client: client.compare_and_swap("k", None, "v", lease=HUGE),
    "compact.revision": lambda client: client.compact(HUGE),
    "compact.revision 0": lambda client: client.compact(0),
    "lease_grant.ttl": lambda client: client.lease_grant(math.inf),
    "lease_grant.ttl too long": lambda client: client.lease_grant(1e300),
    "lease_grant.lease": lambda client: client.lease_grant(1, lease=HUGE),
    "lease_renew.lease": lambda client: client.lease_renew(HUGE),
    "lease_revoke.lease": lambda client: client.lease_revoke(HUGE),
    "lease_time_to_live.lease": lambda client: client.lease_time_to_live(HUGE),
    "member_add.node_id": lambda client: client.member_add(HUGE, "a:1", "b:1"),
    "member_promote.node_id": lambda client: client.member_promote(0),
    "member_remove.node_id": lambda client: client.member_remove(-1),
    "member_replace.old_id": lambda client: client.member_replace(0, 4),
    "member_replace.new_id": lambda client: client.member_replace(4, HUGE),
    "member_update.node_id": lambda client: client.member_update(0, peer_address="a:1"),
    "transfer_leader.node_id": lambda client: client.transfer_leader(HUGE),
}


@pytest.mark.parametrize("what", BAD_CALLS)
async def test_numbers_beyond_the_wires_range_are_refused_by_name(
    client: Client, cluster: ScriptedCluster, what: str
) -> None:
    field = what.split(" ")[0].split(".")[1]
    with pytest.raises(InvalidRequest, match=f"^{field} is .*; give ") as refused:
        await BAD_CALLS[what](client)
    assert refused.value.facts["field"] == field
    assert not cluster.writes


def test_numbers_in_a_transaction_have_the_same_range() -> None:
    with pytest.raises(InvalidRequest, match="number is"):
        when.version("k") == HUGE  # noqa: B015 - making the condition is what is refused
    with pytest.raises(InvalidRequest, match="lease is"):
        op.put("k", lease=HUGE)
    with pytest.raises(InvalidRequest, match="limit is"):
        op.range("a", "b", limit=-1)
