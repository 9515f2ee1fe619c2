"""An error as the gRPC status that ends a call, and back."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from raftkv import errors
from raftkv.errors import Outcome, RaftkvError, from_wire
from raftkv.rpc.v1 import api_pb2

DOMAIN: Final = "raftkv"
"""In the ErrorInfo of a status: a node of raftkv ended the call, not gRPC itself."""

DETAILS_METADATA: Final = "grpc-status-details-bin"
"""The trailing metadata that carry a status' details."""

OUTCOME_FACT: Final = "outcome"

STATUS_TEXT_BYTES_MAX: Final = 1024
"""Of the message and of each fact, which may quote what the client sent. A status is in the call's
metadata twice, and a client drops a call whose metadata are over 8 KiB."""

# The nearest class in an error's ancestry decides.
_CODES: dict[type[RaftkvError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RevisionCompacted: grpc.StatusCode.OUT_OF_RANGE,
    errors.RevisionInFuture: grpc.StatusCode.OUT_OF_RANGE,
    errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LeaseNotFound: grpc.StatusCode.NOT_FOUND,
    errors.LeaseExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.KeyNotFound: grpc.StatusCode.NOT_FOUND,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.UserNotFound: grpc.StatusCode.NOT_FOUND,
    errors.UserExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.RoleNotFound: grpc.StatusCode.NOT_FOUND,
    errors.RoleExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.TokenNotFound: grpc.StatusCode.NOT_FOUND,
    errors.MemberUnknown: grpc.StatusCode.NOT_FOUND,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
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


def status_of(error: RaftkvError, header: api_pb2.ReplyHeader | None = None) -> grpc.Status:
    """The error as a status; `read_status` is the inverse.

    Its details are ErrorInfo (reason, outcome, facts), RetryInfo, and the header of the node.
    """
    message = _shortened(error.message)
    status = status_pb2.Status(code=code_of(error).value[0], message=message)
    facts = {name: _shortened(fact) for name, fact in error.facts.items()}
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=DOMAIN,
            metadata={**facts, OUTCOME_FACT: error.outcome.name},
        )
    )
    if error.retry_after_s:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_s * 1_000))
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


class CallEnd(NamedTuple):
    """The status of a call that a node of raftkv ended."""

    error: RaftkvError
    header: api_pb2.ReplyHeader | None  # of the node, if the status carries it


def read_status(call: grpc.aio.AioRpcError) -> CallEnd | None:
    """The error that a node ended this call with; None if gRPC itself ended it."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    found, header = api_pb2.ReplyHeader(), None
    metadata: Any = call.trailing_metadata()
    for name, value in metadata or ():
        if name == DETAILS_METADATA:
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break
            for detail in status.details:
                if detail.Unpack(found):
                    header = found
                elif not detail.Unpack(info):
                    detail.Unpack(retry)
    facts = dict(info.metadata)
    outcome = facts.pop(OUTCOME_FACT, "")
    if info.domain != DOMAIN or outcome not in Outcome.__members__:
        return None
    retry_after_s = retry.retry_delay.ToMilliseconds() / 1_000
    error = from_wire(info.reason, call.details() or "", Outcome[outcome], retry_after_s, facts)
    return CallEnd(error, header)


def error_of_call(call: grpc.aio.AioRpcError) -> RaftkvError | None:
    """The error that a node ended this call with; None if gRPC itself ended it."""
    end = read_status(call)
    return None if end is None else end.error
