"""How an error travels: as a Failure message on the pipeline, as a gRPC status on a unary call.

Knows every class of raftkv.errors and its code, nothing about where errors come from.
"""

from __future__ import annotations

from typing import Any, NoReturn, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from raftkv import errors
from raftkv.errors import Outcome, OutcomeUnknown, RaftkvError
from raftkv.kv.failures import fill_failure
from raftkv.rpc.v1 import api_pb2, kv_pb2

DOMAIN = "raftkv"
# A status travels in the call's metadata, twice over, and a client drops the call if that is
# over 8 KiB; message and facts may quote what the caller sent.
STATUS_TEXT_BYTES_MAX = 1024

# The nearest class in an error's ancestry decides.
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
    # Not ABORTED: generic clients retry that on their own, and this one must not be.
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
    """The error as a status; its details are ErrorInfo (reason, outcome, facts), RetryInfo and who
    says so."""
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
    half = STATUS_TEXT_BYTES_MAX // 2  # the field is named first, the fix last
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
    """Whether a read has met what its node can't go on with. A disk that fails writes stops the
    node by itself; whatever else can go wrong with a read concerns the one who asked.
    """
    return isinstance(error, (errors.DamagedData, errors.InvariantViolation))


def of_write(error: BaseException) -> RaftkvError:
    """What to tell the caller of a write that ended with `error`, whatever it is."""
    if isinstance(error, RaftkvError):
        return error
    return OutcomeUnknown(f"the node failed while it held this write: {error!r}")


def of_read(error: BaseException) -> RaftkvError:
    """What to tell the caller of a read that ended so: another node may well answer it."""
    if isinstance(error, errors.StorageError):
        error.outcome = Outcome.SAFE_TO_RETRY
    if isinstance(error, RaftkvError):
        return error
    return errors.Unavailable(f"the node failed while it read: {error!r}")
