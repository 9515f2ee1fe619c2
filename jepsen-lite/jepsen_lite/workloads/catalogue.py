"""All workloads by the names that `--workload` takes."""

from __future__ import annotations

from collections.abc import Callable

from jepsen_lite.workloads.append import AppendWorkload
from jepsen_lite.workloads.bank import BankWorkload
from jepsen_lite.workloads.base import Workload
from jepsen_lite.workloads.counter import CounterWorkload
from jepsen_lite.workloads.elections import ElectionWorkload
from jepsen_lite.workloads.idempotency import IdempotencyWorkload
from jepsen_lite.workloads.leased_keys import LeasedKeysWorkload
from jepsen_lite.workloads.leases import LeaseWorkload
from jepsen_lite.workloads.locks import FencedLockWorkload, LockWorkload
from jepsen_lite.workloads.queues import QueueWorkload
from jepsen_lite.workloads.ranges import RangeWorkload
from jepsen_lite.workloads.read_levels import SessionWorkload, StalenessWorkload
from jepsen_lite.workloads.refusals import RefusalWorkload
from jepsen_lite.workloads.register import RegisterWorkload
from jepsen_lite.workloads.removals import RemovedLeaderWorkload, RemovedLockWorkload
from jepsen_lite.workloads.rights import RightsWorkload
from jepsen_lite.workloads.rw_register import RwRegisterWorkload
from jepsen_lite.workloads.sets import SetWorkload
from jepsen_lite.workloads.transactions import TransactionWorkload
from jepsen_lite.workloads.waiters import WaiterWorkload
from jepsen_lite.workloads.watches import WatchWorkload
from jepsen_lite.workloads.wide_watches import WideWatchWorkload

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "register": lambda: RegisterWorkload(keys=4, uses=150, versioned=True),
    "set": SetWorkload,
    "queue": QueueWorkload,
    "counter": CounterWorkload,
    "append": AppendWorkload,
    "rw-register": RwRegisterWorkload,
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
    "transactions": TransactionWorkload,
    "ranges": RangeWorkload,
    "idempotency": IdempotencyWorkload,
    "leased-keys": LeasedKeysWorkload,
    "waiter-fence": WaiterWorkload,
    "wide-watch": WideWatchWorkload,
    "refusals": RefusalWorkload,
    "rights": RightsWorkload,
}
READ_WITHOUT_MAJORITY = frozenset({"session", "staleness"})
"""Workloads whose reads a node may answer from its own state."""
HAS_LARGE_ROWS = frozenset({"transactions"})
"""Workloads whose keys and values do not fit into a reply of a few KiB."""
LOOKS_AT_MANY_ROWS = frozenset({"refusals"})
"""Workloads with commands that would take tens of thousands of small steps to apply."""
ANOTHER_MAY_PREVENT = frozenset(
    {
        *("lock", "fenced-lock", "removed-lock", "waiter-fence", "election", "removed-leader"),
        *("lease", "leased-keys", "watch", "wide-watch", "rights"),
    }
)
"""Workloads whose operations may rightly fail in a healthy cluster, because of other holders."""
NEEDS_QUICK_ANSWERS = frozenset({"removed-lock", "removed-leader"})
"""Workloads whose checkers expect that a loss is reported within a second."""
NEEDS_USERS = frozenset({"rights"})
"""Workloads whose clients log in as users, whom the simulator's administrator adds. A cluster of an
older version has none.
"""
OF_ONE_USER = frozenset({"idempotency", "leased-keys", "removed-lock", "removed-leader"})
"""Workloads whose clients use the leases or the idempotency keys of one another."""
ON_PROCESSES = tuple(name for name in WORKLOADS if name not in NEEDS_USERS)
"""Workloads that run on real processes as well."""
NEEDS_STEADY_CLOCKS = frozenset(
    {
        *("lock", "fenced-lock", "removed-lock", "waiter-fence", "lease", "leased-keys"),
        *("idempotency", "election", "removed-leader", "staleness"),
    }
)
"""Workloads whose checkers hold raftkv to promises that it makes for steady clocks only."""
