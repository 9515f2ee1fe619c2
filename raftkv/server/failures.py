"""Errors on the wire: a Failure message on the pipeline, a gRPC status on a unary call."""

from __future__ import annotations

import copy
from typing import Any, NoReturn, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from raftkv import errors
from raftkv.errors import Outcome, OutcomeUnknown, RaftkvError
from raftkv.kv.failures import fill_failure
from raftkv.rpc.v1 import api_pb2, kv_pb2

DOMAIN = "raftkv"
# gRPC sends a status twice in the trailing metadata, and a client drops a call with more than 8 KiB
# of metadata; message and facts may quote the request.
STATUS_TEXT_BYTES_MAX = 1024

# The first class in an error's MRO that has a code decides.
_CODES: dict[type[RaftkvError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RevisionCompacted: grpc.StatusCode.OUT_OF_RANGE,
    errors.RevisionInFuture: grpc.StatusCode.OUT_OF_RANGE,
    errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LeaseNotFound: grpc.StatusCode.NOT_FOUND,
    errors.LeaseExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.KeyNotFound: grpc.StatusCode.NOT_FOUND,
    errors.MemberUnknown: grpc.StatusCode.NOT_FOUND,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    # Not ABORTED: generic clients retry that automatically, and this error must not be retried.
    errors.OutcomeUnknown: grpc.StatusCode.UNKNOWN,
    errors.ConfigurationError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.WrongCluster: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RemovedFromCluster: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StorageError: grpc.StatusCode.INTERNAL,
    errors.DiskFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutOfResources: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DamagedData: grpc.StatusCode.DATA_LOSS,
    errors.RaftkvError: grpc.StatusCode.INTERNAL,
}


def code_of(error: RaftkvError) -> grpc.StatusCode:
    """The gRPC code that a generic client sees."""
    return next(_CODES[each] for each in type(error).__mro__ if each in _CODES)


def failure_of(error: RaftkvError) -> kv_pb2.Failure:
    """The error as a message; `error_of` is its inverse."""
    failure = kv_pb2.Failure()
    fill_failure(failure, error)
    return failure


def error_of(failure: kv_pb2.Failure) -> RaftkvError:
    """The error that a Failure message stands for."""
    return errors.from_wire(
        failure.reason,
        failure.message,
        failure.outcome,
        failure.retry_after_ms / 1000,
        dict(failure.facts),
    )


def status_of(error: RaftkvError, header: api_pb2.ReplyHeader | None = None) -> grpc.Status:
    """The error as a status with the details ErrorInfo (reason, outcome, facts), RetryInfo and the
    node's reply header.
    """
    message = _shortened(error.message)
    status = status_pb2.Status(code=code_of(error).value[0], message=message)
    facts = {name: _shortened(fact) for name, fact in error.facts.items()}
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=DOMAIN,
            metadata={**facts, "outcome": error.outcome.name},
        )
    )
    if error.retry_after_s:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_s * 1000))
        status.details.add().Pack(retry)
    if header is not None:
        status.details.add().Pack(header)
    return rpc_status.to_status(status)


def _shortened(text: str) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= STATUS_TEXT_BYTES_MAX:
        return text
    half = STATUS_TEXT_BYTES_MAX // 2  # the message begins with the field and ends with the fix
    start, end = encoded[:half].decode(errors="ignore"), encoded[-half:].decode(errors="ignore")
    return f"{start} ... {end}"


async def abort(
    context: grpc.aio.ServicerContext[Any, Any],
    error: RaftkvError,
    header: api_pb2.ReplyHeader | None = None,
) -> NoReturn:
    """End the call with this error."""
    status = status_of(error, header)
    await context.abort(status.code, status.details, tuple(status.trailing_metadata))


def error_of_call(call: grpc.aio.AioRpcError) -> RaftkvError | None:
    """The error that a raftkv node ended this call with; None if gRPC itself did."""
    status = rpc_status.from_call(cast(grpc.Call, call))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if not detail.Unpack(info):
            detail.Unpack(retry)
    if info.domain != DOMAIN:
        return None
    facts = dict(info.metadata)
    outcome = Outcome[facts.pop("outcome")]
    retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    return errors.from_wire(info.reason, status.message, outcome, retry_after_s, facts)


def ends_service(error: BaseException) -> bool:
    """Whether an error of a read must stop the node: damaged data or a broken invariant. A disk
    that fails writes stops the node elsewhere; any other error of a read concerns only its caller.
    """
    return isinstance(error, (errors.DamagedData, errors.InvariantViolation))


def of_write(error: BaseException) -> RaftkvError:
    """The error for the caller of a write that ended with `error`."""
    if isinstance(error, RaftkvError):
        return error
    return OutcomeUnknown(f"the node failed while it held this write: {error!r}")


def _with_outcome(error: RaftkvError, outcome: Outcome) -> RaftkvError:
    """The same error with another outcome. The original is unchanged: others may hold it."""
    copied = copy.copy(error)
    copied.outcome = outcome
    copied.__cause__ = error
    return copied


def of_read(error: BaseException) -> RaftkvError:
    """The error for the caller of a read that ended with `error`: another node may answer it."""
    if isinstance(error, errors.StorageError):
        return _with_outcome(error, Outcome.SAFE_TO_RETRY)
    if isinstance(error, RaftkvError):
        return error
    return errors.Unavailable(f"the node failed while it read: {error!r}")
