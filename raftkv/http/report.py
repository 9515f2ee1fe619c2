"""Reports of a node: immutable, published by its event loop for the HTTP port."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.metrics.samples import Samples


@dataclass(frozen=True, slots=True)
class ReadinessCheck:
    """One check of /readyz. An empty `failure` passes it."""

    name: str
    failure: str
    needs_majority: bool = False


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node at one moment. Times are those of `time.monotonic`.

    `disk_write_since_s`: begin of the write to the log that was under way; None: none was.
    """

    at_s: float
    disk_write_since_s: float | None
    checks: tuple[ReadinessCheck, ...]
    samples: Samples
    versions: tuple[tuple[str, str], ...]


class PublishedReport:
    """Holds the last report. The node's loop replaces it, and the thread of the HTTP port reads
    it: one reference, so no lock is needed.
    """

    def __init__(self, first: NodeReport) -> None:
        self.latest = first
