"""What the commands of one batch run with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from raftkv.kv.budget import Budget
    from raftkv.kv.leases import Leases, LeaseSizes
    from raftkv.kv.locks import QueueHeads
    from raftkv.kv.meta import Meta
    from raftkv.kv.mvcc import Writer


class Execution(NamedTuple):
    """The writer, what it keeps up to date, the leases, and the budget of the batch."""

    writer: Writer
    queue_heads: QueueHeads
    lease_sizes: LeaseSizes
    leases: Leases
    budget: Budget
    meta: Meta

    @property
    def compacted_revision(self) -> int:
        """The oldest revision that a range in a transaction may read."""
        return self.meta.compacted_revision
