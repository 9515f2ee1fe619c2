"""All workloads by the names that `--workload` takes."""

from __future__ import annotations

from collections.abc import Callable

from jepsen_lite.workloads.append import AppendWorkload
from jepsen_lite.workloads.bank import BankWorkload
from jepsen_lite.workloads.base import Workload
from jepsen_lite.workloads.counter import CounterWorkload
from jepsen_lite.workloads.elections import ElectionWorkload
from jepsen_lite.workloads.leases import LeaseWorkload
from jepsen_lite.workloads.locks import FencedLockWorkload, LockWorkload
from jepsen_lite.workloads.queues import QueueWorkload
from jepsen_lite.workloads.read_levels import SessionWorkload, StalenessWorkload
from jepsen_lite.workloads.register import RegisterWorkload
from jepsen_lite.workloads.removals import RemovedLeaderWorkload, RemovedLockWorkload
from jepsen_lite.workloads.sets import SetWorkload
from jepsen_lite.workloads.watches import WatchWorkload

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "register": lambda: RegisterWorkload(keys=4, uses=150, versioned=True),
    "set": SetWorkload,
    "queue": QueueWorkload,
    "counter": CounterWorkload,
    "append": AppendWorkload,
    "bank": BankWorkload,
    "watch": WatchWorkload,
    "lock": LockWorkload,
    "fenced-lock": FencedLockWorkload,
    "removed-lock": RemovedLockWorkload,
    "lease": LeaseWorkload,
    "election": ElectionWorkload,
    "removed-leader": RemovedLeaderWorkload,
    "session": SessionWorkload,
    "staleness": StalenessWorkload,
}
READ_WITHOUT_MAJORITY = frozenset({"session", "staleness"})
"""Workloads whose reads a node may answer from its own state."""
NEEDS_STEADY_CLOCKS = frozenset(
    {"lock", "fenced-lock", "removed-lock", "lease", "election", "removed-leader", "staleness"}
)
"""Workloads whose checkers hold raftkv to promises that it makes for steady clocks only."""
