"""What a server answers for an exception: the typed error of a failed write or read."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

import grpc

from raftkv.errors import (
    DamagedData,
    InvariantViolation,
    Outcome,
    OutcomeUnknown,
    RaftkvError,
    StorageError,
    Unavailable,
)
from raftkv.rpc.v1 import api_pb2
from raftkv.wire.grpc_status import status_of


async def abort(
    context: grpc.aio.ServicerContext[Any, Any],
    error: RaftkvError,
    header: api_pb2.ReplyHeader | None = None,
) -> NoReturn:
    """End the call with this error, which is the cause of the `AbortError` that this raises."""
    status = status_of(error, header)
    try:
        await context.abort(status.code, status.details, tuple(status.trailing_metadata))
    except grpc.aio.AbortError as aborted:
        raise aborted from error


def ends_service(error: BaseException) -> bool:
    """Whether a node whose read ended so must stop serving.

    A disk that fails writes stops the node by itself, and every other failure of a read concerns
    only that read.
    """
    return isinstance(error, (DamagedData, InvariantViolation))


def of_write(error: BaseException) -> RaftkvError:
    """The error to answer a write that ended with `error`, which may be any exception."""
    if isinstance(error, RaftkvError):
        return error
    return OutcomeUnknown(f"the node failed while it held this write: {error!r}")


def of_read(error: BaseException) -> RaftkvError:
    """The error to answer a read that ended with `error`, which may be any exception.

    A read whose node's disk failed is safe to retry: another node may answer it.
    """
    if isinstance(error, StorageError) and error.outcome is not Outcome.SAFE_TO_RETRY:
        answer = copy.copy(error)
        answer.outcome = Outcome.SAFE_TO_RETRY
        return answer
    if isinstance(error, RaftkvError):
        return error
    return Unavailable(f"the node failed while it read: {error!r}")
