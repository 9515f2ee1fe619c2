"""The part of etcd's v3 wire protocol that the benchmark needs, built without generated code.

The descriptors live in a pool of their own, so that this package can be imported beside any
other that registers etcd's protos.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
UINT64 = descriptor_pb2.FieldDescriptorProto.TYPE_UINT64
BOOL = descriptor_pb2.FieldDescriptorProto.TYPE_BOOL
STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING

# Fields that no caller here reads are left out: protobuf skips what it does not know.
MESSAGES: dict[str, dict[str, tuple[int, int | str]]] = {
    "ResponseHeader": {"member_id": (2, UINT64), "revision": (3, INT64), "raft_term": (4, UINT64)},
    "KeyValue": {"key": (1, BYTES), "mod_revision": (3, INT64), "value": (5, BYTES)},
    "RangeRequest": {"key": (1, BYTES), "range_end": (2, BYTES), "limit": (3, INT64)},
    "RangeResponse": {"header": (1, "ResponseHeader"), "kvs": (2, "*KeyValue")},
    "PutRequest": {"key": (1, BYTES), "value": (2, BYTES)},
    "PutResponse": {"header": (1, "ResponseHeader")},
    "RequestOp": {"request_put": (2, "PutRequest")},
    "TxnRequest": {"success": (2, "*RequestOp")},
    "TxnResponse": {"header": (1, "ResponseHeader"), "succeeded": (2, BOOL)},
    "LeaseGrantRequest": {"TTL": (1, INT64), "ID": (2, INT64)},
    "LeaseGrantResponse": {"header": (1, "ResponseHeader"), "ID": (2, INT64)},
    "LockRequest": {"name": (1, BYTES), "lease": (2, INT64)},
    "LockResponse": {"header": (1, "ResponseHeader"), "key": (2, BYTES)},
    "UnlockRequest": {"key": (1, BYTES)},
    "UnlockResponse": {"header": (1, "ResponseHeader")},
    "StatusRequest": {},
    "StatusResponse": {
        "header": (1, "ResponseHeader"),
        "version": (2, STRING),
        "dbSize": (3, INT64),
        "leader": (4, UINT64),
        "raftIndex": (5, UINT64),
        "raftAppliedIndex": (7, UINT64),
    },
}


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(
        name="bench/etcd.proto", package="etcdserverpb", syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            repeated = isinstance(kind, str) and kind.startswith("*")
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type = field.TYPE_MESSAGE
                field.type_name = f".etcdserverpb.{kind.lstrip('*')}"
            else:
                field.type = descriptor_pb2.FieldDescriptorProto.Type.ValueType(kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"etcdserverpb.{name}"))


PutRequest = _message("PutRequest")
RangeRequest = _message("RangeRequest")
RequestOp = _message("RequestOp")
TxnRequest = _message("TxnRequest")
StatusRequest = _message("StatusRequest")
LeaseGrantRequest = _message("LeaseGrantRequest")
LockRequest = _message("LockRequest")
UnlockRequest = _message("UnlockRequest")


def unary(channel: grpc.aio.Channel, method: str, request: str, response: str) -> Any:
    """A callable for one of etcd's unary methods, such as `etcdserverpb.KV/Put`."""
    return channel.unary_unary(
        f"/{method}",
        request_serializer=_message(request).SerializeToString,
        response_deserializer=_message(response).FromString,
    )
