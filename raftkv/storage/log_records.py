"""The encoding of the log's records on disk: a CRC-32C, a fixed header, the payload.

    entry              crc | term, index, kind | payload
    hard state         crc | current term, voted for, commit index
    compaction point   crc | index, term, running hash
    starts             crc | own start, then per member: id, start, acknowledged index

The checksum covers all bytes after it. RocksDB has checksums of its own; this one also detects
damage between the caller and RocksDB.
"""

from __future__ import annotations

import struct

from google_crc32c import value as crc32c

from raftkv.errors import DamagedData
from raftkv.raft.entry import Entry, EntryKind, HardState
from raftkv.raft.running_hash import UNKNOWN
from raftkv.storage.damage import damaged
from raftkv.storage.ports import MemberNote, Start, Starts

_CRC = struct.Struct(">I")
_ENTRY = struct.Struct(">QQB")
_HARD_STATE = struct.Struct(">QQQ")
_COMPACTION_POINT = struct.Struct(">QQQ")
_COMPACTION_POINT_0 = struct.Struct(">QQ")  # of raftkv 0.1.0, which had no running hash
_START = struct.Struct(">QQ")
_NOTE = struct.Struct(">QQQQ")
_INDEX = struct.Struct(">Q")

_KINDS = {kind.value: kind for kind in EntryKind}

# Big-endian, so that the order of the keys is the order of the log.
entry_key = _INDEX.pack

HARD_STATE_KEY = b"\xffhard state"
COMPACTION_POINT_KEY = b"\xffcompaction point"
STARTS_KEY = b"\xffstarts"
ENTRIES_END = b"\xff"
"""Greater than the key of every entry: an index has 63 bits."""


def encode_entry(entry: Entry) -> bytes:
    return _sealed(_ENTRY.pack(entry.term, entry.index, entry.kind) + entry.payload)


def decode_entry(key: bytes, record: bytes) -> Entry:
    """The entry that was stored under `key`. Raises `DamagedData`."""
    index = int.from_bytes(key, "big")
    body = _opened(record, _ENTRY.size, f"entry {index}")
    term, own_index, kind = _ENTRY.unpack_from(body)
    if own_index != index or kind not in _KINDS:
        raise damaged_record(f"entry {index}")
    return Entry(term=term, index=index, kind=_KINDS[kind], payload=body[_ENTRY.size :])


def encode_hard_state(state: HardState) -> bytes:
    return _sealed(_HARD_STATE.pack(state.current_term, state.voted_for, state.commit_index))


def decode_hard_state(record: bytes) -> HardState:
    current_term, voted_for, commit_index = _HARD_STATE.unpack(
        _opened(record, _HARD_STATE.size, "the hard state")
    )
    return HardState(current_term=current_term, voted_for=voted_for, commit_index=commit_index)


def encode_compaction_point(index: int, term: int, running_hash: int) -> bytes:
    return _sealed(_COMPACTION_POINT.pack(index, term, running_hash))


def decode_compaction_point(record: bytes) -> tuple[int, int, int]:
    """Index, term and running hash of the last compacted entry."""
    body = _opened(record, _COMPACTION_POINT_0.size, "the compaction point")
    if len(body) == _COMPACTION_POINT_0.size:
        index, term = _COMPACTION_POINT_0.unpack(body)
        return index, term, UNKNOWN
    index, term, running_hash = _COMPACTION_POINT.unpack(body)
    return index, term, running_hash


def encode_starts(starts: Starts) -> bytes:
    notes = [
        _NOTE.pack(member, note.start.number, note.start.id, note.index)
        for member, note in sorted(starts.notes.items())
    ]
    return _sealed(_START.pack(starts.own.number, starts.own.id) + b"".join(notes))


def decode_starts(record: bytes) -> Starts:
    body = _opened(record, _START.size, "the record of starts")
    notes = {
        member: MemberNote(Start(number, start_id), index)
        for member, number, start_id, index in _NOTE.iter_unpack(body[_START.size :])
    }
    return Starts(Start(*_START.unpack_from(body)), notes)


def damaged_record(what: str) -> DamagedData:
    """The error for a damaged record of the log."""
    return damaged(f"{what} in this node's log is damaged", record=what)


def _sealed(body: bytes) -> bytes:
    return _CRC.pack(crc32c(body)) + body


def _opened(record: bytes, size_min: int, what: str) -> bytes:
    body = record[_CRC.size :]
    if len(body) < size_min or _CRC.unpack_from(record)[0] != crc32c(body):
        raise damaged_record(what)
    return body
