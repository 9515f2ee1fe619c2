"""Messages and writes in one line each, for transcripts and traces."""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.raft.entry import Entry, SnapshotPoint
from raftkv.raft.messages import Message


def written(entries: Sequence[Entry]) -> str:
    """What a write puts on disk."""
    if not entries:
        return "its term and vote"
    terms = sorted({entry.term for entry in entries})
    return f"{entries[0].index}..{entries[-1].index} of term {', '.join(map(str, terms))}"


def describe(message: Message) -> str:
    """A message and all its fields but the empty ones."""
    shown = []
    for name in type(message).__dataclass_fields__:
        value = getattr(message, name)
        if name in ("sender", "recipient") or value in (False, ()):
            continue
        if name == "entries":
            shown.append(f"entries={value[0].index}..{value[-1].index}")
        elif isinstance(value, SnapshotPoint):
            shown.append(f"last_included=({value.last_included_index},{value.last_included_term})")
        else:
            shown.append(name if value is True else f"{name}={value}")
    return f"{message.sender} -> {message.recipient} {type(message).__name__} {' '.join(shown)}"
