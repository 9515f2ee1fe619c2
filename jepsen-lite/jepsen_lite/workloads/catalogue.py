"""All workloads, by the names that the command line knows them by."""

from __future__ import annotations

from collections.abc import Callable

from jepsen_lite.workloads.append import Append
from jepsen_lite.workloads.bank import Bank
from jepsen_lite.workloads.base import Workload
from jepsen_lite.workloads.counter import Counter
from jepsen_lite.workloads.elections import Elections
from jepsen_lite.workloads.freshness import Sessions, Staleness
from jepsen_lite.workloads.leases import Leases
from jepsen_lite.workloads.locks import FencedLocks, Locks
from jepsen_lite.workloads.queues import SweptQueue
from jepsen_lite.workloads.register import Register
from jepsen_lite.workloads.removals import RemovedLeaders, RemovedLocks
from jepsen_lite.workloads.sets import GrowingSet
from jepsen_lite.workloads.watches import Watches

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "register": lambda: Register(keys=4, uses=150, versioned=True),
    "set": GrowingSet,
    "queue": SweptQueue,
    "counter": Counter,
    "append": Append,
    "bank": Bank,
    "watch": Watches,
    "lock": Locks,
    "fenced-lock": FencedLocks,
    "removed-lock": RemovedLocks,
    "lease": Leases,
    "election": Elections,
    "removed-leader": RemovedLeaders,
    "session": Sessions,
    "staleness": Staleness,
}
