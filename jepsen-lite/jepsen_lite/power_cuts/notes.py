"""The notes of a recorded workload: what it asked of the stores, and what they acknowledged.

A note is a line of a file in the recorded directory, so the recording has it in its order among the
file operations. A request is noted before it is made, and once more when it has returned.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from raftkv.raft.entry import Entry, EntryKind, HardState

NOTES = "notes"
"""The name of the file, below the recorded directory."""

Note: TypeAlias = "dict[str, Any]"


class NoteFile:
    """Writes notes."""

    def __init__(self, root: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(root / NOTES, flags, 0o600)

    def begin(self, request: str, **arguments: Any) -> None:
        """The next request to a store begins now."""
        self._write({"begin": request, **arguments})

    def acknowledged(self, request: str) -> None:
        """The request has returned: what it promises holds from now on."""
        self._write({"acknowledged": request})

    def _write(self, note: Note) -> None:
        line = json.dumps(note).encode() + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError("a note was cut short")


def read_note(line: bytes) -> Note:
    """The note of one write."""
    note: Note = json.loads(line)
    return note


def pack_entries(entries: Sequence[Entry]) -> list[list[Any]]:
    """Entries as JSON."""
    return [[each.term, each.index, each.kind.value, each.payload.hex()] for each in entries]


def unpack_entries(packed: Sequence[Sequence[Any]]) -> tuple[Entry, ...]:
    """The entries of `pack_entries`."""
    return tuple(
        Entry(term, index, EntryKind(kind), bytes.fromhex(payload))
        for term, index, kind, payload in packed
    )


def pack_hard_state(hard_state: HardState | None) -> list[int] | None:
    """A hard state as JSON."""
    if hard_state is None:
        return None
    return [hard_state.current_term, hard_state.voted_for, hard_state.commit_index]


def unpack_hard_state(packed: Sequence[int] | None) -> HardState | None:
    """The hard state of `pack_hard_state`."""
    return None if packed is None else HardState(*packed)
