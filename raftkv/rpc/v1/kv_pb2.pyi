from raftkv.rpc.v1 import auth_pb2 as _auth_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SortOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SORT_ORDER_NONE: _ClassVar[SortOrder]
    SORT_ORDER_ASCEND: _ClassVar[SortOrder]
    SORT_ORDER_DESCEND: _ClassVar[SortOrder]

class SortTarget(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SORT_TARGET_KEY: _ClassVar[SortTarget]
    SORT_TARGET_VERSION: _ClassVar[SortTarget]
    SORT_TARGET_CREATE: _ClassVar[SortTarget]
    SORT_TARGET_MOD: _ClassVar[SortTarget]
    SORT_TARGET_VALUE: _ClassVar[SortTarget]

class CompareResult(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPARE_RESULT_EQUAL: _ClassVar[CompareResult]
    COMPARE_RESULT_GREATER: _ClassVar[CompareResult]
    COMPARE_RESULT_LESS: _ClassVar[CompareResult]
    COMPARE_RESULT_NOT_EQUAL: _ClassVar[CompareResult]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_NOT_APPLIED: _ClassVar[Outcome]
    OUTCOME_SAFE_TO_RETRY: _ClassVar[Outcome]
    OUTCOME_MAYBE_APPLIED: _ClassVar[Outcome]
SORT_ORDER_NONE: SortOrder
SORT_ORDER_ASCEND: SortOrder
SORT_ORDER_DESCEND: SortOrder
SORT_TARGET_KEY: SortTarget
SORT_TARGET_VERSION: SortTarget
SORT_TARGET_CREATE: SortTarget
SORT_TARGET_MOD: SortTarget
SORT_TARGET_VALUE: SortTarget
COMPARE_RESULT_EQUAL: CompareResult
COMPARE_RESULT_GREATER: CompareResult
COMPARE_RESULT_LESS: CompareResult
COMPARE_RESULT_NOT_EQUAL: CompareResult
OUTCOME_NOT_APPLIED: Outcome
OUTCOME_SAFE_TO_RETRY: Outcome
OUTCOME_MAYBE_APPLIED: Outcome

class KeyValue(_message.Message):
    __slots__ = ("key", "value", "create_revision", "mod_revision", "version", "lease")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CREATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., create_revision: _Optional[int] = ..., mod_revision: _Optional[int] = ..., version: _Optional[int] = ..., lease: _Optional[int] = ...) -> None: ...

class Put(_message.Message):
    __slots__ = ("key", "value", "lease", "prev_kv", "ignore_value", "ignore_lease")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    PREV_KV_FIELD_NUMBER: _ClassVar[int]
    IGNORE_VALUE_FIELD_NUMBER: _ClassVar[int]
    IGNORE_LEASE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    lease: int
    prev_kv: bool
    ignore_value: bool
    ignore_lease: bool
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., lease: _Optional[int] = ..., prev_kv: _Optional[bool] = ..., ignore_value: _Optional[bool] = ..., ignore_lease: _Optional[bool] = ...) -> None: ...

