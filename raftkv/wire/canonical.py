"""The canonical encoding of commands, results and memberships, independent of protobuf libraries.

Protobuf defines no canonical serialisation: another version, or another language's library, may
serialise the same message as other bytes. So nothing that nodes must agree on depends on its
output: no fingerprint, no size that decides, and no entry that several nodes create on their own.
All of these are encoded here.

The form: fields in the order of their numbers; each as a varint of (number << 3 | type), then the
value: (type 0) a varint of a number, in 64 bits of two's complement if it is negative; (type 1)
eight bytes, the lowest first, of an id; (type 2) a length and that many bytes of a byte string, a
text in UTF-8, a message or packed numbers. A field that is not set is left out: one that has its
default, unless it is the member of a oneof. A map is its entries in the order of their keys.
For a message without unknown fields these are the bytes of today's deterministic serialisation of
protobuf, so that fingerprints and entries in data directories of 0.1.0 stay valid.

Two commands that differ only in a field that is missing here would be taken for equal. So every new
field of these messages must be added here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from raftkv.rpc.v1 import auth_pb2, kv_pb2, log_pb2


def command_bytes(command: kv_pb2.Command) -> bytes:
    """The command without its idempotency key and the key's time to live."""
    put = command.put  # of another command: an empty one
    if put.key and not command.fences:
        return b"\x0a" + _sized(_put(put))
    return _encode("Command", command)


def result_size_bytes(result: kv_pb2.Result) -> int:
    """The size of the result in this encoding."""
    return len(_encode("Result", result))


def membership_bytes(membership: log_pb2.Membership) -> bytes:
    """The payload of an entry. Every founder of a cluster creates the first one on its own."""
    return _encode("Membership", membership)


def auth_row_bytes(
    message: auth_pb2.User
    | auth_pb2.AuthRole
    | auth_pb2.ServiceToken
    | auth_pb2.SigningKey
    | auth_pb2.AuthState,
) -> bytes:
    """A row of the state machine."""
    return _encode(message.DESCRIPTOR.name, message)


# ---- values --------------------------------------------------------------------------

