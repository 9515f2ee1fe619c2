from raftkv.rpc.v1 import auth_pb2 as _auth_pb2
from raftkv.rpc.v1 import kv_pb2 as _kv_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    READ_LEVEL_LINEARIZABLE: _ClassVar[ReadLevel]
    READ_LEVEL_STALE: _ClassVar[ReadLevel]
    READ_LEVEL_LEADER_LEASE: _ClassVar[ReadLevel]
    READ_LEVEL_SESSION: _ClassVar[ReadLevel]
    READ_LEVEL_BOUNDED: _ClassVar[ReadLevel]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_FOLLOWER: _ClassVar[Role]
    ROLE_PRE_CANDIDATE: _ClassVar[Role]
    ROLE_CANDIDATE: _ClassVar[Role]
    ROLE_LEADER: _ClassVar[Role]

class Reachability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REACHABILITY_REACHABLE: _ClassVar[Reachability]
    REACHABILITY_SUSPECT: _ClassVar[Reachability]
    REACHABILITY_UNREACHABLE: _ClassVar[Reachability]
READ_LEVEL_LINEARIZABLE: ReadLevel
READ_LEVEL_STALE: ReadLevel
READ_LEVEL_LEADER_LEASE: ReadLevel
READ_LEVEL_SESSION: ReadLevel
READ_LEVEL_BOUNDED: ReadLevel
ROLE_FOLLOWER: Role
ROLE_PRE_CANDIDATE: Role
ROLE_CANDIDATE: Role
ROLE_LEADER: Role
REACHABILITY_REACHABLE: Reachability
REACHABILITY_SUSPECT: Reachability
REACHABILITY_UNREACHABLE: Reachability

class ReplyHeader(_message.Message):
    __slots__ = ("cluster_id", "node_id", "term", "revision", "incarnation")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    cluster_id: int
    node_id: int
    term: int
    revision: int
    incarnation: int
    def __init__(self, cluster_id: _Optional[int] = ..., node_id: _Optional[int] = ..., term: _Optional[int] = ..., revision: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class ExecuteRequest(_message.Message):
    __slots__ = ("command",)
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    command: _kv_pb2.Command
    def __init__(self, command: _Optional[_Union[_kv_pb2.Command, _Mapping]] = ...) -> None: ...

class ExecuteReply(_message.Message):
    __slots__ = ("header", "result")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    result: _kv_pb2.Result
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., result: _Optional[_Union[_kv_pb2.Result, _Mapping]] = ...) -> None: ...

class RangeRequest(_message.Message):
    __slots__ = ("range", "level", "min_revision", "max_staleness_ms")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    range: _kv_pb2.Range
    level: ReadLevel
    min_revision: int
    max_staleness_ms: int
    def __init__(self, range: _Optional[_Union[_kv_pb2.Range, _Mapping]] = ..., level: _Optional[_Union[ReadLevel, str]] = ..., min_revision: _Optional[int] = ..., max_staleness_ms: _Optional[int] = ...) -> None: ...

class RangeReply(_message.Message):
    __slots__ = ("header", "result", "staleness_ms")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    result: _kv_pb2.RangeResult
    staleness_ms: int
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., result: _Optional[_Union[_kv_pb2.RangeResult, _Mapping]] = ..., staleness_ms: _Optional[int] = ...) -> None: ...

class ReadTransactionRequest(_message.Message):
    __slots__ = ("transaction", "level", "min_revision", "max_staleness_ms")
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    transaction: _kv_pb2.Transaction
    level: ReadLevel
    min_revision: int
    max_staleness_ms: int
    def __init__(self, transaction: _Optional[_Union[_kv_pb2.Transaction, _Mapping]] = ..., level: _Optional[_Union[ReadLevel, str]] = ..., min_revision: _Optional[int] = ..., max_staleness_ms: _Optional[int] = ...) -> None: ...

class ReadTransactionReply(_message.Message):
    __slots__ = ("header", "result", "staleness_ms")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    result: _kv_pb2.TransactionResult
    staleness_ms: int
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., result: _Optional[_Union[_kv_pb2.TransactionResult, _Mapping]] = ..., staleness_ms: _Optional[int] = ...) -> None: ...

