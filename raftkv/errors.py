"""Every exception of raftkv, and what may have happened to the operation that failed.

    RaftkvError
    ├── InvalidRequest              the request can never work as it is
    │   ├── RevisionCompacted
    │   ├── RevisionInFuture
    │   ├── ClocksIncomparable
    │   └── TooLarge
    ├── Refused                     the state of the store or cluster forbids it
    │   ├── LeaseNotFound
    │   ├── LeaseExists
    │   ├── KeyNotFound
    │   ├── SessionExpired
    │   ├── IdempotencyKeyReused
    │   ├── FencedOff
    │   ├── LockLost
    │   ├── LockNotAcquired
    │   │   └── NotElected
    │   ├── LockReentered
    │   ├── TransactionConflict
    │   ├── SizeMismatch
    │   ├── TooManyKeys
    │   ├── PermissionDenied        the user lacks a right
    │   ├── UserNotFound
    │   ├── UserExists
    │   ├── RoleNotFound
    │   ├── RoleExists
    │   ├── TokenNotFound
    │   ├── MemberUnknown
    │   ├── ClockDrift
    │   ├── ReplicasDiffer          no majority of voters agrees on the state
    │   └── MembershipRefused
    ├── Unavailable                 try again, here or elsewhere
    │   ├── NoLeader
    │   ├── NotLeader
    │   ├── ConnectionFailed
    │   ├── ShuttingDown
    │   ├── NotServing              this node waits for founders, or is out of service
    │   ├── Overloaded
    │   ├── TooStale
    │   └── DeadlineExceeded        of a read, or of a write that was never sent
    ├── Unauthenticated             the cluster does not accept who the caller claims to be
    ├── OutcomeUnknown              a write that may or may not have happened
    ├── ConfigurationError
    │   └── AddressInUse
    ├── WrongCluster                the answering node belongs to another cluster or incarnation
    ├── UnusableHere                the client can't be used from here, and nothing was sent
    │   ├── WrongProcess            it was created before this process was forked
    │   ├── WrongLoop               it belongs to another event loop
    │   └── GreenThreads            gevent or eventlet has replaced the threads that it needs
    ├── OutOfService                this node must not take part until its operator has decided
    ├── RemovedFromCluster          this node is no longer a member of its cluster
    └── StorageError                this node can't continue with its disk
        ├── DiskFull
        ├── OutOfResources          a lack of descriptors or memory, not a failure of the disk
        ├── DamagedData
        ├── DamagedBackup           a file is not the whole backup that was saved
        ├── DirectoryInUse
        └── DirectoryMismatch

    InvariantViolation              outside the tree: no `except RaftkvError` can swallow it

`outcome` decides whether a retry is safe: NOT_APPLIED (the same request will fail again),
SAFE_TO_RETRY (not applied, and the same request may succeed later), MAYBE_APPLIED (only a retry
under the same session and sequence is safe). `reason` is the same on the wire and never changes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import ClassVar


def printable(data: bytes) -> str:
    """Text that is safe for a terminal: UTF-8 if it is that, anything else as \\x.. escapes."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in data)
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


