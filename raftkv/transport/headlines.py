"""What a frame's messages are about, in a few words each: for traces and diagrams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    InstallSnapshot,
    Message,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
)
from raftkv.transport.ports import Frame


@dataclass(frozen=True, slots=True)
class Headline:
    """Of one message; `index` is None if it is about none."""

    kind: str
    term: int
    index: int | None


def headlines(frame: Frame) -> Iterator[Headline]:
    """Of all that the frame holds: the messages, then the forwards."""
    for message in frame.messages:
        yield Headline(_kind(message), message.term, _index(message))
    for forward in frame.forwards:
        yield Headline(f"Forward +{len(forward.submissions)}", forward.term, None)


def _kind(message: Message) -> str:
    """The message's name, and what matters most of the rest."""
    match message:
        case RequestVote():
            name = "PreVote" if message.pre_vote else "RequestVote"
            return f"{name} (log of t{message.last_log_term})"
        case RequestVoteReply():
            name = "PreVoteReply" if message.pre_vote else "RequestVoteReply"
            return f"{name} {'yes' if message.granted else 'no'}"
        case AppendEntries() if message.entries:
            return f"AppendEntries +{len(message.entries)}"
        case AppendEntriesReply() if not message.success:
            return "AppendEntriesReply no"
    return type(message).__name__


def _index(message: Message) -> int | None:
    """The last index that it is about, if it is about one."""
    match message:
        case RequestVote():
            return message.last_log_index
        case AppendEntries():
            return message.prev_log_index + len(message.entries)
        case AppendEntriesReply():
            return message.match_index
        case Heartbeat():
            return message.leader_commit
        case InstallSnapshot():
            return message.snapshot.last_included_index
        case ReadIndexReply():
            return message.read_index
    return None
