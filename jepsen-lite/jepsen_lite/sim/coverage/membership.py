"""Observes changes of membership, removals, refused peers and the cluster version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jepsen_lite.sim.coverage.mark import (
    REFUSALS_OF_CALLERS,
    Reach,
    caller_refused,
    change_done,
)
from jepsen_lite.sim.coverage.wraps import Wraps
from jepsen_lite.sim.nodes.host import Host
from raftkv.errors import MembershipRefused, OutcomeUnknown, OutOfService
from raftkv.node.node import Node
from raftkv.node.peer_handler import NodePeerHandler
from raftkv.node.reconfiguration import Reconfiguration
from raftkv.node.removal import Removal, RemovalReports
from raftkv.peer.handshake import HandshakeRefused
from raftkv.raft.entry import Membership
from raftkv.raft.raft import Raft


def observe_changes(wraps: Wraps, reach: Reach) -> None:
    """Configurations that are entered and left, and requests for them."""
    entered_by: dict[frozenset[int], int] = {}

    @wraps.around(Raft, "_propose_membership_entry")
    def propose_membership_entry(
        original: Callable[..., None], raft: Raft, membership: Membership
    ) -> None:
        before = raft.membership
        original(raft, membership)
        if membership.joint:
            reach("a joint configuration is entered")
            entered_by[membership.voters] = raft.node_id
        elif before.joint:
            reach("a joint configuration is left")
            if entered_by.get(membership.voters) != raft.node_id:
                reach("a joint configuration is left by a later leader")
        if before.learners - membership.members:
            reach("a learner is removed")

    @wraps.around(Raft, "propose_membership")
    def propose_membership(
        original: Callable[..., int], raft: Raft, target: Membership, *, force: bool = False
    ) -> int:
        try:
            index = original(raft, target, force=force)
        except MembershipRefused:
            if raft.transferee:
                reach("a change is refused: leadership is being transferred")
            elif not raft.committed_in_term:
                reach("a change is refused: the leader is new")
            elif not raft.membership_committed or raft.membership.joint:
                reach("a change is refused: another is under way")
            else:
                reach("a change is refused: it would cost the majority")
            raise
        if force and target.voters != raft.membership.voters_outgoing and raft.membership.joint:
            reach("a change of voters is forced")
        return index

    @wraps.around(Reconfiguration, "_await_majorities")
    async def await_majorities(original: Callable[..., Any], *args: Any) -> None:
        try:
            await original(*args)
        except MembershipRefused:
            reach("a change is refused: it would cost the majority")
            raise

    @wraps.around(Reconfiguration, "change")
    async def change(
        original: Callable[..., Any],
        reconfiguration: Reconfiguration,
        change: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        try:
            done = await original(reconfiguration, change, *args, **kwargs)
        except OutcomeUnknown:
            reach("a change ends with an unknown outcome")
            raise
        reach(change_done(type(change).__name__))
        return done

    @wraps.around(Raft, "propose_version")
    def propose_version(original: Callable[..., None], raft: Raft, version: int) -> None:
        reach("the cluster version is raised")
        original(raft, version)

    @wraps.around(Host, "crash")
    def crash(original: Callable[..., None], host: Host, *, power: bool) -> None:
        if host.node is not None and host.node.core.leads:
            if host.node.core.membership.joint:
                reach("a leader crashes in a joint configuration")
            if not host.node.core.membership_committed:
                reach("a leader crashes with an uncommitted configuration")
        original(host, power=power)


def observe_departures(wraps: Wraps, reach: Reach) -> None:
    """Nodes that leave, and peers that are refused."""

    @wraps.around(Removal, "_leave")
    async def leave(original: Callable[..., Any], removal: Removal) -> None:
        reach("a node learns of its removal from its log")
        await original(removal)

    @wraps.around(RemovalReports, "tick")
    def tick(original: Callable[..., frozenset[int]], *args: Any) -> frozenset[int]:
        by = original(*args)
        if by:
            reach("a node learns of its removal from its peers")
        return by

    @wraps.around(NodePeerHandler, "admit")
    async def admit(original: Callable[..., Any], *args: Any) -> HandshakeRefused | None:
        refused: HandshakeRefused | None = await original(*args)
        if refused is not None and refused.reason in REFUSALS_OF_CALLERS:
            reach(caller_refused(refused.reason))
        return refused

    @wraps.around(NodePeerHandler, "refusal_of")
    def refusal_of(original: Callable[..., Any], *args: Any) -> HandshakeRefused | None:
        refused: HandshakeRefused | None = original(*args)
        if refused is not None:
            reach("an admitted peer is refused later")
        return refused

    @wraps.around(Node, "_remember_out_of_service")
    def remember(original: Callable[..., None], node: Node, stopped: Any) -> None:
        if isinstance(stopped.result(), OutOfService):
            reach("a node leaves service")
        original(node, stopped)