class DeleteRange(_message.Message):
    __slots__ = ("key", "range_end", "prev_kv", "limit")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    PREV_KV_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    range_end: bytes
    prev_kv: bool
    limit: int
    def __init__(self, key: _Optional[bytes] = ..., range_end: _Optional[bytes] = ..., prev_kv: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("key", "range_end", "limit", "revision", "sort_order", "sort_target", "keys_only", "count_only", "min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision", "page")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SORT_ORDER_FIELD_NUMBER: _ClassVar[int]
    SORT_TARGET_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    COUNT_ONLY_FIELD_NUMBER: _ClassVar[int]
    MIN_MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    MAX_MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    MIN_CREATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    MAX_CREATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    range_end: bytes
    limit: int
    revision: int
    sort_order: SortOrder
    sort_target: SortTarget
    keys_only: bool
    count_only: bool
    min_mod_revision: int
    max_mod_revision: int
    min_create_revision: int
    max_create_revision: int
    page: bool
    def __init__(self, key: _Optional[bytes] = ..., range_end: _Optional[bytes] = ..., limit: _Optional[int] = ..., revision: _Optional[int] = ..., sort_order: _Optional[_Union[SortOrder, str]] = ..., sort_target: _Optional[_Union[SortTarget, str]] = ..., keys_only: _Optional[bool] = ..., count_only: _Optional[bool] = ..., min_mod_revision: _Optional[int] = ..., max_mod_revision: _Optional[int] = ..., min_create_revision: _Optional[int] = ..., max_create_revision: _Optional[int] = ..., page: _Optional[bool] = ...) -> None: ...

class Compare(_message.Message):
    __slots__ = ("result", "key", "range_end", "version", "create_revision", "mod_revision", "value", "lease")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    result: CompareResult
    key: bytes
    range_end: bytes
    version: int
    create_revision: int
    mod_revision: int
    value: bytes
    lease: int
    def __init__(self, result: _Optional[_Union[CompareResult, str]] = ..., key: _Optional[bytes] = ..., range_end: _Optional[bytes] = ..., version: _Optional[int] = ..., create_revision: _Optional[int] = ..., mod_revision: _Optional[int] = ..., value: _Optional[bytes] = ..., lease: _Optional[int] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("range", "put", "delete_range", "transaction")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    range: Range
    put: Put
    delete_range: DeleteRange
    transaction: Transaction
    def __init__(self, range: _Optional[_Union[Range, _Mapping]] = ..., put: _Optional[_Union[Put, _Mapping]] = ..., delete_range: _Optional[_Union[DeleteRange, _Mapping]] = ..., transaction: _Optional[_Union[Transaction, _Mapping]] = ...) -> None: ...

class Transaction(_message.Message):
    __slots__ = ("compare", "success", "failure")
    COMPARE_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    compare: _containers.RepeatedCompositeFieldContainer[Compare]
    success: _containers.RepeatedCompositeFieldContainer[Operation]
    failure: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, compare: _Optional[_Iterable[_Union[Compare, _Mapping]]] = ..., success: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., failure: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class CompareAndSwap(_message.Message):
    __slots__ = ("key", "absent", "value", "mod_revision", "new_value", "lease")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    NEW_VALUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    absent: bool
    value: bytes
    mod_revision: int
    new_value: bytes
    lease: int
    def __init__(self, key: _Optional[bytes] = ..., absent: _Optional[bool] = ..., value: _Optional[bytes] = ..., mod_revision: _Optional[int] = ..., new_value: _Optional[bytes] = ..., lease: _Optional[int] = ...) -> None: ...

class Compact(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class LeaseGrant(_message.Message):
    __slots__ = ("lease", "ttl_ms")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    lease: int
    ttl_ms: int
    def __init__(self, lease: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class LeaseRenew(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: int
    def __init__(self, lease: _Optional[int] = ...) -> None: ...

class LeaseRevoke(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: int
    def __init__(self, lease: _Optional[int] = ...) -> None: ...

class LeaseKeepAlive(_message.Message):
    __slots__ = ("leases",)
    LEASES_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, leases: _Optional[_Iterable[int]] = ...) -> None: ...

class Acquire(_message.Message):
    __slots__ = ("name", "lease", "ttl_ms", "value", "only_if_free")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ONLY_IF_FREE_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    lease: int
    ttl_ms: int
    value: bytes
    only_if_free: bool
    def __init__(self, name: _Optional[bytes] = ..., lease: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., value: _Optional[bytes] = ..., only_if_free: _Optional[bool] = ...) -> None: ...

class Fence(_message.Message):
    __slots__ = ("name", "token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    token: int
    def __init__(self, name: _Optional[bytes] = ..., token: _Optional[int] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("put", "delete_range", "transaction", "compare_and_swap", "compact", "lease_grant", "lease_renew", "lease_revoke", "lease_keep_alive", "acquire", "auth", "fences", "idempotency_key", "idempotency_ttl_ms")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    COMPARE_AND_SWAP_FIELD_NUMBER: _ClassVar[int]
    COMPACT_FIELD_NUMBER: _ClassVar[int]
    LEASE_GRANT_FIELD_NUMBER: _ClassVar[int]
    LEASE_RENEW_FIELD_NUMBER: _ClassVar[int]
    LEASE_REVOKE_FIELD_NUMBER: _ClassVar[int]
    LEASE_KEEP_ALIVE_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    FENCES_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_TTL_MS_FIELD_NUMBER: _ClassVar[int]
    put: Put
    delete_range: DeleteRange
    transaction: Transaction
    compare_and_swap: CompareAndSwap
    compact: Compact
    lease_grant: LeaseGrant
    lease_renew: LeaseRenew
    lease_revoke: LeaseRevoke
    lease_keep_alive: LeaseKeepAlive
    acquire: Acquire
    auth: _auth_pb2.AuthCommand
    fences: _containers.RepeatedCompositeFieldContainer[Fence]
    idempotency_key: bytes
    idempotency_ttl_ms: int
    def __init__(self, put: _Optional[_Union[Put, _Mapping]] = ..., delete_range: _Optional[_Union[DeleteRange, _Mapping]] = ..., transaction: _Optional[_Union[Transaction, _Mapping]] = ..., compare_and_swap: _Optional[_Union[CompareAndSwap, _Mapping]] = ..., compact: _Optional[_Union[Compact, _Mapping]] = ..., lease_grant: _Optional[_Union[LeaseGrant, _Mapping]] = ..., lease_renew: _Optional[_Union[LeaseRenew, _Mapping]] = ..., lease_revoke: _Optional[_Union[LeaseRevoke, _Mapping]] = ..., lease_keep_alive: _Optional[_Union[LeaseKeepAlive, _Mapping]] = ..., acquire: _Optional[_Union[Acquire, _Mapping]] = ..., auth: _Optional[_Union[_auth_pb2.AuthCommand, _Mapping]] = ..., fences: _Optional[_Iterable[_Union[Fence, _Mapping]]] = ..., idempotency_key: _Optional[bytes] = ..., idempotency_ttl_ms: _Optional[int] = ...) -> None: ...

class CommandBatch(_message.Message):
    __slots__ = ("session", "sequence", "acknowledged", "commands")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    session: int
    sequence: int
    acknowledged: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    def __init__(self, session: _Optional[int] = ..., sequence: _Optional[int] = ..., acknowledged: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "message", "outcome", "retry_after_ms", "facts")
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    outcome: Outcome
    retry_after_ms: int
    facts: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., retry_after_ms: _Optional[int] = ..., facts: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PutResult(_message.Message):
    __slots__ = ("prev_kv",)
    PREV_KV_FIELD_NUMBER: _ClassVar[int]
    prev_kv: KeyValue
    def __init__(self, prev_kv: _Optional[_Union[KeyValue, _Mapping]] = ...) -> None: ...

class DeleteRangeResult(_message.Message):
    __slots__ = ("deleted", "prev_kvs", "more")
    DELETED_FIELD_NUMBER: _ClassVar[int]
    PREV_KVS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    prev_kvs: _containers.RepeatedCompositeFieldContainer[KeyValue]
    more: bool
    def __init__(self, deleted: _Optional[int] = ..., prev_kvs: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class RangeResult(_message.Message):
    __slots__ = ("kvs", "count", "more", "next_key")
    KVS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    kvs: _containers.RepeatedCompositeFieldContainer[KeyValue]
    count: int
    more: bool
    next_key: bytes
    def __init__(self, kvs: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ..., count: _Optional[int] = ..., more: _Optional[bool] = ..., next_key: _Optional[bytes] = ...) -> None: ...

class TransactionResult(_message.Message):
    __slots__ = ("succeeded", "responses")
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    succeeded: bool
    responses: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, succeeded: _Optional[bool] = ..., responses: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class CompareAndSwapResult(_message.Message):
    __slots__ = ("swapped", "current")
    SWAPPED_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    swapped: bool
    current: KeyValue
    def __init__(self, swapped: _Optional[bool] = ..., current: _Optional[_Union[KeyValue, _Mapping]] = ...) -> None: ...

class LeaseResult(_message.Message):
    __slots__ = ("lease", "ttl_ms")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    lease: int
    ttl_ms: int
    def __init__(self, lease: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class LeaseKeepAliveResult(_message.Message):
    __slots__ = ("ended",)
    ENDED_FIELD_NUMBER: _ClassVar[int]
    ended: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ended: _Optional[_Iterable[int]] = ...) -> None: ...

class AcquireResult(_message.Message):
    __slots__ = ("key", "token", "held", "lease", "ttl_ms", "holder")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    token: int
    held: bool
    lease: int
    ttl_ms: int
    holder: KeyValue
    def __init__(self, key: _Optional[bytes] = ..., token: _Optional[int] = ..., held: _Optional[bool] = ..., lease: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., holder: _Optional[_Union[KeyValue, _Mapping]] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("revision", "put", "delete_range", "range", "transaction", "compare_and_swap", "lease", "failure", "lease_keep_alive", "acquire", "auth")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    COMPARE_AND_SWAP_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    LEASE_KEEP_ALIVE_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    revision: int
    put: PutResult
    delete_range: DeleteRangeResult
    range: RangeResult
    transaction: TransactionResult
    compare_and_swap: CompareAndSwapResult
    lease: LeaseResult
    failure: Failure
    lease_keep_alive: LeaseKeepAliveResult
    acquire: AcquireResult
    auth: _auth_pb2.AuthResult
    def __init__(self, revision: _Optional[int] = ..., put: _Optional[_Union[PutResult, _Mapping]] = ..., delete_range: _Optional[_Union[DeleteRangeResult, _Mapping]] = ..., range: _Optional[_Union[RangeResult, _Mapping]] = ..., transaction: _Optional[_Union[TransactionResult, _Mapping]] = ..., compare_and_swap: _Optional[_Union[CompareAndSwapResult, _Mapping]] = ..., lease: _Optional[_Union[LeaseResult, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., lease_keep_alive: _Optional[_Union[LeaseKeepAliveResult, _Mapping]] = ..., acquire: _Optional[_Union[AcquireResult, _Mapping]] = ..., auth: _Optional[_Union[_auth_pb2.AuthResult, _Mapping]] = ...) -> None: ...

class BatchResult(_message.Message):
    __slots__ = ("results", "failure")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    failure: Failure
    def __init__(self, results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...
