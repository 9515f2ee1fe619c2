"""The exit codes of the `raftkv` command, and which error has which."""

from __future__ import annotations

import enum

from raftkv.errors import (
    ConfigurationError,
    InvalidRequest,
    LockLost,
    LockNotAcquired,
    Outcome,
    OutOfService,
    RaftkvError,
    Refused,
    StorageError,
    Unauthenticated,
    Unavailable,
    WrongCluster,
)


class ExitCode(enum.IntEnum):
    """Scripts rely on these: they never change. READER_GONE is what a shell shows for SIGPIPE."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NO = 3
    UNAVAILABLE = 4
    OUTCOME_UNKNOWN = 5
    REFUSED = 6
    STORAGE = 7
    INVARIANT = 8
    NOT_ACQUIRED = 9
    LOST = 10
    COMMAND_FAILED = 11
    WRONG_CLUSTER = 12
    OUTPUT_LOST = 13
    DEFECT = 70
    READER_GONE = 141


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.ERROR: "failed, nothing was applied; bench: a call failed; autopilot: not healthy",
    ExitCode.USAGE: "wrong arguments, configuration or request; or a port is in use",
    ExitCode.NO: "the key is not there, or the comparison failed",
    ExitCode.UNAVAILABLE: "no node or no majority could serve it; nothing happened, try again",
    ExitCode.OUTCOME_UNKNOWN: "a write was sent and no answer came: it may have been applied",
    ExitCode.REFUSED: "the present state forbids it (no such lease or member, no right, ...)",
    ExitCode.STORAGE: "a disk can't be used, or the file of a backup is damaged",
    ExitCode.INVARIANT: "serve: a safety check failed and the node stopped",
    ExitCode.NOT_ACQUIRED: "lock, elect: others held it, or led, for as long as was waited",
    ExitCode.LOST: "lock, elect, lease keep-alive: it was held, and lost",
    ExitCode.COMMAND_FAILED: "lock: it was held to the end, but its command failed",
    ExitCode.WRONG_CLUSTER: "another cluster answers, at some of the endpoints or by now at all",
    ExitCode.OUTPUT_LOST: "done, but the result could not be written",
    ExitCode.DEFECT: "an error of raftkv itself, with a traceback: it may have been applied",
    ExitCode.READER_GONE: "done as far as it was read: the reader of the output went away",
}

# The first class that an error is an instance of decides.
_BY_FAMILY: tuple[tuple[type[RaftkvError], ExitCode], ...] = (
    (Unavailable, ExitCode.UNAVAILABLE),
    (InvalidRequest, ExitCode.USAGE),
    (ConfigurationError, ExitCode.USAGE),
    (LockNotAcquired, ExitCode.NOT_ACQUIRED),
    (LockLost, ExitCode.LOST),
    (Refused, ExitCode.REFUSED),
    (Unauthenticated, ExitCode.REFUSED),
    (StorageError, ExitCode.STORAGE),
    (OutOfService, ExitCode.STORAGE),
    (WrongCluster, ExitCode.WRONG_CLUSTER),
)


def exit_code_of(error: RaftkvError) -> ExitCode:
    """The code that a script sees for this error."""
    if error.outcome is Outcome.MAYBE_APPLIED:  # also a refusal of what had been sent before
        return ExitCode.OUTCOME_UNKNOWN
    return next((code for kind, code in _BY_FAMILY if isinstance(error, kind)), ExitCode.ERROR)