class Outcome(enum.IntEnum):
    """What may have happened to the operation that failed. The numbers are those of the wire."""

    NOT_APPLIED = 0
    SAFE_TO_RETRY = 1
    MAYBE_APPLIED = 2

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class RaftkvError(Exception):
    """Base of everything raftkv raises on purpose.

    `facts` are machine-readable details, all strings. `retry_after_s` is the server's advice, 0 if
    it has none.
    """

    reason: ClassVar[str] = "ERROR"
    outcome: Outcome = Outcome.NOT_APPLIED

    def __init__(self, message: str, *, retry_after_s: float = 0.0, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.facts = {
            name: printable(value) if isinstance(value, bytes) else str(value)
            for name, value in facts.items()
        }


class InvalidRequest(RaftkvError):
    """The request is malformed or over a limit; the message names field, limit and fix."""

    reason = "INVALID_REQUEST"


class RevisionCompacted(InvalidRequest):
    """The revision is compacted; `facts["compacted_revision"]` is the oldest that can be read."""

    reason = "REVISION_COMPACTED"


class RevisionInFuture(InvalidRequest):
    """The revision does not exist yet; `facts["revision"]` is the current one."""

    reason = "REVISION_IN_FUTURE"


class ClocksIncomparable(InvalidRequest):
    """Two vector times with different retired members, which can't be compared reliably."""

    reason = "CLOCKS_INCOMPARABLE"


class TooLarge(InvalidRequest):
    """A key, value, request or reply is over its limit."""

    reason = "TOO_LARGE"


class Refused(RaftkvError):
    """The state of the store or cluster forbids the operation."""

    reason = "REFUSED"


class LeaseNotFound(Refused):
    """The lease never existed, was revoked, or has expired."""

    reason = "LEASE_NOT_FOUND"


class LeaseExists(Refused):
    """A lease with this id is already granted."""

    reason = "LEASE_EXISTS"


class KeyNotFound(Refused):
    """The operation needs an existing key (a put that keeps the value or the lease)."""

    reason = "KEY_NOT_FOUND"


class SessionExpired(Refused):
    """The session's lease has ended, and the results that protect retries are deleted."""

    reason = "SESSION_EXPIRED"


class IdempotencyKeyReused(Refused):
    """This idempotency key already belongs to a different command."""

    reason = "IDEMPOTENCY_KEY_REUSED"


class FencedOff(Refused):
    """The fencing token is not the current one; `facts["holder_token"]` is, 0 without a holder."""

    reason = "FENCED_OFF"


class LockLost(Refused):
    """The lock is no longer held, or may no longer be: its lease has ended or may have ended.

    Also raised for a queue entry, a leadership and a lease that was kept alive.
    """

    reason = "LOCK_LOST"


class LockNotAcquired(Refused):
    """Another client holds the lock, and the caller's waiting time is over.

    Raised only if a node has confirmed it: an outage raises `DeadlineExceeded`. Also raised by
    `DoubleBarrier.enter` after its timeout, if not all members have come.
    """

    reason = "LOCK_NOT_ACQUIRED"


class NotElected(LockNotAcquired):
    """Another candidate leads, and the caller's waiting time is over.

    Raised only if that is known: an outage is `DeadlineExceeded`. `facts["name"]` is the election's
    name. A `LockNotAcquired`, because an election is the queue of a lock, and because programs that
    were written before this class existed catch that around `campaign`.
    """

    reason = "NOT_ELECTED"


class LockReentered(Refused):
    """The caller already holds this lock, or the resource of a fencing guard.

    It would wait for itself for ever.
    """

    reason = "LOCK_REENTERED"


class TransactionConflict(Refused):
    """Each attempt of a transaction conflicted with other writers; nothing was changed."""

    reason = "TRANSACTION_CONFLICT"


class SizeMismatch(Refused):
    """Other clients use this name with another size, `facts["size"]`.

    Raised for the slots of a semaphore and the members of a double barrier.
    """

    reason = "SIZE_MISMATCH"


class TooManyKeys(Refused):
    """The operation would scan, delete or attach more keys than `facts["keys_max"]`.

    Nothing was changed. The message explains how to continue in pages.
    """

    reason = "TOO_MANY_KEYS"


class PermissionDenied(Refused):
    """The user lacks a right; `facts["missing"]` names it.

    With the outcome MAYBE_APPLIED, the command had been sent before, and its result is withheld.
    """

    reason = "PERMISSION_DENIED"


class UserNotFound(Refused):
    """There is no user of this name."""

    reason = "USER_NOT_FOUND"


class UserExists(Refused):
    """There is a user of this name already."""

    reason = "USER_EXISTS"


class RoleNotFound(Refused):
    """There is no role of this name, or the user does not have it."""

    reason = "ROLE_NOT_FOUND"


class RoleExists(Refused):
    """There is a role of this name already."""

    reason = "ROLE_EXISTS"


class TokenNotFound(Refused):
    """There is no service token of this id."""

    reason = "TOKEN_NOT_FOUND"


class MemberUnknown(Refused):
    """No member of the cluster has this node id."""

    reason = "MEMBER_UNKNOWN"


class ClockDrift(Refused):
    """A hybrid time is too far ahead of this machine's clock, by `facts["ahead_ms"]`."""

    reason = "CLOCK_DRIFT"


class ReplicasDiffer(Refused):
    """The states of voters differ, and no majority agrees on one: only the operator can decide.

    The write was not proposed. Reads are served, each from the state of the node that answers.
    """

    reason = "REPLICAS_DIFFER"


class MembershipRefused(Refused):
    """The membership can't be changed now; the message names the obstacle."""

    reason = "MEMBERSHIP_REFUSED"


class Unavailable(RaftkvError):
    """The node or cluster can't serve the request now; nothing was applied."""

    reason = "UNAVAILABLE"
    outcome = Outcome.SAFE_TO_RETRY


class NoLeader(Unavailable):
    """No leader with a majority is known; the cluster is electing, or a majority is lost."""

    reason = "NO_LEADER"


class NotLeader(Unavailable):
    """Only the leader serves this; `facts["leader_address"]` is its client address."""

    reason = "NOT_LEADER"


class ConnectionFailed(Unavailable):
    """No connection, and the request was never sent."""

    reason = "CONNECTION_FAILED"


class ShuttingDown(Unavailable):
    """The node is stopping and accepts no new requests; use another one."""

    reason = "SHUTTING_DOWN"


class NotServing(Unavailable):
    """This node runs, but does not serve: it waits for other founders, or is out of service.

    The message names the missing founders, or the reason and the fix. Use another node.
    """

    reason = "NOT_SERVING"


class Overloaded(Unavailable):
    """A limit of the server was reached; wait `retry_after_s` before the next attempt."""

    reason = "OVERLOADED"


class TooStale(Unavailable):
    """The node's state is older than the read allows, and no newer state was available in time."""

    reason = "TOO_STALE"


class DeadlineExceeded(Unavailable):
    """The caller's deadline passed before the request could change anything."""

    reason = "DEADLINE_EXCEEDED"


class Unauthenticated(RaftkvError):
    """The caller gave no valid password, token or certificate of a user; nothing was done."""

    reason = "UNAUTHENTICATED"


class OutcomeUnknown(RaftkvError):
    """A write was sent, and no answer arrived: it may have been applied, or may be applied later.

    Read the key back, or repeat the write under the same idempotency key.
    """

    reason = "OUTCOME_UNKNOWN"
    outcome = Outcome.MAYBE_APPLIED


class ConfigurationError(RaftkvError):
    """A setting is missing, unknown or out of its range; the message names it and the fix."""

    reason = "CONFIGURATION"


class AddressInUse(ConfigurationError):
    """Another process listens on this address."""

    reason = "ADDRESS_IN_USE"


class WrongCluster(RaftkvError):
    """The answering node belongs to another cluster than the client's, or to another incarnation.

    The client's revisions, sessions, locks and watches are not valid there.
    """

    reason = "WRONG_CLUSTER"


class UnusableHere(RaftkvError):
    """The client can't be used from this process, event loop or thread; nothing was sent."""

    reason = "UNUSABLE_HERE"


class WrongProcess(UnusableHere):
    """The client was created in the process from which this one was forked.

    Its connections, session and locks belong to that process, which continues to use them.
    """

    reason = "WRONG_PROCESS"


class WrongLoop(UnusableHere):
    """The client belongs to another event loop, or that loop is closed."""

    reason = "WRONG_LOOP"


class GreenThreads(UnusableHere):
    """gevent or eventlet has replaced the threads and sockets that the client needs."""

    reason = "GREEN_THREADS"


class OutOfService(RaftkvError):
    """This node's data is damaged, or contradicts the data of its cluster.

    The node does not vote, acknowledge entries or serve clients, also after a restart, until its
    operator has decided. The message names both sides and the fix.
    """

    reason = "OUT_OF_SERVICE"


class RemovedFromCluster(RaftkvError):
    """This node was removed from its cluster and has stopped; its id must not be used again."""

    reason = "REMOVED_FROM_CLUSTER"


class StorageError(RaftkvError):
    """The node's disk failed. The node stops; acknowledged writes are safe with the majority."""

    reason = "STORAGE"


class DiskFull(StorageError):
    """No space is left for the log or the state."""

    reason = "DISK_FULL"


class OutOfResources(StorageError):
    """The process has no file descriptors or memory left. The disk has not failed."""

    reason = "OUT_OF_RESOURCES"
    outcome = Outcome.SAFE_TO_RETRY


class DamagedData(StorageError):
    """A record on the disk differs from what was written. It is never served."""

    reason = "DAMAGED_DATA"


class DamagedBackup(StorageError):
    """The file of a backup differs from what was saved, or is not a backup. Nothing is restored."""

    reason = "DAMAGED_BACKUP"


class DirectoryInUse(StorageError):
    """Another process has this data directory open."""

    reason = "DIRECTORY_IN_USE"


class DirectoryMismatch(StorageError):
    """The data directory belongs to another cluster, node or format."""

    reason = "DIRECTORY_MISMATCH"


class InvariantViolation(BaseException):
    """A safety property of Raft or of the store does not hold: the node must stop."""

    def __init__(self, invariant: str, **facts: object) -> None:
        details = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        super().__init__(f"{invariant} ({details})" if details else invariant)
        self.invariant = invariant
        self.facts = facts


def check(holds: bool, invariant: str, **facts: object) -> None:
    """Stop the node if `holds` is false: a wrong answer is worse than none.

    Not `assert`: `python -O` must not be able to remove a safety check.
    """
    if not holds:
        raise InvariantViolation(invariant, **facts)


def _family(root: type[RaftkvError]) -> Iterator[type[RaftkvError]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


BY_REASON: dict[str, type[RaftkvError]] = {error.reason: error for error in _family(RaftkvError)}


def from_wire(
    reason: str, message: str, outcome: int, retry_after_s: float, facts: dict[str, str]
) -> RaftkvError:
    """Rebuild an error from its parts; an unknown reason keeps the outcome in the base class."""
    error = BY_REASON.get(reason, RaftkvError)(message, retry_after_s=retry_after_s, **facts)
    error.outcome = Outcome(outcome)
    return error


def copy_of(error: RaftkvError, *, outcome: Outcome | None = None, more: str = "") -> RaftkvError:
    """The same error for one more caller, as an exception that is raised twice mixes both traces.

    `outcome`: another one than the error has. `more` is added to the message.
    """
    decided = error.outcome if outcome is None else outcome
    message = error.message + more
    return from_wire(error.reason, message, decided, error.retry_after_s, error.facts)
