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

UNBOUNDED: Final = 1 << 62
"""More than there can be of anything."""

# What follows is in force from the cluster version BOUNDED on, unless it says otherwise.

ROWS_MAX: Final = 100_000
"""Rows that one batch of commands, or one read, may look at. See budget.py for what counts."""

DELETED_KEYS_MAX: Final = 10_000
"""Keys that one batch of commands may delete by ranges. They are one RocksDB write, which holds
the interpreter for 13 ms."""

LEASE_KEYS_MAX: Final = DELETED_KEYS_MAX
"""Keys that may be attached to one lease: its end deletes them in one revision."""

REPLACED_BYTES_MAX: Final = 32 * MIB
"""Old values that one batch of commands may move to history. One command of small requests could
have gigabytes of them written otherwise."""

EARLY_BYTES_MAX: Final = 2 * MIB
"""Old versions and changes that wait for the end of a run, and are written with the rest of it. A
write holds the interpreter for 2.5 ms per MB."""

ROW_BYTES: Final = 512
"""What a row counts for in it beside its value: 1.2 us."""

LEASES_MAX: Final = 400_000
"""Living leases. Each node has them in memory, about 400 bytes each."""

SESSIONS_MAX: Final = 100_000
"""Leases that are used as sessions. Each node has them in memory, about 500 bytes each."""

SESSION_RESULT_BYTES_MAX: Final = 64 * MIB
"""What is remembered for one session, see sessions.py for how it is counted."""

SEQUENCE_MAX: Final = (1 << 63) - 1
"""Of the batches of a session."""

RESULTS_MAX: Final = 500_000
RESULTS_BYTES_MAX: Final = 512 * MIB
"""Results that are remembered for all sessions together."""

IDEMPOTENCY_KEYS_MAX: Final = 1_000_000
IDEMPOTENCY_BYTES_MAX: Final = 512 * MIB
"""What is remembered under idempotency keys."""

UPKEEP_ROWS_PER_ENTRY: Final = 2_000
"""How many rows of ended leases, expired idempotency keys and old versions one entry removes that
carries nothing else."""

COMPACTION_CHANGES_PER_ENTRY: Final = 500
"""How many old changes any applied entry removes before the cluster version BOUNDED."""

IDEMPOTENCY_REMOVALS_PER_ENTRY: Final = 500
"""How many expired idempotency keys, likewise."""


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
    transaction_operations_total_max: int = 512
    """Of all lists of a transaction and of those in it, compares included."""
    fences_max: int = 128
    """Of one command."""
    leases_per_command_max: int = 10_000
    """Of one LeaseKeepAlive."""
    idempotency_key_bytes_max: int = 256
    reply_bytes_max: int = 4 * MIB
    """Of one read's result."""
