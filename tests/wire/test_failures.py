"""An error comes back from the wire as it was."""

from __future__ import annotations

import grpc
import pytest

from raftkv import errors
from raftkv.errors import BY_REASON, Outcome, RaftkvError
from raftkv.rpc.v1 import api_pb2
from raftkv.wire.failures import error_of, failure_of
from raftkv.wire.grpc_status import (
    DETAILS_METADATA,
    code_of,
    error_of_call,
    read_status,
    status_of,
)


class Ended(grpc.aio.AioRpcError):
    """A call that ended with a status, as its client sees it."""

    def __init__(self, status: grpc.Status) -> None:
        trailing = grpc.aio.Metadata(*status.trailing_metadata)
        super().__init__(status.code, grpc.aio.Metadata(), trailing, details=status.details)


@pytest.mark.parametrize("error_class", BY_REASON.values(), ids=BY_REASON.keys())
def test_every_error_becomes_a_failure_message_and_comes_back(
    error_class: type[RaftkvError],
) -> None:
    error = error_class("what to do", retry_after_s=0.25, limit=7, field="key")

    back = error_of(failure_of(error))

    assert type(back) is error_class
    assert (back.message, back.outcome, back.retry_after_s, back.facts) == (
        "what to do",
        error.outcome,
        0.25,
        {"limit": "7", "field": "key"},
    )


@pytest.mark.parametrize("error_class", BY_REASON.values(), ids=BY_REASON.keys())
def test_every_error_becomes_a_grpc_status_and_comes_back(error_class: type[RaftkvError]) -> None:
    error = error_class("what to do", retry_after_s=0.25, limit=7)

    back = error_of_call(Ended(status_of(error)))

    assert type(back) is error_class
    assert (back.message, back.outcome, back.retry_after_s, back.facts) == (
        "what to do",
        error.outcome,
        0.25,
        {"limit": "7"},
    )


@pytest.mark.parametrize(
    ("error_class", "code"),
    [
        (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.TooLarge, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.RevisionCompacted, grpc.StatusCode.OUT_OF_RANGE),
        (errors.RevisionInFuture, grpc.StatusCode.OUT_OF_RANGE),
        (errors.SessionExpired, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.LeaseNotFound, grpc.StatusCode.NOT_FOUND),
        (errors.MemberUnknown, grpc.StatusCode.NOT_FOUND),
        (errors.NoLeader, grpc.StatusCode.UNAVAILABLE),
        (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.OutcomeUnknown, grpc.StatusCode.UNKNOWN),
        (errors.DamagedData, grpc.StatusCode.DATA_LOSS),
    ],
)
def test_a_generic_client_sees_the_code_that_fits(
    error_class: type[RaftkvError], code: grpc.StatusCode
) -> None:
    assert code_of(error_class("")) is code


def test_an_outcome_that_was_changed_on_the_way_survives() -> None:
    error = errors.StorageError("bad bytes")
    error.outcome = Outcome.SAFE_TO_RETRY

    assert error_of(failure_of(error)).outcome is Outcome.SAFE_TO_RETRY


def test_a_call_that_grpc_ended_has_no_typed_error() -> None:
    call = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="refused"
    )

    assert error_of_call(call) is None


def test_a_status_fits_into_metadata_whatever_it_quotes() -> None:
    quoted = "\N{SNOWMAN}" * 8192
    error = errors.InvalidRequest(f"key {quoted} is odd; choose another", key=quoted)
    status = status_of(error)
    travelling = 3 * len(status.details.encode()) + sum(
        len(value) * 4 // 3 for _, value in status.trailing_metadata
    )
    assert travelling < 8192
    assert status.details.startswith("key ")
    assert status.details.endswith("is odd; choose another")


def test_a_status_carries_the_header_of_the_node_that_ended_the_call() -> None:
    header = api_pb2.ReplyHeader(node_id=2, cluster_id=7)

    end = read_status(Ended(status_of(errors.KeyNotFound("no such key"), header)))

    assert end is not None
    assert (type(end.error), end.header) == (errors.KeyNotFound, header)


def test_a_status_without_a_header_has_none() -> None:
    end = read_status(Ended(status_of(errors.KeyNotFound("no such key"))))

    assert end is not None
    assert end.header is None


@pytest.mark.parametrize("details", [b"\xff", b""])
def test_details_that_no_node_sends_make_no_typed_error(details: bytes) -> None:
    trailing = grpc.aio.Metadata((DETAILS_METADATA, details))
    call = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), trailing)

    assert error_of_call(call) is None
