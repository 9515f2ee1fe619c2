from raftkv.rpc.v1 import kv_pb2 as _kv_pb2
from raftkv.rpc.v1 import log_pb2 as _log_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("cluster_id", "incarnation", "node_id", "to", "peer_address", "client_address", "version_min", "version_max", "disk_id", "start_number", "start_id", "last_log_index", "nonce")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_MIN_FIELD_NUMBER: _ClassVar[int]
    VERSION_MAX_FIELD_NUMBER: _ClassVar[int]
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    START_NUMBER_FIELD_NUMBER: _ClassVar[int]
    START_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    cluster_id: int
    incarnation: int
    node_id: int
    to: int
    peer_address: str
    client_address: str
    version_min: int
    version_max: int
    disk_id: int
    start_number: int
    start_id: int
    last_log_index: int
    nonce: bytes
    def __init__(self, cluster_id: _Optional[int] = ..., incarnation: _Optional[int] = ..., node_id: _Optional[int] = ..., to: _Optional[int] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ..., version_min: _Optional[int] = ..., version_max: _Optional[int] = ..., disk_id: _Optional[int] = ..., start_number: _Optional[int] = ..., start_id: _Optional[int] = ..., last_log_index: _Optional[int] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class PeerReply(_message.Message):
    __slots__ = ("challenge", "admitted", "founding", "bytes_received")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    FOUNDING_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    challenge: Challenge
    admitted: bool
    founding: Founding
    bytes_received: int
    def __init__(self, challenge: _Optional[_Union[Challenge, _Mapping]] = ..., admitted: _Optional[bool] = ..., founding: _Optional[_Union[Founding, _Mapping]] = ..., bytes_received: _Optional[int] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("node_id", "nonce", "proof", "version_min", "version_max", "cluster_version")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    VERSION_MIN_FIELD_NUMBER: _ClassVar[int]
    VERSION_MAX_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    nonce: bytes
    proof: bytes
    version_min: int
    version_max: int
    cluster_version: int
    def __init__(self, node_id: _Optional[int] = ..., nonce: _Optional[bytes] = ..., proof: _Optional[bytes] = ..., version_min: _Optional[int] = ..., version_max: _Optional[int] = ..., cluster_version: _Optional[int] = ...) -> None: ...

class Founding(_message.Message):
    __slots__ = ("stage", "incarnation", "membership", "all_stored", "disk_id", "founders", "refusal", "version_min", "version_max")
    class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STAGE_EMPTY: _ClassVar[Founding.Stage]
        STAGE_STORED: _ClassVar[Founding.Stage]
        STAGE_STARTED: _ClassVar[Founding.Stage]
    STAGE_EMPTY: Founding.Stage
    STAGE_STORED: Founding.Stage
    STAGE_STARTED: Founding.Stage
    STAGE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    ALL_STORED_FIELD_NUMBER: _ClassVar[int]
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    FOUNDERS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    VERSION_MIN_FIELD_NUMBER: _ClassVar[int]
    VERSION_MAX_FIELD_NUMBER: _ClassVar[int]
    stage: Founding.Stage
    incarnation: int
    membership: bytes
    all_stored: bool
    disk_id: int
    founders: bytes
    refusal: str
    version_min: int
    version_max: int
    def __init__(self, stage: _Optional[_Union[Founding.Stage, str]] = ..., incarnation: _Optional[int] = ..., membership: _Optional[bytes] = ..., all_stored: _Optional[bool] = ..., disk_id: _Optional[int] = ..., founders: _Optional[bytes] = ..., refusal: _Optional[str] = ..., version_min: _Optional[int] = ..., version_max: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("messages", "forwards", "lamport", "proof", "founding", "forwards_refused", "acknowledged", "state_marks", "history_needed")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    FORWARDS_FIELD_NUMBER: _ClassVar[int]
    LAMPORT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    FOUNDING_FIELD_NUMBER: _ClassVar[int]
    FORWARDS_REFUSED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    STATE_MARKS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_NEEDED_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[RaftMessage]
    forwards: _containers.RepeatedCompositeFieldContainer[Forward]
    lamport: int
    proof: bytes
    founding: Founding
    forwards_refused: _containers.RepeatedCompositeFieldContainer[ForwardRefused]
    acknowledged: _containers.RepeatedCompositeFieldContainer[Acknowledged]
    state_marks: _containers.RepeatedCompositeFieldContainer[StateMark]
    history_needed: int
    def __init__(self, messages: _Optional[_Iterable[_Union[RaftMessage, _Mapping]]] = ..., forwards: _Optional[_Iterable[_Union[Forward, _Mapping]]] = ..., lamport: _Optional[int] = ..., proof: _Optional[bytes] = ..., founding: _Optional[_Union[Founding, _Mapping]] = ..., forwards_refused: _Optional[_Iterable[_Union[ForwardRefused, _Mapping]]] = ..., acknowledged: _Optional[_Iterable[_Union[Acknowledged, _Mapping]]] = ..., state_marks: _Optional[_Iterable[_Union[StateMark, _Mapping]]] = ..., history_needed: _Optional[int] = ...) -> None: ...

class StateMark(_message.Message):
    __slots__ = ("index", "hash")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    index: int
    hash: int
    def __init__(self, index: _Optional[int] = ..., hash: _Optional[int] = ...) -> None: ...

class Acknowledged(_message.Message):
    __slots__ = ("node_id", "index", "start_id")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    START_ID_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    index: int
    start_id: int
    def __init__(self, node_id: _Optional[int] = ..., index: _Optional[int] = ..., start_id: _Optional[int] = ...) -> None: ...

class RaftMessage(_message.Message):
    __slots__ = ("term", "request_vote", "request_vote_reply", "append_entries", "append_entries_reply", "heartbeat", "heartbeat_reply", "install_snapshot", "read_index", "read_index_reply", "timeout_now", "vector_clock")
    TERM_FIELD_NUMBER: _ClassVar[int]
    REQUEST_VOTE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    APPEND_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    APPEND_ENTRIES_REPLY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_REPLY_FIELD_NUMBER: _ClassVar[int]
    INSTALL_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REPLY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_NOW_FIELD_NUMBER: _ClassVar[int]
    VECTOR_CLOCK_FIELD_NUMBER: _ClassVar[int]
    term: int
    request_vote: RequestVote
    request_vote_reply: RequestVoteReply
    append_entries: AppendEntries
    append_entries_reply: AppendEntriesReply
    heartbeat: Heartbeat
    heartbeat_reply: HeartbeatReply
    install_snapshot: InstallSnapshot
    read_index: ReadIndex
    read_index_reply: ReadIndexReply
    timeout_now: TimeoutNow
    vector_clock: bytes
    def __init__(self, term: _Optional[int] = ..., request_vote: _Optional[_Union[RequestVote, _Mapping]] = ..., request_vote_reply: _Optional[_Union[RequestVoteReply, _Mapping]] = ..., append_entries: _Optional[_Union[AppendEntries, _Mapping]] = ..., append_entries_reply: _Optional[_Union[AppendEntriesReply, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., heartbeat_reply: _Optional[_Union[HeartbeatReply, _Mapping]] = ..., install_snapshot: _Optional[_Union[InstallSnapshot, _Mapping]] = ..., read_index: _Optional[_Union[ReadIndex, _Mapping]] = ..., read_index_reply: _Optional[_Union[ReadIndexReply, _Mapping]] = ..., timeout_now: _Optional[_Union[TimeoutNow, _Mapping]] = ..., vector_clock: _Optional[bytes] = ...) -> None: ...

class RequestVote(_message.Message):
    __slots__ = ("last_log_index", "last_log_term", "pre_vote", "leadership_transfer", "last_log_hash")
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_FIELD_NUMBER: _ClassVar[int]
    LEADERSHIP_TRANSFER_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_HASH_FIELD_NUMBER: _ClassVar[int]
    last_log_index: int
    last_log_term: int
    pre_vote: bool
    leadership_transfer: bool
    last_log_hash: int
    def __init__(self, last_log_index: _Optional[int] = ..., last_log_term: _Optional[int] = ..., pre_vote: _Optional[bool] = ..., leadership_transfer: _Optional[bool] = ..., last_log_hash: _Optional[int] = ...) -> None: ...

class RequestVoteReply(_message.Message):
    __slots__ = ("granted", "pre_vote")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_FIELD_NUMBER: _ClassVar[int]
    granted: bool
    pre_vote: bool
    def __init__(self, granted: _Optional[bool] = ..., pre_vote: _Optional[bool] = ...) -> None: ...

class AppendEntries(_message.Message):
    __slots__ = ("prev_log_index", "prev_log_term", "leader_commit", "entries", "prev_log_hash")
    PREV_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREV_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_COMMIT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    PREV_LOG_HASH_FIELD_NUMBER: _ClassVar[int]
    prev_log_index: int
    prev_log_term: int
    leader_commit: int
    entries: _containers.RepeatedCompositeFieldContainer[_log_pb2.Entry]
    prev_log_hash: int
    def __init__(self, prev_log_index: _Optional[int] = ..., prev_log_term: _Optional[int] = ..., leader_commit: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[_log_pb2.Entry, _Mapping]]] = ..., prev_log_hash: _Optional[int] = ...) -> None: ...

class AppendEntriesReply(_message.Message):
    __slots__ = ("success", "match_index", "conflict_index", "conflict_term", "match_hash")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONFLICT_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONFLICT_TERM_FIELD_NUMBER: _ClassVar[int]
    MATCH_HASH_FIELD_NUMBER: _ClassVar[int]
    success: bool
    match_index: int
    conflict_index: int
    conflict_term: int
    match_hash: int
    def __init__(self, success: _Optional[bool] = ..., match_index: _Optional[int] = ..., conflict_index: _Optional[int] = ..., conflict_term: _Optional[int] = ..., match_hash: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("leader_commit", "read_round")
    LEADER_COMMIT_FIELD_NUMBER: _ClassVar[int]
    READ_ROUND_FIELD_NUMBER: _ClassVar[int]
    leader_commit: int
    read_round: int
    def __init__(self, leader_commit: _Optional[int] = ..., read_round: _Optional[int] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("read_round",)
    READ_ROUND_FIELD_NUMBER: _ClassVar[int]
    read_round: int
    def __init__(self, read_round: _Optional[int] = ...) -> None: ...

class InstallSnapshot(_message.Message):
    __slots__ = ("last_included_index", "last_included_term", "membership", "last_included_hash", "incarnation")
    LAST_INCLUDED_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_INCLUDED_TERM_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    LAST_INCLUDED_HASH_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    last_included_index: int
    last_included_term: int
    membership: _log_pb2.Membership
    last_included_hash: int
    incarnation: int
    def __init__(self, last_included_index: _Optional[int] = ..., last_included_term: _Optional[int] = ..., membership: _Optional[_Union[_log_pb2.Membership, _Mapping]] = ..., last_included_hash: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class ReadIndex(_message.Message):
    __slots__ = ("context",)
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    context: int
    def __init__(self, context: _Optional[int] = ...) -> None: ...

class ReadIndexReply(_message.Message):
    __slots__ = ("context", "read_index")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_FIELD_NUMBER: _ClassVar[int]
    context: int
    read_index: int
    def __init__(self, context: _Optional[int] = ..., read_index: _Optional[int] = ...) -> None: ...

class TimeoutNow(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ForwardRefused(_message.Message):
    __slots__ = ("term", "number", "failure")
    TERM_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    term: int
    number: int
    failure: _kv_pb2.Failure
    def __init__(self, term: _Optional[int] = ..., number: _Optional[int] = ..., failure: _Optional[_Union[_kv_pb2.Failure, _Mapping]] = ...) -> None: ...

class Forward(_message.Message):
    __slots__ = ("term", "settled", "submissions", "vector_clock")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_CLOCK_FIELD_NUMBER: _ClassVar[int]
    term: int
    settled: int
    submissions: _containers.RepeatedCompositeFieldContainer[_log_pb2.Submission]
    vector_clock: bytes
    def __init__(self, term: _Optional[int] = ..., settled: _Optional[int] = ..., submissions: _Optional[_Iterable[_Union[_log_pb2.Submission, _Mapping]]] = ..., vector_clock: _Optional[bytes] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("term", "snapshot", "file", "offset", "data", "crc32c", "last", "total_bytes", "proof")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    term: int
    snapshot: InstallSnapshot
    file: str
    offset: int
    data: bytes
    crc32c: int
    last: bool
    total_bytes: int
    proof: bytes
    def __init__(self, term: _Optional[int] = ..., snapshot: _Optional[_Union[InstallSnapshot, _Mapping]] = ..., file: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., crc32c: _Optional[int] = ..., last: _Optional[bool] = ..., total_bytes: _Optional[int] = ..., proof: _Optional[bytes] = ...) -> None: ...
