"""An error as a `Failure` message, and back."""

from __future__ import annotations

from typing import Final, cast

from raftkv.errors import RaftkvError, from_wire
from raftkv.rpc.v1 import kv_pb2

MESSAGE_CHARACTERS_MAX: Final = 1_024
FACT_CHARACTERS_MAX: Final = 256
"""Long names that the request gave and the error quotes must not make a failure larger than the
request was."""


def fill_failure(failure: kv_pb2.Failure, error: RaftkvError) -> None:
    """Write the error into an empty message; `error_of` is the inverse."""
    failure.reason = error.reason
    failure.message = error.message[:MESSAGE_CHARACTERS_MAX]
    failure.outcome = cast("kv_pb2.Outcome", error.outcome.value)
    failure.retry_after_ms = round(error.retry_after_s * 1_000)
    for name, value in error.facts.items():
        failure.facts[name] = value[:FACT_CHARACTERS_MAX]


def failure_of(error: RaftkvError) -> kv_pb2.Failure:
    """The error as a message; `error_of` is the inverse."""
    failure = kv_pb2.Failure()
    fill_failure(failure, error)
    return failure


def error_of(failure: kv_pb2.Failure) -> RaftkvError:
    """The error that a Failure message stands for.

    Raises `ValueError` or `TypeError` for a message that no node of raftkv sends.
    """
    return from_wire(
        failure.reason,
        failure.message,
        failure.outcome,
        failure.retry_after_ms / 1_000,
        dict(failure.facts),
    )


def only_result(results: bytes) -> kv_pb2.Result:
    """The result in the `BatchResult` of a batch of one command. Raises its failure."""
    outcome = kv_pb2.BatchResult.FromString(results)
    if outcome.HasField("failure"):
        raise error_of(outcome.failure)
    (result,) = outcome.results
    if result.HasField("failure"):
        raise error_of(result.failure)
    return result
