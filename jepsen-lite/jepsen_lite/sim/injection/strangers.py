"""A stranger: a process that is no member sends impossible messages to a node's peer port.

It has what any client can ask for: incarnation, term, members. The simulated cluster has no secret,
but a stranger's messages must change nothing all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random

from jepsen_lite.faults.kinds import Schedule, Stranger
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.nodes.host import Host
from raftkv.errors import InvalidRequest
from raftkv.node.node import Node
from raftkv.peer.codec import decode_frame
from raftkv.peer.handshake import Caller, HandshakeRefused, Refusal
from raftkv.raft.breach import ProtocolBreach
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import kv_pb2, log_pb2, peer_pb2
from raftkv.storage.ports import Start
from raftkv.versions import VersionRange

STRANGER = 999
SECONDS_MIN = 2.0
SHARE = 0.3
"""Of the runs, that meet one."""
FAR = 10**9

Message = peer_pb2.RaftMessage


def _frame(**message: object) -> peer_pb2.Frame:
    return peer_pb2.Frame(messages=[Message(**message)])  # type: ignore[arg-type]


def _forward(term: int) -> peer_pb2.Frame:
    """A put without a key, which no front server lets in."""
    batch = kv_pb2.CommandBatch(commands=[kv_pb2.Command(put=kv_pb2.Put(value=b"no key"))])
    submission = log_pb2.Submission(origin=7, number=1, commands=batch.SerializeToString())
    return peer_pb2.Frame(forwards=[peer_pb2.Forward(term=term, submissions=[submission])])


FRAMES: Mapping[str, Callable[[int], peer_pb2.Frame]] = {
    "heartbeat": lambda term: _frame(term=term, heartbeat=peer_pb2.Heartbeat()),
    "commit": lambda term: _frame(term=term, heartbeat=peer_pb2.Heartbeat(leader_commit=FAR)),
    "later commit": lambda term: _frame(
        term=term + 1, heartbeat=peer_pb2.Heartbeat(leader_commit=FAR)
    ),
    "largest term": lambda _: _frame(term=2**64 - 1, heartbeat=peer_pb2.Heartbeat()),
    "far term": lambda term: _frame(term=term + 2**40, heartbeat=peer_pb2.Heartbeat()),
    "timeout": lambda term: _frame(term=term, timeout_now=peer_pb2.TimeoutNow()),
    "acknowledgement": lambda term: _frame(
        term=term,
        append_entries_reply=peer_pb2.AppendEntriesReply(success=True, match_index=FAR),
    ),
    "snapshot": lambda term: _frame(
        term=term + 1,
        install_snapshot=peer_pb2.InstallSnapshot(last_included_index=FAR, last_included_term=1),
    ),
    "forward": _forward,
}
"""The stranger's messages, by the term that the node is in."""

REFUSALS: Mapping[str, Refusal] = {
    "removed": Refusal.REMOVED,
    "another disk": Refusal.OTHER_DISK,
}
"""The stranger's answers to the node's handshake."""

IMPOSTORS: Mapping[str, Callable[[Node, Caller], Caller]] = {
    "another program": lambda _, caller: replace(caller, versions=VersionRange(FAR, FAR)),
    "a member's id": lambda node, caller: replace(caller, node_id=min(node.membership.members)),
}
"""Greetings that are refused, each for another reason."""


def draw_strangers(rng: Random, nodes: list[str], seconds: float) -> Schedule:
    """In some of the longer runs a stranger connects a few times."""
    if rng.random() >= SHARE or seconds < SECONDS_MIN:
        return ()
    messages = [*FRAMES, *REFUSALS]
    return tuple(
        Stranger(round(rng.uniform(1.0, seconds), 3), 0.0, rng.choice(nodes), rng.choice(messages))
        for _ in range(rng.randint(1, 8))
    )


def call_as_stranger(host: Host, message: str) -> bool:
    """A stranger connects to the node and sends this message. False if the node is down."""
    node, process = host.node, host.process
    if node is None or process is None:
        return False
    process.enter(lambda: process.create_task(_visit(host, node, message)))
    return True


async def _visit(host: Host, node: Node, message: str) -> None:
    caller = Caller(
        STRANGER,
        Address("nowhere:1", "nowhere:2"),
        node.incarnation,
        disk_id=7,
        start=Start(1, 7),
        last_log_index=FAR,
    )
    if message in IMPOSTORS:
        caller = IMPOSTORS[message](node, caller)
    handler = node.peer_handler
    if await handler.admit(caller) is not None:
        return
    if host.port is not None:
        host.port.links.contacted(caller)
    if message in IMPOSTORS:
        raise Violation(f"node {node.node_id} has admitted a caller of {message}")
    if message in REFUSALS:
        handler.refused(STRANGER, HandshakeRefused(REFUSALS[message], "by a stranger"))
        return
    data = FRAMES[message](node.term).SerializeToString()
    with suppress(InvalidRequest, ProtocolBreach):  # the link ends
        handler.receive(STRANGER, decode_frame(data, STRANGER, node.node_id))
