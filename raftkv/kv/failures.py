"""Errors as the wire carries them."""

from __future__ import annotations

from typing import Final, cast

from raftkv.errors import RaftkvError
from raftkv.rpc.v1 import kv_pb2

MESSAGE_CHARACTERS_MAX: Final = 1_024
FACT_CHARACTERS_MAX: Final = 256
"""A caller's own long names in it must not make a failure larger than the request was."""


def fill_failure(failure: kv_pb2.Failure, error: RaftkvError) -> None:
    """Write an error into a message; `raftkv.errors.from_wire` is the way back."""
    failure.reason = error.reason
    failure.message = error.message[:MESSAGE_CHARACTERS_MAX]
    failure.outcome = cast("kv_pb2.Outcome", error.outcome.value)
    failure.retry_after_ms = round(error.retry_after_s * 1_000)
    for name, value in error.facts.items():
        failure.facts[name] = value[:FACT_CHARACTERS_MAX]