_SMALL: Final = tuple(bytes([number]) for number in range(128))


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all bytes but the last have the eighth set."""
    if 0 <= number < 128:
        return _SMALL[number]
    if 0 <= number < 1 << 14:
        return bytes((number & 127 | 128, number >> 7))
    number %= 1 << 64
    digits = bytearray()
    while number >= 128:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


class _Kind(NamedTuple):
    """The encoding of the values of a field."""

    wire_type: int
    encode: Callable[[Any], bytes]


def _message(name: str) -> _Kind:
    return _Kind(2, lambda message: _sized(_encode(name, message)))


# Most commands are puts without options, which have a faster encoder: with the general one, a
# transaction of them would take half as long again to apply.


def _put(put: kv_pb2.Put) -> bytes:
    key = put.key
    if not key or put.lease or put.prev_kv or put.ignore_value or put.ignore_lease:
        return _encode("Put", put)
    value = put.value
    if not value:
        return b"\x0a" + _sized(key)
    return b"".join((b"\x0a", _varint(len(key)), key, b"\x12", _varint(len(value)), value))


def _operation(operation: kv_pb2.Operation) -> bytes:
    put = operation.put  # of another operation: an empty one
    if put.key:
        return _sized(b"\x12" + _sized(_put(put)))
    return _sized(_encode("Operation", operation))


NUMBER: Final = _Kind(0, _varint)
ID: Final = _Kind(1, struct.Struct("<Q").pack)
BYTES: Final = _Kind(2, _sized)
TEXT: Final = _Kind(2, lambda text: _sized(text.encode()))
NUMBERS: Final = _Kind(2, lambda numbers: _sized(b"".join(map(_varint, numbers))))
PUT: Final = _Kind(2, lambda put: _sized(_put(put)))
OPERATION: Final = _Kind(2, _operation)


class _Field(NamedTuple):
    tag: bytes
    encode: Callable[[Any], bytes]
    """Encodes the value, or each of the values."""
    values: Callable[[Any], Any] | None
    """The values of a repeated field, in order; None for a single field."""


def _one(number: int, kind: _Kind) -> _Field:
    return _Field(_varint(number << 3 | kind.wire_type), kind.encode, None)


def _each(number: int, kind: _Kind) -> _Field:
    return _one(number, kind)._replace(values=iter)


def _entries(number: int) -> _Field:
    """A map from text to text."""

    def encode(entry: tuple[str, str]) -> bytes:
        key, value = entry
        parts = (_one(1, TEXT).tag, TEXT.encode(key), _one(2, TEXT).tag, TEXT.encode(value))
        return _sized(b"".join(parts))

    def values(entries: Mapping[str, str]) -> list[tuple[str, str]]:
        return sorted(entries.items(), key=lambda entry: entry[0].encode())

    return _Field(_one(number, BYTES).tag, encode, values)


def _encode(name: str, message: Any) -> bytes:
    layout = _LAYOUTS[name]
    parts: list[bytes] = []
    for descriptor, value in message.ListFields():  # those that are set, by their numbers
        field = layout.get(descriptor.name)
        if field is None:
            continue
        tag, encode, values = field
        if values is None:
            parts += (tag, encode(value))
        else:
            for each in values(value):
                parts += (tag, encode(each))
    return b"".join(parts)


# ---- messages of auth.proto, kv.proto and log.proto -----------------------------------

_Layout: TypeAlias = Mapping[str, _Field]

_LAYOUTS: Final[Mapping[str, _Layout]] = {
    "KeyValue": {
        "key": _one(1, BYTES),
        "value": _one(2, BYTES),
        "create_revision": _one(3, NUMBER),
        "mod_revision": _one(4, NUMBER),
        "version": _one(5, NUMBER),
        "lease": _one(6, NUMBER),
    },
    "Put": {
        "key": _one(1, BYTES),
        "value": _one(2, BYTES),
        "lease": _one(3, NUMBER),
        "prev_kv": _one(4, NUMBER),
        "ignore_value": _one(5, NUMBER),
        "ignore_lease": _one(6, NUMBER),
    },
    "DeleteRange": {
        "key": _one(1, BYTES),
        "range_end": _one(2, BYTES),
        "prev_kv": _one(3, NUMBER),
        "limit": _one(4, NUMBER),
    },
    "Range": {
        "key": _one(1, BYTES),
        "range_end": _one(2, BYTES),
        "limit": _one(3, NUMBER),
        "revision": _one(4, NUMBER),
        "sort_order": _one(5, NUMBER),
        "sort_target": _one(6, NUMBER),
        "keys_only": _one(7, NUMBER),
        "count_only": _one(8, NUMBER),
        "min_mod_revision": _one(9, NUMBER),
        "max_mod_revision": _one(10, NUMBER),
        "min_create_revision": _one(11, NUMBER),
        "max_create_revision": _one(12, NUMBER),
        "page": _one(13, NUMBER),
    },
    "Compare": {
        "result": _one(1, NUMBER),
        "key": _one(2, BYTES),
        "range_end": _one(3, BYTES),
        "version": _one(4, NUMBER),
        "create_revision": _one(5, NUMBER),
        "mod_revision": _one(6, NUMBER),
        "value": _one(7, BYTES),
        "lease": _one(8, NUMBER),
    },
    "Operation": {
        "range": _one(1, _message("Range")),
        "put": _one(2, PUT),
        "delete_range": _one(3, _message("DeleteRange")),
        "transaction": _one(4, _message("Transaction")),
    },
    "Transaction": {
        "compare": _each(1, _message("Compare")),
        "success": _each(2, OPERATION),
        "failure": _each(3, OPERATION),
    },
    "CompareAndSwap": {
        "key": _one(1, BYTES),
        "absent": _one(2, NUMBER),
        "value": _one(3, BYTES),
        "mod_revision": _one(4, NUMBER),
        "new_value": _one(5, BYTES),
        "lease": _one(6, NUMBER),
    },
    "Compact": {"revision": _one(1, NUMBER)},
    "LeaseGrant": {"lease": _one(1, NUMBER), "ttl_ms": _one(2, NUMBER)},
    "LeaseRenew": {"lease": _one(1, NUMBER)},
    "LeaseRevoke": {"lease": _one(1, NUMBER)},
    "LeaseKeepAlive": {"leases": _one(1, NUMBERS)},
    "Acquire": {
        "name": _one(1, BYTES),
        "lease": _one(2, NUMBER),
        "ttl_ms": _one(3, NUMBER),
        "value": _one(4, BYTES),
        "only_if_free": _one(5, NUMBER),
    },
    "Fence": {"name": _one(1, BYTES), "token": _one(2, NUMBER)},
    # Without idempotency_key and idempotency_ttl_ms: see `command_bytes`.
    "Command": {
        "put": _one(1, PUT),
        "delete_range": _one(2, _message("DeleteRange")),
        "transaction": _one(3, _message("Transaction")),
        "compare_and_swap": _one(4, _message("CompareAndSwap")),
        "compact": _one(5, _message("Compact")),
        "lease_grant": _one(6, _message("LeaseGrant")),
        "lease_renew": _one(7, _message("LeaseRenew")),
        "lease_revoke": _one(8, _message("LeaseRevoke")),
        "lease_keep_alive": _one(9, _message("LeaseKeepAlive")),
        "acquire": _one(10, _message("Acquire")),
        "fences": _each(13, _message("Fence")),
        "auth": _one(16, _message("AuthCommand")),
    },
    "Failure": {
        "reason": _one(1, TEXT),
        "message": _one(2, TEXT),
        "outcome": _one(3, NUMBER),
        "retry_after_ms": _one(4, NUMBER),
        "facts": _entries(5),
    },
    "PutResult": {"prev_kv": _one(1, _message("KeyValue"))},
    "DeleteRangeResult": {
        "deleted": _one(1, NUMBER),
        "prev_kvs": _each(2, _message("KeyValue")),
        "more": _one(3, NUMBER),
    },
    "RangeResult": {
        "kvs": _each(1, _message("KeyValue")),
        "count": _one(2, NUMBER),
        "more": _one(3, NUMBER),
        "next_key": _one(4, BYTES),
    },
    "TransactionResult": {
        "succeeded": _one(1, NUMBER),
        "responses": _each(2, _message("Result")),
    },
    "CompareAndSwapResult": {
        "swapped": _one(1, NUMBER),
        "current": _one(2, _message("KeyValue")),
    },
    "LeaseResult": {"lease": _one(1, NUMBER), "ttl_ms": _one(2, NUMBER)},
    "LeaseKeepAliveResult": {"ended": _one(1, NUMBERS)},
    "AcquireResult": {
        "key": _one(1, BYTES),
        "token": _one(2, NUMBER),
        "held": _one(3, NUMBER),
        "lease": _one(4, NUMBER),
        "ttl_ms": _one(5, NUMBER),
        "holder": _one(6, _message("KeyValue")),
    },
    "Result": {
        "revision": _one(1, NUMBER),
        "put": _one(2, _message("PutResult")),
        "delete_range": _one(3, _message("DeleteRangeResult")),
        "range": _one(4, _message("RangeResult")),
        "transaction": _one(5, _message("TransactionResult")),
        "compare_and_swap": _one(6, _message("CompareAndSwapResult")),
        "lease": _one(7, _message("LeaseResult")),
        "failure": _one(8, _message("Failure")),
        "lease_keep_alive": _one(9, _message("LeaseKeepAliveResult")),
        "acquire": _one(10, _message("AcquireResult")),
        "auth": _one(11, _message("AuthResult")),
    },
    "Permission": {
        "access": _one(1, NUMBER),
        "key": _one(2, BYTES),
        "range_end": _one(3, BYTES),
    },
    "AuthRole": {
        "name": _one(1, TEXT),
        "permissions": _each(2, _message("Permission")),
        "admin_rights": _one(3, NUMBERS),
    },
    "User": {
        "id": _one(1, NUMBER),
        "name": _one(2, TEXT),
        "password_hash": _one(3, TEXT),
        "roles": _each(4, TEXT),
        "credentials": _one(5, NUMBER),
    },
    "ServiceToken": {
        "id": _one(1, BYTES),
        "user": _one(2, NUMBER),
        "secret_hash": _one(3, BYTES),
        "expires_ms": _one(4, NUMBER),
        "created_ms": _one(5, NUMBER),
    },
    "SigningKey": {
        "id": _one(1, NUMBER),
        "secret": _one(2, BYTES),
        "created_ms": _one(3, NUMBER),
    },
    "AuthState": {
        "enabled": _one(1, NUMBER),
        "revision": _one(2, NUMBER),
    },
    "AuthEnable": {},
    "AuthDisable": {},
    "UserAdd": {
        "name": _one(1, TEXT),
        "password_hash": _one(2, TEXT),
    },
    "UserDelete": {
        "name": _one(1, TEXT),
    },
    "UserSetPassword": {
        "name": _one(1, TEXT),
        "password_hash": _one(2, TEXT),
    },
    "UserGrantRole": {
        "name": _one(1, TEXT),
        "role": _one(2, TEXT),
    },
    "UserRevokeRole": {
        "name": _one(1, TEXT),
        "role": _one(2, TEXT),
    },
    "RoleAdd": {
        "name": _one(1, TEXT),
    },
    "RoleDelete": {
        "name": _one(1, TEXT),
    },
    "RoleGrant": {
        "role": _one(1, TEXT),
        "permission": _one(2, _message("Permission")),
        "admin_right": _one(3, NUMBER),
    },
    "RoleRevoke": {
        "role": _one(1, TEXT),
        "permission": _one(2, _message("Permission")),
        "admin_right": _one(3, NUMBER),
    },
    "TokenCreate": {
        "id": _one(1, BYTES),
        "user": _one(2, TEXT),
        "secret_hash": _one(3, BYTES),
        "ttl_ms": _one(4, NUMBER),
    },
    "TokenRevoke": {
        "id": _one(1, BYTES),
    },
    "SigningKeyRotate": {
        "secret": _one(1, BYTES),
        "replaced": _one(2, NUMBER),
    },
    "RootReset": {
        "password_hash": _one(1, TEXT),
    },
    "AuthCommand": {
        "enable": _one(1, _message("AuthEnable")),
        "disable": _one(2, _message("AuthDisable")),
        "user_add": _one(3, _message("UserAdd")),
        "user_delete": _one(4, _message("UserDelete")),
        "user_set_password": _one(5, _message("UserSetPassword")),
        "user_grant_role": _one(6, _message("UserGrantRole")),
        "user_revoke_role": _one(7, _message("UserRevokeRole")),
        "role_add": _one(8, _message("RoleAdd")),
        "role_delete": _one(9, _message("RoleDelete")),
        "role_grant": _one(10, _message("RoleGrant")),
        "role_revoke": _one(11, _message("RoleRevoke")),
        "token_create": _one(12, _message("TokenCreate")),
        "token_revoke": _one(13, _message("TokenRevoke")),
        "signing_key_rotate": _one(14, _message("SigningKeyRotate")),
        "root_reset": _one(15, _message("RootReset")),
    },
    "AuthResult": {
        "auth_revision": _one(1, NUMBER),
    },
    "MemberAddress": {
        "node_id": _one(1, NUMBER),
        "peer_address": _one(2, TEXT),
        "client_address": _one(3, TEXT),
        "disk_id": _one(4, ID),
    },
    "Membership": {
        "voters": _one(1, NUMBERS),
        "voters_outgoing": _one(2, NUMBERS),
        "learners": _one(3, NUMBERS),
        "addresses": _each(4, _message("MemberAddress")),
        "removed": _one(5, NUMBERS),
    },
}
