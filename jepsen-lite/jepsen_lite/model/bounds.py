"""The bounds that the state machine decides by, as docs/limits.md and docs/internals.md list them.

Not modelled: the bytes of remembered results and of a role, and the rows of old versions in a range
at an old revision. Only commands near those bounds could show a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """Tests use smaller ones than the store."""

    rows_per_batch: int = 100_000
    deletions_per_batch: int = 10_000
    replaced_bytes_per_batch: int = 32 * MIB
    result_bytes_per_batch: int = 4 * MIB
    keys_per_lease: int = 10_000
    leases: int = 400_000
    sessions: int = 100_000
    results_per_session: int = 16_384
    results: int = 500_000
    idempotency_keys: int = 1_000_000
    users: int = 10_000
    roles: int = 1_000
    tokens: int = 10_000
    roles_per_user: int = 32
    permissions_per_role: int = 256
    upkeep_rows: int = 2_000
    idempotency_removals: int = 500
    """After each entry, before the cluster version `BOUNDED_VERSION`."""


BOUNDED_VERSION: Final = 2
"""The cluster version from which on the bounds hold, and upkeep is an entry of its own."""

AUTHENTICATED_VERSION: Final = 3
"""The cluster version from which on there are users."""

SECRET_BYTES_MIN: Final = 32
"""Of a signing key, and of the hash of a token's secret."""

TOKEN_TTL_MAX_MS: Final = 100 * 365 * 24 * 3_600_000

LEASE_TTL_MIN_MS: Final = 1_000
LEASE_TTL_MAX_MS: Final = 9_000_000_000_000

IDEMPOTENCY_TTL_MS: Final = 3_600_000
"""The lifetime of an idempotency key for which the caller names none."""
IDEMPOTENCY_TTL_MAX_MS: Final = 7 * 24 * 3_600_000

SEQUENCE_MAX: Final = (1 << 63) - 1

STAMP_JUMP_MAX_MS: Final = 1 << 40
"""The most by which one entry advances cluster time."""

RECORD_BYTES: Final = 32
"""A version counts for these bytes beside its value, and a key in a result beside key and value."""

BYTES_PER_ROW: Final = 4_096
"""A version counts for one more row for each of these."""

LEASE_END_ROWS: Final = 2
"""The end of a lease counts for so many rows of upkeep, and one for each of its keys."""
