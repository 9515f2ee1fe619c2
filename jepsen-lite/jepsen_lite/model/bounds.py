"""The bounds that the state machine decides by, as docs/limits.md lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """In force from cluster version 2 on."""

    rows_per_batch: int = 100_000
    deletions_per_batch: int = 10_000
    replaced_bytes_per_batch: int = 32 * MIB
    keys_per_lease: int = 10_000
    leases: int = 400_000
    sessions: int = 100_000
    results_per_session: int = 16_384
    results: int = 500_000
    idempotency_keys: int = 1_000_000
    upkeep_rows: int = 2_000


LEASE_TTL_MIN_MS: Final = 1_000
IDEMPOTENCY_TTL_MS: Final = 3_600_000
"""The lifetime of an idempotency key for which the caller names none."""

VALUE_BYTES_PER_ROW: Final = 4_096
"""A value counts as one more row for each of these."""

BOUNDED_VERSION: Final = 2
"""The cluster version from which on the bounds hold, and upkeep is an entry of its own."""
