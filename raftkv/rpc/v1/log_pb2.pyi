from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_KIND_NOOP: _ClassVar[EntryKind]
    ENTRY_KIND_COMMANDS: _ClassVar[EntryKind]
    ENTRY_KIND_MEMBERSHIP: _ClassVar[EntryKind]
    ENTRY_KIND_VERSION: _ClassVar[EntryKind]
ENTRY_KIND_NOOP: EntryKind
ENTRY_KIND_COMMANDS: EntryKind
ENTRY_KIND_MEMBERSHIP: EntryKind
ENTRY_KIND_VERSION: EntryKind

class Entry(_message.Message):
    __slots__ = ("term", "index", "kind", "payload")
    TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    term: int
    index: int
    kind: EntryKind
    payload: bytes
    def __init__(self, term: _Optional[int] = ..., index: _Optional[int] = ..., kind: _Optional[_Union[EntryKind, str]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class StampedBatch(_message.Message):
    __slots__ = ("time_ms", "submissions")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    submissions: _containers.RepeatedCompositeFieldContainer[Submission]
    def __init__(self, time_ms: _Optional[int] = ..., submissions: _Optional[_Iterable[_Union[Submission, _Mapping]]] = ...) -> None: ...

class Submission(_message.Message):
    __slots__ = ("origin", "number", "commands", "client", "user", "auth_revision")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    AUTH_REVISION_FIELD_NUMBER: _ClassVar[int]
    origin: int
    number: int
    commands: bytes
    client: int
    user: int
    auth_revision: int
    def __init__(self, origin: _Optional[int] = ..., number: _Optional[int] = ..., commands: _Optional[bytes] = ..., client: _Optional[int] = ..., user: _Optional[int] = ..., auth_revision: _Optional[int] = ...) -> None: ...

class MemberAddress(_message.Message):
    __slots__ = ("node_id", "peer_address", "client_address", "disk_id")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    peer_address: str
    client_address: str
    disk_id: int
    def __init__(self, node_id: _Optional[int] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ..., disk_id: _Optional[int] = ...) -> None: ...

class Membership(_message.Message):
    __slots__ = ("voters", "voters_outgoing", "learners", "addresses", "removed")
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    VOTERS_OUTGOING_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    voters: _containers.RepeatedScalarFieldContainer[int]
    voters_outgoing: _containers.RepeatedScalarFieldContainer[int]
    learners: _containers.RepeatedScalarFieldContainer[int]
    addresses: _containers.RepeatedCompositeFieldContainer[MemberAddress]
    removed: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, voters: _Optional[_Iterable[int]] = ..., voters_outgoing: _Optional[_Iterable[int]] = ..., learners: _Optional[_Iterable[int]] = ..., addresses: _Optional[_Iterable[_Union[MemberAddress, _Mapping]]] = ..., removed: _Optional[_Iterable[int]] = ...) -> None: ...
