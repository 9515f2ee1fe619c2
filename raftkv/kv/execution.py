"""What the commands of one batch run with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftkv.kv.budget import Budget
    from raftkv.kv.leases import Leases, LeaseSizes
    from raftkv.kv.locks import QueueHeads
    from raftkv.kv.meta import Meta
    from raftkv.kv.mvcc import Writer


@dataclass(slots=True, eq=False)
class Execution:
    """The writer, what it keeps up to date, the leases, and the budget of the present batch."""

    writer: Writer
    queue_heads: QueueHeads
    lease_sizes: LeaseSizes
    leases: Leases
    meta: Meta
    budget: Budget
