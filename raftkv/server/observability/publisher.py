"""Publishes reports of the node for the HTTP port, four times a second on the node's event loop."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from raftkv.http.report import NodeReport, PublishedReport, ReadinessCheck
from raftkv.logs import Logger, RateLimited
from raftkv.metrics import table
from raftkv.metrics.samples import SampleSet
from raftkv.node.node import Node
from raftkv.node.statistics import NodeStatistics
from raftkv.node.status import PeerReachability
from raftkv.server import resources
from raftkv.server.disk_space import DiskSpace
from raftkv.server.observability.process_metrics import ProcessMetrics
from raftkv.server.security import NodeSecurity

INTERVAL_S: Final = 0.25
SIZES_INTERVAL_S: Final = 5.0
"""The size of the state is summed up over its files."""


class LogWrites(Protocol):
    """The durations of the writes of a log; see `RocksLogStore`."""

    writing_since_s: float | None

    def sample(self, samples: SampleSet) -> None: ...


class ClientPort(Protocol):
    """What the publisher needs of a `ClientServer`."""

    @property
    def accepting(self) -> bool: ...
    def sample(self, samples: SampleSet) -> None: ...


@dataclass(frozen=True, slots=True)
class ServingNode:
    """The parts of a node that serves."""

    node: Node
    log: LogWrites
    space: DiskSpace
    client_port: ClientPort


class Publisher:
    """Replaces `published.latest` while it runs.

    `serving` is None while the node does not serve; `why_not` then returns the reason.
    """

    def __init__(self, security: NodeSecurity, log: Logger, why_not: Callable[[], str]) -> None:
        self.serving: ServingNode | None = None
        self._why_not = why_not
        self._security = security
        self._loop = asyncio.get_running_loop()
        self._log = RateLimited(log, self._loop.time)
        self._process = ProcessMetrics()
        self._state_bytes = 0
        self._sizes_due_s = 0.0
        self.published = PublishedReport(self._report())

    async def run(self) -> None:
        """Publish until cancelled."""
        self._process.start()
        try:
            due_s = self._loop.time()
            while True:
                self._publish()
                due_s = max(due_s + INTERVAL_S, self._loop.time())
                await asyncio.sleep(due_s - self._loop.time())
                self._process.loop_lag.observe(max(0.0, self._loop.time() - due_s))
        finally:
            self._process.stop()

    def _publish(self) -> None:
        published = self.published
        try:
            published.latest = self._report()
        except Exception as error:  # noqa: BLE001 (a defect here must not look like a stalled loop)
            self._log.error("report_failed", exc_info=error)
            published.latest = replace(published.latest, at_s=time.monotonic())

    def _report(self) -> NodeReport:
        samples = SampleSet()
        serving = self.serving
        versions = {"version": resources.version(), "python": platform.python_version()}
        samples.set(table.BUILD_INFO, 1, *versions.values())
        samples.set(table.IN_SERVICE, serving is not None)
        self._process.sample(samples)
        self._sample_certificates(samples)
        if serving is None:
            checks: tuple[ReadinessCheck, ...] = (ReadinessCheck("in_service", self._why_not()),)
        else:
            statistics = serving.node.statistics()
            checks = tuple(_checks(serving, statistics))
            _sample_raft(samples, statistics)
            self._sample_disk(samples, serving)
            serving.client_port.sample(samples)
            versions["cluster_version"] = str(serving.node.machine.cluster_version)
        return NodeReport(
            time.monotonic(),
            serving.log.writing_since_s if serving is not None else None,
            checks,
            samples.taken(),
            tuple(versions.items()),
        )

    def _sample_certificates(self, samples: SampleSet) -> None:
        for port in (self._security.client, self._security.peer):
            for expiry in port.store.current.expiries if port.store is not None else ():
                samples.set(table.CERTIFICATE_EXPIRY, expiry.at.timestamp(), expiry.setting)

    def _sample_disk(self, samples: SampleSet, serving: ServingNode) -> None:
        now_s = self._loop.time()
        if now_s >= self._sizes_due_s:
            self._sizes_due_s = now_s + SIZES_INTERVAL_S
            self._state_bytes = serving.node.status().disk_bytes
        samples.set(table.STATE_BYTES, self._state_bytes)
        serving.log.sample(samples)
        serving.space.sample(samples)


def _checks(serving: ServingNode, statistics: NodeStatistics) -> Iterator[ReadinessCheck]:
    yield ReadinessCheck("in_service", "the node is stopping" if statistics.stopping else "")
    accepting = serving.client_port.accepting
    yield ReadinessCheck("client_port", "" if accepting else "it takes no new requests")
    low = serving.space.low
    yield ReadinessCheck("disk_space", "too little for requests that store data" if low else "")
    yield ReadinessCheck(
        "caught_up",
        "" if statistics.ready else "it has not caught up with the cluster since its start",
        needs_majority=True,
    )
    yield ReadinessCheck("leader", _leader_failure(statistics), needs_majority=True)


def _leader_failure(statistics: NodeStatistics) -> str:
    if not statistics.leader_id:
        return "no leader is known"
    if statistics.sees_majority:
        return ""
    if statistics.leads:
        return "this node leads, but no majority has answered lately"
    return f"the leader, node {statistics.leader_id}, has not been heard of lately"


def _sample_raft(samples: SampleSet, now: NodeStatistics) -> None:
    for metric, value in (
        (table.TERM, now.term),
        (table.IS_LEADER, now.leads),
        (table.HAS_LEADER, now.leader_id != 0),
        (table.LEADER_CHANGES, now.leader_changes),
        (table.COMMIT_INDEX, now.commit_index),
        (table.APPLIED_INDEX, now.applied_index),
        (table.LAST_LOG_INDEX, now.last_log_index),
        (table.LOG_BYTES, now.log_bytes),
        (table.PROPOSALS_PENDING, now.proposals_pending),
        (table.REVISION, now.revision),
        (table.COMPACTED_REVISION, now.compacted_revision),
        (table.LEASES, now.leases),
        (table.SESSIONS, now.sessions),
    ):
        samples.set(metric, value)
    samples.set(table.APPLY, now.apply)
    samples.set(table.MEMBERS, len(now.membership.voters), "voter")
    samples.set(table.MEMBERS, len(now.membership.learners), "learner")
    for outcome, count in now.proposals.items():
        samples.set(table.PROPOSALS, count, outcome)
    samples.set(table.SNAPSHOTS, now.snapshots_sent, "sent")
    samples.set(table.SNAPSHOTS, now.snapshots_installed, "installed")
    for peer in now.peers:
        name = str(peer.node_id)
        reachable = peer.reachability is not PeerReachability.UNREACHABLE
        samples.set(table.PEER_REACHABLE, reachable, name)
        if peer.last_contact_ms >= 0:
            samples.set(table.PEER_CONTACT_AGE, peer.last_contact_ms / 1000, name)
        if now.leads:
            samples.set(table.PEER_LAG, max(0, now.last_log_index - peer.match_index), name)
