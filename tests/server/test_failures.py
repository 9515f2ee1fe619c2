"""Errors on the wire and back."""

from __future__ import annotations

import grpc
import pytest

from raftkv import errors
from raftkv.errors import BY_REASON, Outcome, OutcomeUnknown, RaftkvError
from raftkv.server import failures


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

    back = failures.error_of(failures.failure_of(error))

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

    back = failures.error_of_call(Ended(failures.status_of(error)))

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
def test_each_error_has_its_grpc_code(
    error_class: type[RaftkvError], code: grpc.StatusCode
) -> None:
    assert failures.code_of(error_class("")) is code


def test_an_outcome_other_than_its_class_default_survives_the_wire() -> None:
    error = errors.StorageError("bad bytes")
    error.outcome = Outcome.SAFE_TO_RETRY

    assert failures.error_of(failures.failure_of(error)).outcome is Outcome.SAFE_TO_RETRY


def test_a_call_that_grpc_itself_ended_has_no_typed_error() -> None:
    call = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="refused"
    )

    assert failures.error_of_call(call) is None


def test_a_write_that_ended_in_a_bug_may_have_been_applied() -> None:
    assert isinstance(failures.of_write(KeyError("bug")), OutcomeUnknown)


def test_a_read_that_failed_on_a_bad_disk_is_safe_to_retry() -> None:
    error = failures.of_read(errors.DamagedData("checksum"))

    assert (error.reason, error.outcome) == ("DAMAGED_DATA", Outcome.SAFE_TO_RETRY)


def test_a_status_fits_into_metadata_however_long_its_texts() -> None:
    quoted = "\N{SNOWMAN}" * 8192
    error = errors.InvalidRequest(f"key {quoted} is odd; choose another", key=quoted)
    status = failures.status_of(error)
    travelling = 3 * len(status.details.encode()) + sum(
        len(value) * 4 // 3 for _, value in status.trailing_metadata
    )
    assert travelling < 8192
    assert status.details.startswith("key ")
    assert status.details.endswith("is odd; choose another")
