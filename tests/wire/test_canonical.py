"""Our own encoding: what protobuf writes today, and still that when protobuf writes otherwise."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.kv.idempotency import fingerprint
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.rpc.v1 import log_pb2
from raftkv.wire.canonical import command_bytes, membership_bytes, result_size_bytes
from tests.kv.harness import transaction
from tests.kv.strategies import COMMANDS

DEPTH_MAX = 3
_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT64: st.sampled_from(
        [0, 1, 127, 128, 16_384, 2**63 - 1, -1, -(2**63)]
    ),
    FieldDescriptor.CPPTYPE_UINT64: st.sampled_from([0, 1, 127, 128, 2**64 - 1]),
    FieldDescriptor.CPPTYPE_UINT32: st.sampled_from([0, 1, 127, 128, 2**32 - 1]),
    FieldDescriptor.CPPTYPE_ENUM: st.sampled_from([0, 1, 3, 300, -1, 2**31 - 1]),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
}


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return messages(field.message_type, depth + 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=3) | st.just(b"long" * 40) | st.just(b"longer" * 4_000)
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.text(max_size=3)
    return _NUMBERS[field.cpp_type]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _field(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if _is_map(field):
        return st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3)
    one = _value(field, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """Any message of this type, with any of its fields: those of tomorrow too."""
    fields = [
        field
        for field in descriptor.fields
        if depth < DEPTH_MAX or field.message_type is None or _is_map(field)
    ]
    chosen = draw(st.lists(st.sampled_from(fields), unique=True)) if fields else []
    return GetMessageClass(descriptor)(
        **{field.name: draw(_field(field, depth)) for field in chosen}
    )


def bare(command: pb.Command) -> pb.Command:
    command.ClearField("idempotency_key")
    command.ClearField("idempotency_ttl_ms")
    return command


@given(COMMANDS | messages(pb.Command.DESCRIPTOR))
def test_a_command_is_the_bytes_that_protobuf_gives_today(command: pb.Command) -> None:
    written = command_bytes(command)
    assert written == bare(command).SerializeToString(deterministic=True)


@given(COMMANDS | messages(pb.Command.DESCRIPTOR))
def test_a_fingerprint_is_that_of_a_data_directory_of_0_1_0(command: pb.Command) -> None:
    as_in_0_1_0 = pb.Command()
    as_in_0_1_0.CopyFrom(command)
    data = bare(as_in_0_1_0).SerializeToString(deterministic=True)
    assert fingerprint(command) == hashlib.sha256(data).digest()


@given(messages(pb.Result.DESCRIPTOR))
def test_a_result_has_the_size_that_protobuf_gives_it_today(result: pb.Result) -> None:
    assert result_size_bytes(result) == len(result.SerializeToString(deterministic=True))


@given(messages(log_pb2.Membership.DESCRIPTOR))
def test_a_membership_is_the_bytes_that_protobuf_gives_today(
    membership: log_pb2.Membership,
) -> None:
    assert membership_bytes(membership) == membership.SerializeToString(deterministic=True)


@settings(max_examples=50)
@given(messages(pb.Command.DESCRIPTOR))
def test_the_idempotency_key_is_no_part_of_a_command(command: pb.Command) -> None:
    written = command_bytes(command)
    command.idempotency_key, command.idempotency_ttl_ms = b"order-17", 5_000
    assert command_bytes(command) == written


GOLDEN = [
    (pb.Command(), ""),
    (pb.Command(put=pb.Put(key=b"k", value=b"v")), "0a060a016b120176"),
    (pb.Command(put=pb.Put(key=b"k")), "0a030a016b"),
    (
        pb.Command(put=pb.Put(key=b"k", lease=-1, prev_kv=True)),
        "0a100a016b18ffffffffffffffffff012001",
    ),
    (
        pb.Command(delete_range=pb.DeleteRange(key=b"a", range_end=b"\0", prev_kv=True)),
        "12080a01611201001801",
    ),
    (
        pb.Command(
            transaction=transaction(
                [pb.Compare(key=b"a", version=0), pb.Compare(key=b"b", result=1, value=b"")],
                [pb.Command(put=pb.Put(key=b"a")), pb.Range(key=b"a", limit=300, sort_order=2)],
                [transaction()],
            )
        ),
        "1a270a0512016120000a0708011201623a00120512030a0161120a0a080a016118ac0228021a022200",
    ),
    (
        pb.Command(compare_and_swap=pb.CompareAndSwap(key=b"k", absent=False, new_value=b"n")),
        "22080a016b10002a016e",
    ),
    (pb.Command(compact=pb.Compact(revision=128)), "2a03088001"),
    (pb.Command(lease_grant=pb.LeaseGrant(lease=5, ttl_ms=9_000)), "3205080510a846"),
    (pb.Command(lease_renew=pb.LeaseRenew(lease=5)), "3a020805"),
    (pb.Command(lease_revoke=pb.LeaseRevoke()), "4200"),
    (pb.Command(lease_keep_alive=pb.LeaseKeepAlive(leases=[1, 300])), "4a050a0301ac02"),
    (
        pb.Command(
            acquire=pb.Acquire(name=b"n", ttl_ms=1, value=b"v", only_if_free=True),
            fences=[pb.Fence(name=b"f", token=7), pb.Fence(name=b"g", token=8)],
        ),
        "520a0a016e180122017628016a050a016610076a050a01671008",
    ),
]


@pytest.mark.parametrize(("command", "written"), GOLDEN)
def test_a_commands_bytes_never_change(command: pb.Command, written: str) -> None:
    assert command_bytes(command).hex() == written


def test_a_fingerprint_never_changes() -> None:
    named = pb.Command(put=pb.Put(key=b"order/17", value=b"paid"), idempotency_key=b"order-17")
    hashed = "56087795b19e4901ab6468a3a82bd13f97925c1a44eeacbbd232bb3482f9f17e"
    assert fingerprint(named).hex() == hashed


def test_the_first_entry_never_changes() -> None:
    first = log_pb2.Membership(voters=[1, 2, 300], removed=[9])
    first.addresses.add(node_id=1, peer_address="a:1", client_address="ä:2", disk_id=258)
    written = "0a040102ac02221608011203613a311a04c3a43a322102010000000000002a0109"
    assert membership_bytes(first).hex() == written
