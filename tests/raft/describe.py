"""Messages, writes and nodes in one line each, for transcripts and traces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftkv.raft.entry import Entry, Membership, SnapshotPoint
from raftkv.raft.messages import Message
from tests.raft.node import SimulatedNode


def written(entries: Sequence[Entry]) -> str:
    """What a write puts on disk."""
    if not entries:
        return "its term and vote"
    terms = sorted({entry.term for entry in entries})
    return f"{entries[0].index}..{entries[-1].index} of term {', '.join(map(str, terms))}"


def describe(message: Message) -> str:
    """A message and all its fields but the empty ones and the hashes."""
    shown = []
    for name in type(message).__dataclass_fields__:
        value = getattr(message, name)
        if name in ("sender", "recipient") or name.endswith("_hash") or value in (False, ()):
            continue
        if name == "entries":
            shown.append(f"entries={value[0].index}..{value[-1].index}")
        elif isinstance(value, SnapshotPoint):
            shown.append(f"last_included=({value.last_included_index},{value.last_included_term})")
        else:
            shown.append(name if value is True else f"{name}={value}")
    return f"{message.sender} -> {message.recipient} {type(message).__name__} {' '.join(shown)}"


def table(nodes: Iterable[SimulatedNode]) -> list[str]:
    """One row per node; the log is the terms of its entries."""
    rows = [("node", "role", "term", "vote", "commit", "applied", "membership", "log")]
    for node in nodes:
        if not node.up:
            rows.append((str(node.node_id), "down", "", "", "", "", "", ""))
            continue
        raft, log = node.raft, node.raft.log
        terms = [str(log.term(i)) for i in range(log.first_index, log.last_index + 1)]
        rows.append(
            (
                str(node.node_id),
                raft.role.name.lower().replace("_", "-"),
                str(raft.current_term),
                str(raft.voted_for),
                str(raft.commit_index),
                str(raft.last_applied),
                _membership(raft.membership),
                f"{log.first_index}: " + " ".join(terms),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _membership(membership: Membership) -> str:
    parts = [",".join(map(str, sorted(membership.voters)))]
    if membership.voters_outgoing:
        parts.append("from " + ",".join(map(str, sorted(membership.voters_outgoing))))
    if membership.learners:
        parts.append("learners " + ",".join(map(str, sorted(membership.learners))))
    return " ".join(parts) or "-"
