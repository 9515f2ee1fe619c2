"""What raftkv's errors mean for an operation of the harness."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from jepsen_lite.clients.protocol import CompactedError, OperationError
from jepsen_lite.history import Kind
from raftkv.errors import Outcome, RaftkvError, Refused, RevisionCompacted


def operation_error(error: RaftkvError) -> OperationError:
    """What an error of raftkv means for the operation."""
    if isinstance(error, RevisionCompacted):
        return CompactedError(str(error), int(error.facts.get("compacted_revision", 0)))
    unknown = error.outcome is Outcome.MAYBE_APPLIED
    return OperationError(
        str(error),
        reason=error.reason,
        kind=Kind.INFO if unknown else Kind.FAIL,
        refused=isinstance(error, Refused),
    )


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """Raise the `OperationError` of each raftkv error in this block."""
    try:
        yield
    except RaftkvError as error:
        raise operation_error(error) from error
