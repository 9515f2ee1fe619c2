"""The limits of the store.

`Limits` are settings of a node, checked before a command enters the log, and may differ between
nodes. The constants of this module decide at apply. They are part of the meaning of an entry, and
the same on every node for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
SECOND_MS: Final = 1_000
HOUR_MS: Final = 3_600 * SECOND_MS

LEASE_TTL_MS_MIN: Final = SECOND_MS
"""A lease with a shorter ttl is granted for this long."""

LEASE_TTL_MS_MAX: Final = 9_000_000_000 * SECOND_MS

IDEMPOTENCY_TTL_MS_DEFAULT: Final = HOUR_MS
IDEMPOTENCY_TTL_MS_MAX: Final = 7 * 24 * HOUR_MS

TRANSACTION_DEPTH_MAX: Final = 32
"""Nested transactions. A result is nested deeper than its request, and protobuf parses messages at
most 100 deep: a deeper transaction could be run, but its result could not be parsed."""

RESULT_BYTES_MAX: Final = 4 * MIB
"""Keys and values that the commands of one batch may return: they are kept until acknowledged."""

SESSION_RESULTS_MAX: Final = 16_384
"""Batches of one session whose results are not acknowledged yet."""

STAMP_JUMP_MS_MAX: Final = 1 << 40
"""The most by which one entry may advance cluster time, 34 years. A later stamp is a fault, and
must not end every lease for ever."""

UNBOUNDED: Final = 1 << 62
"""Greater than any number that is compared with it."""

# The following limits hold from the cluster version BOUNDED on, unless stated otherwise.

ROWS_MAX: Final = 100_000
"""Rows that one batch of commands, or one read, may scan, as budget.py counts them."""

DELETED_KEYS_MAX: Final = 10_000
"""Keys that one batch of commands may delete by ranges. They are one RocksDB write, which holds the
interpreter's lock for 13 ms."""

LEASE_KEYS_MAX: Final = DELETED_KEYS_MAX
"""Keys that may be attached to one lease: they are deleted in one revision at its end."""

REPLACED_BYTES_MAX: Final = 32 * MIB
"""Old values that one batch of commands may move to history. Without it, a small command could
write gigabytes of them."""

EARLY_BYTES_MAX: Final = 2 * MIB
"""Old versions and changes of a run that are kept for the write at its end; more are written early.
A write holds the interpreter's lock for 2.5 ms per MB."""

ROW_BYTES: Final = 512
"""The counted size of such a row beside its value: 1.2 us of a write."""

LEASES_MAX: Final = 400_000
"""Leases. Each node has them in memory, about 400 bytes each."""

SESSIONS_MAX: Final = 100_000
"""Leases that are used as sessions. Each node has them in memory, about 500 bytes each."""

SESSION_RESULT_BYTES_MAX: Final = 64 * MIB
"""Results that are kept for one session, as counted by `sessions.remembered_bytes`."""

SEQUENCE_MAX: Final = (1 << 63) - 1
"""The highest sequence of a batch in its session."""

RESULTS_MAX: Final = 500_000
RESULTS_BYTES_MAX: Final = 512 * MIB
"""Results that are kept for all sessions together."""

IDEMPOTENCY_KEYS_MAX: Final = 1_000_000
IDEMPOTENCY_BYTES_MAX: Final = 512 * MIB
"""Results that are kept under idempotency keys."""

USERS_MAX: Final = 10_000
ROLES_MAX: Final = 1_000
TOKENS_MAX: Final = 10_000
"""Users, roles and service tokens. Each node has them in memory."""

TOKEN_TTL_MS_MAX: Final = 100 * 365 * 24 * 3_600_000
"""The time to live of a service token that ends, 100 years: its end is a number of 64 bits."""

ROLES_PER_USER_MAX: Final = 32
PERMISSIONS_PER_ROLE_MAX: Final = 256
"""So the rights of a user are made from about 8,000 ranges at most, which takes 5 ms."""

ROLE_BYTES_MAX: Final = 64 * KIB
"""Keys in the permissions of one role."""

UPKEEP_ROWS_PER_ENTRY: Final = 2_000
"""Rows of expired leases and idempotency keys, and old versions, that one upkeep entry removes."""

COMPACTION_CHANGES_PER_ENTRY: Final = 500
"""Old changes that each applied entry removes before the cluster version BOUNDED."""

IDEMPOTENCY_REMOVALS_PER_ENTRY: Final = 500
"""Expired idempotency keys that each applied entry removes before the cluster version BOUNDED."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node accepts from clients, checked before a command enters the log."""

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