class LeaseKeepAliveRequest(_message.Message):
    __slots__ = ("leases", "token")
    LEASES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedScalarFieldContainer[int]
    token: str
    def __init__(self, leases: _Optional[_Iterable[int]] = ..., token: _Optional[str] = ...) -> None: ...

class LeaseKeepAliveReply(_message.Message):
    __slots__ = ("header", "leases", "ended")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    leases: _containers.RepeatedScalarFieldContainer[int]
    ended: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., leases: _Optional[_Iterable[int]] = ..., ended: _Optional[_Iterable[int]] = ...) -> None: ...

class LeaseTimeToLiveRequest(_message.Message):
    __slots__ = ("lease", "keys", "keys_after")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    KEYS_AFTER_FIELD_NUMBER: _ClassVar[int]
    lease: int
    keys: bool
    keys_after: bytes
    def __init__(self, lease: _Optional[int] = ..., keys: _Optional[bool] = ..., keys_after: _Optional[bytes] = ...) -> None: ...

class LeaseTimeToLiveReply(_message.Message):
    __slots__ = ("header", "lease", "ttl_ms", "granted_ttl_ms", "keys", "more_keys")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    GRANTED_TTL_MS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    MORE_KEYS_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    lease: int
    ttl_ms: int
    granted_ttl_ms: int
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    more_keys: bool
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., lease: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., granted_ttl_ms: _Optional[int] = ..., keys: _Optional[_Iterable[bytes]] = ..., more_keys: _Optional[bool] = ...) -> None: ...

class LeaseListRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: int
    def __init__(self, after: _Optional[int] = ...) -> None: ...

class LeaseListReply(_message.Message):
    __slots__ = ("header", "leases", "more")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    leases: _containers.RepeatedScalarFieldContainer[int]
    more: bool
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., leases: _Optional[_Iterable[int]] = ..., more: _Optional[bool] = ...) -> None: ...

