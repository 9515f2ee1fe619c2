"""What the store accepts. Knows numbers and their units, nothing about requests.

`Limits` guard the front door and may differ between nodes: what passed one is in the log. What
`apply` itself decides by is not a setting but part of what an entry means, the same on every node
for ever; those are the constants of this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
SECOND_MS: Final = 1_000
HOUR_MS: Final = 3_600 * SECOND_MS

LEASE_TTL_MS_MIN: Final = SECOND_MS
"""A shorter lease is granted for this long."""

LEASE_TTL_MS_MAX: Final = 9_000_000_000 * SECOND_MS

IDEMPOTENCY_TTL_MS_DEFAULT: Final = HOUR_MS
IDEMPOTENCY_TTL_MS_MAX: Final = 7 * 24 * HOUR_MS

TRANSACTION_DEPTH_MAX: Final = 32
"""Transactions within each other. A result stands deeper than what asked for it, and protobuf
reads no message more than 100 deep: beyond this one could be run and its answer not be read."""

RESULT_BYTES_MAX: Final = 4 * MIB
"""Of what one batch's commands may read back out of the store: it is kept until acknowledged."""

SESSION_RESULTS_MAX: Final = 16_384
"""Batches of one session whose results were not acknowledged yet."""

STAMP_JUMP_MS_MAX: Final = 1 << 40
"""By how much one entry may put cluster time forward, 34 years: a stamp beyond it is a fault, and
must not end every lease for ever."""

COMPACTION_CHANGES_PER_ENTRY: Final = 500
"""How many old changes one applied entry removes, so that no apply takes long."""

IDEMPOTENCY_REMOVALS_PER_ENTRY: Final = 500
"""How many expired idempotency keys one applied entry removes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node lets through its front door, checked before a command enters the log."""

    key_bytes_max: int = 8 * KIB
    value_bytes_max: int = MIB
    request_bytes_max: int = 3 * MIB // 2
    """Of one command, as it is encoded."""
    batch_bytes_max: int = 4 * MIB
    batch_commands_max: int = 10_000
    transaction_operations_max: int = 128
    """Of each list of a transaction; a nested one has what its parent leaves."""
    idempotency_key_bytes_max: int = 256
    reply_bytes_max: int = 4 * MIB
    """Of one read's result."""
