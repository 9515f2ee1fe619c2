"""How results are counted that are remembered, by a session or under an idempotency key.

By what every node knows alike: not by encoded bytes, which depend on its protobuf library, and not
by the texts of failures, which depend on its release.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raftkv.rpc.v1 import kv_pb2

RESULT_BYTES: Final = 64
"""Of a result without what it has read."""

FAILURE_BYTES: Final = 1_280
"""Of a result that is a failure; its text is cut to about that."""


def remembered_bytes(results: Iterable[kv_pb2.Result], read_bytes: int) -> int:
    """What the results count for, which hold `read_bytes` of keys and values."""
    return read_bytes + sum(
        FAILURE_BYTES if result.HasField("failure") else RESULT_BYTES for result in results
    )