class LockWaitRequest(_message.Message):
    __slots__ = ("name", "token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    token: int
    def __init__(self, name: _Optional[bytes] = ..., token: _Optional[int] = ...) -> None: ...

class LockWaitReply(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ...) -> None: ...

class LockInfoRequest(_message.Message):
    __slots__ = ("name", "after_token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    after_token: int
    def __init__(self, name: _Optional[bytes] = ..., after_token: _Optional[int] = ...) -> None: ...

class LockMember(_message.Message):
    __slots__ = ("token", "lease", "value", "ttl_ms")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    token: int
    lease: int
    value: bytes
    ttl_ms: int
    def __init__(self, token: _Optional[int] = ..., lease: _Optional[int] = ..., value: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class LockInfoReply(_message.Message):
    __slots__ = ("header", "members", "more")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    members: _containers.RepeatedCompositeFieldContainer[LockMember]
    more: bool
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., members: _Optional[_Iterable[_Union[LockMember, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("creates", "cancels", "progress", "token")
    CREATES_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    creates: _containers.RepeatedCompositeFieldContainer[WatchCreate]
    cancels: _containers.RepeatedScalarFieldContainer[int]
    progress: bool
    token: str
    def __init__(self, creates: _Optional[_Iterable[_Union[WatchCreate, _Mapping]]] = ..., cancels: _Optional[_Iterable[int]] = ..., progress: _Optional[bool] = ..., token: _Optional[str] = ...) -> None: ...

class WatchCreate(_message.Message):
    __slots__ = ("watch_id", "key", "range_end", "start_revision", "prev_kv", "no_put", "no_delete", "progress_notify")
    WATCH_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    START_REVISION_FIELD_NUMBER: _ClassVar[int]
    PREV_KV_FIELD_NUMBER: _ClassVar[int]
    NO_PUT_FIELD_NUMBER: _ClassVar[int]
    NO_DELETE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_NOTIFY_FIELD_NUMBER: _ClassVar[int]
    watch_id: int
    key: bytes
    range_end: bytes
    start_revision: int
    prev_kv: bool
    no_put: bool
    no_delete: bool
    progress_notify: bool
    def __init__(self, watch_id: _Optional[int] = ..., key: _Optional[bytes] = ..., range_end: _Optional[bytes] = ..., start_revision: _Optional[int] = ..., prev_kv: _Optional[bool] = ..., no_put: _Optional[bool] = ..., no_delete: _Optional[bool] = ..., progress_notify: _Optional[bool] = ...) -> None: ...

class WatchEvent(_message.Message):
    __slots__ = ("deleted", "created", "kv", "prev_kv")
    DELETED_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    KV_FIELD_NUMBER: _ClassVar[int]
    PREV_KV_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    created: bool
    kv: _kv_pb2.KeyValue
    prev_kv: _kv_pb2.KeyValue
    def __init__(self, deleted: _Optional[bool] = ..., created: _Optional[bool] = ..., kv: _Optional[_Union[_kv_pb2.KeyValue, _Mapping]] = ..., prev_kv: _Optional[_Union[_kv_pb2.KeyValue, _Mapping]] = ...) -> None: ...

class WatchReply(_message.Message):
    __slots__ = ("header", "news")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NEWS_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    news: _containers.RepeatedCompositeFieldContainer[WatchNews]
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., news: _Optional[_Iterable[_Union[WatchNews, _Mapping]]] = ...) -> None: ...

class WatchNews(_message.Message):
    __slots__ = ("watch_ids", "created", "ended", "events", "revision", "more")
    WATCH_IDS_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    watch_ids: _containers.RepeatedScalarFieldContainer[int]
    created: bool
    ended: _kv_pb2.Failure
    events: _containers.RepeatedCompositeFieldContainer[WatchEvent]
    revision: int
    more: bool
    def __init__(self, watch_ids: _Optional[_Iterable[int]] = ..., created: _Optional[bool] = ..., ended: _Optional[_Union[_kv_pb2.Failure, _Mapping]] = ..., events: _Optional[_Iterable[_Union[WatchEvent, _Mapping]]] = ..., revision: _Optional[int] = ..., more: _Optional[bool] = ...) -> None: ...

class PipelineRequest(_message.Message):
    __slots__ = ("number", "timeout_ms", "commands", "reads", "token")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    number: int
    timeout_ms: int
    commands: bytes
    reads: ReadBatch
    token: str
    def __init__(self, number: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., commands: _Optional[bytes] = ..., reads: _Optional[_Union[ReadBatch, _Mapping]] = ..., token: _Optional[str] = ...) -> None: ...

class ReadBatch(_message.Message):
    __slots__ = ("ranges", "level", "min_revision", "max_staleness_ms", "transactions")
    RANGES_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[_kv_pb2.Range]
    level: ReadLevel
    min_revision: int
    max_staleness_ms: int
    transactions: _containers.RepeatedCompositeFieldContainer[_kv_pb2.Transaction]
    def __init__(self, ranges: _Optional[_Iterable[_Union[_kv_pb2.Range, _Mapping]]] = ..., level: _Optional[_Union[ReadLevel, str]] = ..., min_revision: _Optional[int] = ..., max_staleness_ms: _Optional[int] = ..., transactions: _Optional[_Iterable[_Union[_kv_pb2.Transaction, _Mapping]]] = ...) -> None: ...

class PipelineReply(_message.Message):
    __slots__ = ("number", "header", "results", "reads", "failure", "batch_commands_max")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    BATCH_COMMANDS_MAX_FIELD_NUMBER: _ClassVar[int]
    number: int
    header: ReplyHeader
    results: bytes
    reads: ReadResults
    failure: _kv_pb2.Failure
    batch_commands_max: int
    def __init__(self, number: _Optional[int] = ..., header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., results: _Optional[bytes] = ..., reads: _Optional[_Union[ReadResults, _Mapping]] = ..., failure: _Optional[_Union[_kv_pb2.Failure, _Mapping]] = ..., batch_commands_max: _Optional[int] = ...) -> None: ...

class ReadResults(_message.Message):
    __slots__ = ("results", "staleness_ms")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_kv_pb2.Result]
    staleness_ms: int
    def __init__(self, results: _Optional[_Iterable[_Union[_kv_pb2.Result, _Mapping]]] = ..., staleness_ms: _Optional[int] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("node_id", "peer_address", "client_address", "learner", "started")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    peer_address: str
    client_address: str
    learner: bool
    started: bool
    def __init__(self, node_id: _Optional[int] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ..., learner: _Optional[bool] = ..., started: _Optional[bool] = ...) -> None: ...

class PeerStatus(_message.Message):
    __slots__ = ("node_id", "reachability", "last_contact_ms", "match_index", "replication")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REACHABILITY_FIELD_NUMBER: _ClassVar[int]
    LAST_CONTACT_MS_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    reachability: Reachability
    last_contact_ms: int
    match_index: int
    replication: str
    def __init__(self, node_id: _Optional[int] = ..., reachability: _Optional[_Union[Reachability, str]] = ..., last_contact_ms: _Optional[int] = ..., match_index: _Optional[int] = ..., replication: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("header", "version", "role", "leader_id", "commit_index", "applied_index", "last_log_index", "first_log_index", "compacted_revision", "cluster_time_ms", "disk_bytes", "disk_free_bytes", "memory_bytes", "uptime_ms", "learner", "members", "peers", "cluster_version", "not_serving", "notice")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    NOT_SERVING_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    version: str
    role: Role
    leader_id: int
    commit_index: int
    applied_index: int
    last_log_index: int
    first_log_index: int
    compacted_revision: int
    cluster_time_ms: int
    disk_bytes: int
    disk_free_bytes: int
    memory_bytes: int
    uptime_ms: int
    learner: bool
    members: _containers.RepeatedCompositeFieldContainer[Member]
    peers: _containers.RepeatedCompositeFieldContainer[PeerStatus]
    cluster_version: int
    not_serving: str
    notice: str
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., version: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., leader_id: _Optional[int] = ..., commit_index: _Optional[int] = ..., applied_index: _Optional[int] = ..., last_log_index: _Optional[int] = ..., first_log_index: _Optional[int] = ..., compacted_revision: _Optional[int] = ..., cluster_time_ms: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., uptime_ms: _Optional[int] = ..., learner: _Optional[bool] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., peers: _Optional[_Iterable[_Union[PeerStatus, _Mapping]]] = ..., cluster_version: _Optional[int] = ..., not_serving: _Optional[str] = ..., notice: _Optional[str] = ...) -> None: ...

class MemberListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MemberListReply(_message.Message):
    __slots__ = ("header", "members")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class MemberAddRequest(_message.Message):
    __slots__ = ("member", "force")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    member: Member
    force: bool
    def __init__(self, member: _Optional[_Union[Member, _Mapping]] = ..., force: _Optional[bool] = ...) -> None: ...

class MemberPromoteRequest(_message.Message):
    __slots__ = ("node_id", "force")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    force: bool
    def __init__(self, node_id: _Optional[int] = ..., force: _Optional[bool] = ...) -> None: ...

class MemberRemoveRequest(_message.Message):
    __slots__ = ("node_id", "force")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    force: bool
    def __init__(self, node_id: _Optional[int] = ..., force: _Optional[bool] = ...) -> None: ...

class MemberReplaceRequest(_message.Message):
    __slots__ = ("old_id", "new_id", "force")
    OLD_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    old_id: int
    new_id: int
    force: bool
    def __init__(self, old_id: _Optional[int] = ..., new_id: _Optional[int] = ..., force: _Optional[bool] = ...) -> None: ...

class MemberUpdateRequest(_message.Message):
    __slots__ = ("member",)
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    member: Member
    def __init__(self, member: _Optional[_Union[Member, _Mapping]] = ...) -> None: ...

class MemberJoinRequest(_message.Message):
    __slots__ = ("node_id", "disk_id", "version_min", "version_max", "peer_address", "client_address")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_MIN_FIELD_NUMBER: _ClassVar[int]
    VERSION_MAX_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    disk_id: int
    version_min: int
    version_max: int
    peer_address: str
    client_address: str
    def __init__(self, node_id: _Optional[int] = ..., disk_id: _Optional[int] = ..., version_min: _Optional[int] = ..., version_max: _Optional[int] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ...) -> None: ...

class TransferLeaderRequest(_message.Message):
    __slots__ = ("node_id",)
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    def __init__(self, node_id: _Optional[int] = ...) -> None: ...

class TransferLeaderReply(_message.Message):
    __slots__ = ("header", "leader_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    leader_id: int
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., leader_id: _Optional[int] = ...) -> None: ...

class SetLogLevelRequest(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: str
    def __init__(self, level: _Optional[str] = ...) -> None: ...

class SetLogLevelReply(_message.Message):
    __slots__ = ("previous", "header")
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    previous: str
    header: ReplyHeader
    def __init__(self, previous: _Optional[str] = ..., header: _Optional[_Union[ReplyHeader, _Mapping]] = ...) -> None: ...

class ReloadConfigRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadConfigReply(_message.Message):
    __slots__ = ("header", "changed", "needs_restart")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    NEEDS_RESTART_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    changed: _containers.RepeatedCompositeFieldContainer[SettingChange]
    needs_restart: _containers.RepeatedCompositeFieldContainer[SettingChange]
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., changed: _Optional[_Iterable[_Union[SettingChange, _Mapping]]] = ..., needs_restart: _Optional[_Iterable[_Union[SettingChange, _Mapping]]] = ...) -> None: ...

class SettingChange(_message.Message):
    __slots__ = ("name", "before", "after")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    before: str
    after: str
    def __init__(self, name: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class BackupReply(_message.Message):
    __slots__ = ("header", "backup", "rows", "end")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BACKUP_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    backup: BackupHeader
    rows: bytes
    end: BackupEnd
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., backup: _Optional[_Union[BackupHeader, _Mapping]] = ..., rows: _Optional[bytes] = ..., end: _Optional[_Union[BackupEnd, _Mapping]] = ...) -> None: ...

class BackupHeader(_message.Message):
    __slots__ = ("cluster_id", "cluster_name", "incarnation", "node_id", "revision", "applied_index", "applied_term", "cluster_time_ms", "cluster_version", "version")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_TERM_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    cluster_id: int
    cluster_name: str
    incarnation: int
    node_id: int
    revision: int
    applied_index: int
    applied_term: int
    cluster_time_ms: int
    cluster_version: int
    version: str
    def __init__(self, cluster_id: _Optional[int] = ..., cluster_name: _Optional[str] = ..., incarnation: _Optional[int] = ..., node_id: _Optional[int] = ..., revision: _Optional[int] = ..., applied_index: _Optional[int] = ..., applied_term: _Optional[int] = ..., cluster_time_ms: _Optional[int] = ..., cluster_version: _Optional[int] = ..., version: _Optional[str] = ...) -> None: ...

class BackupFileHeader(_message.Message):
    __slots__ = ("id", "saved_ms", "backup")
    ID_FIELD_NUMBER: _ClassVar[int]
    SAVED_MS_FIELD_NUMBER: _ClassVar[int]
    BACKUP_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    saved_ms: int
    backup: BackupHeader
    def __init__(self, id: _Optional[bytes] = ..., saved_ms: _Optional[int] = ..., backup: _Optional[_Union[BackupHeader, _Mapping]] = ...) -> None: ...

class BackupRow(_message.Message):
    __slots__ = ("family", "key", "value")
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    family: str
    key: bytes
    value: bytes
    def __init__(self, family: _Optional[str] = ..., key: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class BackupRows(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[BackupRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[BackupRow, _Mapping]]] = ...) -> None: ...

class BackupEnd(_message.Message):
    __slots__ = ("rows", "rows_bytes", "rows_sha256")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_SHA256_FIELD_NUMBER: _ClassVar[int]
    rows: int
    rows_bytes: int
    rows_sha256: bytes
    def __init__(self, rows: _Optional[int] = ..., rows_bytes: _Optional[int] = ..., rows_sha256: _Optional[bytes] = ...) -> None: ...

class AuthChangeReply(_message.Message):
    __slots__ = ("header", "auth_revision")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    AUTH_REVISION_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    auth_revision: int
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., auth_revision: _Optional[int] = ...) -> None: ...

class AuthenticateRequest(_message.Message):
    __slots__ = ("name", "password")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    name: str
    password: str
    def __init__(self, name: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class AuthenticateReply(_message.Message):
    __slots__ = ("header", "token", "ttl_ms")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    token: str
    ttl_ms: int
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., token: _Optional[str] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class AuthEnableRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuthDisableRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuthStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuthStatusReply(_message.Message):
    __slots__ = ("header", "enabled", "auth_revision", "user")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    AUTH_REVISION_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    enabled: bool
    auth_revision: int
    user: str
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., enabled: _Optional[bool] = ..., auth_revision: _Optional[int] = ..., user: _Optional[str] = ...) -> None: ...

class UserAddRequest(_message.Message):
    __slots__ = ("name", "password")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    name: str
    password: str
    def __init__(self, name: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class UserInfo(_message.Message):
    __slots__ = ("name", "roles", "has_password")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    HAS_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    name: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    has_password: bool
    def __init__(self, name: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., has_password: _Optional[bool] = ...) -> None: ...

class UserGetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UserGetReply(_message.Message):
    __slots__ = ("header", "user")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    user: UserInfo
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., user: _Optional[_Union[UserInfo, _Mapping]] = ...) -> None: ...

class UserListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UserListReply(_message.Message):
    __slots__ = ("header", "users")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    users: _containers.RepeatedCompositeFieldContainer[UserInfo]
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., users: _Optional[_Iterable[_Union[UserInfo, _Mapping]]] = ...) -> None: ...

class UserDeleteRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UserSetPasswordRequest(_message.Message):
    __slots__ = ("name", "password")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    name: str
    password: str
    def __init__(self, name: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class UserGrantRoleRequest(_message.Message):
    __slots__ = ("name", "role")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class UserRevokeRoleRequest(_message.Message):
    __slots__ = ("name", "role")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class RoleAddRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RoleGetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RoleGetReply(_message.Message):
    __slots__ = ("header", "role")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    role: _auth_pb2.AuthRole
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., role: _Optional[_Union[_auth_pb2.AuthRole, _Mapping]] = ...) -> None: ...

class RoleListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RoleListReply(_message.Message):
    __slots__ = ("header", "roles")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    roles: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., roles: _Optional[_Iterable[str]] = ...) -> None: ...

class RoleDeleteRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RoleGrantRequest(_message.Message):
    __slots__ = ("role", "permission", "admin_right")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    ADMIN_RIGHT_FIELD_NUMBER: _ClassVar[int]
    role: str
    permission: _auth_pb2.Permission
    admin_right: _auth_pb2.AdminRight
    def __init__(self, role: _Optional[str] = ..., permission: _Optional[_Union[_auth_pb2.Permission, _Mapping]] = ..., admin_right: _Optional[_Union[_auth_pb2.AdminRight, str]] = ...) -> None: ...

class RoleRevokeRequest(_message.Message):
    __slots__ = ("role", "permission", "admin_right")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    ADMIN_RIGHT_FIELD_NUMBER: _ClassVar[int]
    role: str
    permission: _auth_pb2.Permission
    admin_right: _auth_pb2.AdminRight
    def __init__(self, role: _Optional[str] = ..., permission: _Optional[_Union[_auth_pb2.Permission, _Mapping]] = ..., admin_right: _Optional[_Union[_auth_pb2.AdminRight, str]] = ...) -> None: ...

class TokenCreateRequest(_message.Message):
    __slots__ = ("user", "ttl_ms")
    USER_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    user: str
    ttl_ms: int
    def __init__(self, user: _Optional[str] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class TokenCreateReply(_message.Message):
    __slots__ = ("header", "id", "token")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    id: str
    token: str
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., id: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class TokenInfo(_message.Message):
    __slots__ = ("id", "user", "left_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    user: str
    left_ms: int
    def __init__(self, id: _Optional[str] = ..., user: _Optional[str] = ..., left_ms: _Optional[int] = ...) -> None: ...

class TokenListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TokenListReply(_message.Message):
    __slots__ = ("header", "tokens")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    tokens: _containers.RepeatedCompositeFieldContainer[TokenInfo]
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., tokens: _Optional[_Iterable[_Union[TokenInfo, _Mapping]]] = ...) -> None: ...

class TokenRevokeRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...
