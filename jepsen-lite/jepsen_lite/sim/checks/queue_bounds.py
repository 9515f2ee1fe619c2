"""Bounds on what nodes and clients keep in memory: each queue stays below its setting while faults
last, and every container is small again once nothing is under way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jepsen_lite.sim.checks.containers import containers, part_of
from jepsen_lite.sim.clients import Clients
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host
from raftkv.node.config import NodeConfig
from raftkv.node.history_record import SAMPLES_MAX
from raftkv.node.node import Node
from raftkv.node.proposer import Proposer
from raftkv.raft.progress import Progress
from raftkv.raft.view import ProgressView
from raftkv.server.authentication import CREDENTIALS_KEPT

LOOK_S = 0.5
SEARCH_EVERY_LOOKS = 10

PACKAGES = ("raftkv.client", "raftkv.node", "raftkv.peer", "raftkv.raft", "raftkv.server")

AT_REST_MAX = 24
"""Above the members, endpoints, streams and leases that a run has at once. A structure from which
an entry is not removed passes it after that many requests.
"""
KEPT_AT_REST_MAX = {
    "ProposalQueue._taken": 200,
    "ProposalQueue._refused": 200,
    "Authenticator._kept": CREDENTIALS_KEPT,
    "HistoryRecord._samples": SAMPLES_MAX,
}
"""A leader keeps the numbers of an origin's last submissions until the origin sends more. They are
as many as were under way at once. Verified tokens are a cache. A node remembers which revision was
current when.
"""
UNDER_LOAD_MAX = 2_000
"""Above what the workers of a run can have under way at once, over all tries of a request."""

DATA = frozenset({"Log._entries", "Log._hashes"})
"""The log itself, whose length compaction bounds."""


class QueueLength(NamedTuple):
    """How much a queue has, and how much it may have."""

    name: str
    length: int
    length_max: int


class QueueBounds:
    """Fails the simulation for a bound that is exceeded. `begin` starts the looks."""

    def __init__(self, context: SimulationContext, cluster: Cluster, clients: Clients) -> None:
        self._world = context.world
        self._cluster = cluster
        self._clients = clients
        self._on_failure = context.on_failure
        self._looks = 0
        self._proposers: dict[Node, Proposer] = {}

    def begin(self) -> None:
        """Look from now on."""
        self._world.after(LOOK_S, self._look)

    def left_over(self) -> str:
        """The containers that are too large for a node or a client without anything to do; empty
        if there are none.
        """
        return "; ".join(self._larger_than(AT_REST_MAX))

    def _look(self) -> None:
        self._looks += 1
        over = [
            f"{host.name} has {each.length} of {each.name}, and its bound is {each.length_max}"
            for host in self._cluster.machines
            for each in self._queues_of(host)
            if each.length > each.length_max
        ]
        if self._looks % SEARCH_EVERY_LOOKS == 0:
            over += self._larger_than(UNDER_LOAD_MAX)
        if over:
            self._on_failure(f"queues: {'; '.join(over)}")
        self._world.after(LOOK_S, self._look)

    def _queues_of(self, host: Host) -> Iterator[QueueLength]:
        """The queues of a node whose bounds are settings or documented constants."""
        node, server = host.node, host.server
        if node is None or server is None or node.stopped.done():
            return
        if node not in self._proposers:
            self._proposers[node] = part_of(node, PACKAGES, Proposer)
        yield from _proposals(self._proposers[node], node._config)
        admission, entry_bytes_max = server.admission, _entry_bytes_max(node._config)
        yield QueueLength("requests in flight", admission.requests, admission._requests_max)
        bytes_max = admission._bytes_max + entry_bytes_max
        yield QueueLength("bytes of requests in flight", admission.bytes, bytes_max)
        yield from _in_flight(node.core.progress, node._config)

    def _larger_than(self, length_max: int) -> Iterator[str]:
        roots: list[tuple[str, object]] = []
        for host in self._cluster.machines:
            server = host.server.handlers if host.server is not None else ()
            roots += [(host.name, root) for root in (host.node, *server) if root is not None]
        roots += [(name, client) for name, client in self._clients.connections()]
        for owner, root in roots:
            for name, container in containers(root, PACKAGES):
                kept_max = KEPT_AT_REST_MAX.get(name, 0)
                if len(container) > max(length_max, kept_max) and name not in DATA:
                    yield f"{owner} keeps {len(container)} elements in {name}"


def _proposals(proposer: Proposer, config: NodeConfig) -> Iterator[QueueLength]:
    pending, queue, entry_bytes_max = proposer.pending, proposer._queue, _entry_bytes_max(config)
    bytes_max = config.uncommitted_bytes_max + entry_bytes_max
    yield QueueLength("pending proposals", len(pending), config.submissions_in_flight_max)
    yield QueueLength("bytes of pending proposals", pending._bytes, bytes_max)
    for sender, size_bytes in queue._bytes.items():
        bytes_max = queue._bytes_per_sender_max + entry_bytes_max
        yield QueueLength(f"bytes forwarded by node {sender}", size_bytes, bytes_max)
    for sender, origins in queue._origins.items():
        name = f"origins of node {sender}"
        yield QueueLength(name, len(origins), queue.ORIGINS_PER_SENDER_MAX)


def _in_flight(followers: Mapping[int, ProgressView], config: NodeConfig) -> Iterator[QueueLength]:
    """What a leader has sent to each follower that is not acknowledged. Flow control stops at the
    first message that reaches the bound of bytes, so one message may lie above it.
    """
    raft = config.raft
    bytes_max = raft.in_flight_bytes_max + max(raft.append_bytes_max, _entry_bytes_max(config))
    for peer, progress in followers.items():
        assert isinstance(progress, Progress)
        messages, size_bytes = progress._in_flight, progress._in_flight_bytes
        name = f"messages in flight to node {peer}"
        yield QueueLength(name, len(messages), raft.in_flight_messages_max)
        yield QueueLength(f"bytes in flight to node {peer}", size_bytes, bytes_max)
        yield QueueLength(
            f"bytes counted to node {peer} beyond those in flight",
            abs(size_bytes - sum(size for _, size in messages)),
            0,
        )


def _entry_bytes_max(config: NodeConfig) -> int:
    """A single proposal may be as large as a request, and is an entry alone then."""
    return config.entry_bytes_max + config.limits.request_bytes_max
