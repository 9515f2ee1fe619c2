"""raftkv: a Raft-replicated key-value store. This is the face of its client library.

    import raftkv

    async with raftkv.connect("127.0.0.1:7411,127.0.0.1:7412") as client:
        await client.put("greeting", "hello")
        await client.txn(
            compare=[raftkv.when.version("lock") == 0],
            success=[raftkv.op.put("lock", "mine")],
        )

`connect_sync` gives the same client to code without an event loop. Everything raised on purpose
is a `RaftkvError`; its `outcome` says what may have happened.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftkv.client import op, when
    from raftkv.client.client import Client, connect
    from raftkv.client.deletion import PagedDeletion
    from raftkv.client.elections import Election, LeaderInfo, Leadership
    from raftkv.client.grants import Grant, LockInfo, LockMember
    from raftkv.client.kept_leases import KeptLease
    from raftkv.client.levels import Bounded, ReadLevel, bounded
    from raftkv.client.locks import Lock
    from raftkv.client.op import Operation, Sort
    from raftkv.client.results import (
        DeleteResult,
        KeyValue,
        LeaseResult,
        LeaseTimeToLive,
        OperationResult,
        PutResult,
        RangeResult,
        Reading,
        SwapResult,
        TransactionResult,
    )
    from raftkv.client.scan import Scan
    from raftkv.client.settings import ClientSettings
    from raftkv.client.status import Member, NodeStatus, PeerStatus, Reachability, Role
    from raftkv.client.sync import SyncClient, connect_sync
    from raftkv.client.sync_pages import SyncPagedDeletion, SyncScan
    from raftkv.client.transactions import Transaction
    from raftkv.client.values import prefix_end
    from raftkv.client.watch import Watch
    from raftkv.client.watch_events import EventKind, WatchEvent
    from raftkv.client.watch_sync import SyncWatch
    from raftkv.client.when import Compare
    from raftkv.errors import (
        ConfigurationError,
        ConnectionFailed,
        DeadlineExceeded,
        FencedOff,
        GreenThreads,
        IdempotencyKeyReused,
        InvalidRequest,
        KeyNotFound,
        LeaseExists,
        LeaseNotFound,
        LockLost,
        LockNotAcquired,
        LockReentered,
        MembershipRefused,
        MemberUnknown,
        NoLeader,
        NotServing,
        Outcome,
        OutcomeUnknown,
        Overloaded,
        RaftkvError,
        Refused,
        RevisionCompacted,
        RevisionInFuture,
        SessionExpired,
        ShuttingDown,
        SizeMismatch,
        TooLarge,
        TooManyKeys,
        TransactionConflict,
        Unavailable,
        UnusableHere,
        WrongCluster,
        WrongLoop,
        WrongProcess,
    )
    from raftkv.fencing import FencingGuard

__version__ = "0.1.0"

__all__ = [
    "Bounded",
    "Client",
    "ClientSettings",
    "Compare",
    "ConfigurationError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "DeleteResult",
    "Election",
    "EventKind",
    "FencedOff",
    "FencingGuard",
    "Grant",
    "GreenThreads",
    "IdempotencyKeyReused",
    "InvalidRequest",
    "KeptLease",
    "KeyNotFound",
    "KeyValue",
    "LeaderInfo",
    "Leadership",
    "LeaseExists",
    "LeaseNotFound",
    "LeaseResult",
    "LeaseTimeToLive",
    "Lock",
    "LockInfo",
    "LockLost",
    "LockMember",
    "LockNotAcquired",
    "LockReentered",
    "Member",
    "MemberUnknown",
    "MembershipRefused",
    "NoLeader",
    "NodeStatus",
    "NotServing",
    "Operation",
    "OperationResult",
    "Outcome",
    "OutcomeUnknown",
    "Overloaded",
    "PagedDeletion",
    "PeerStatus",
    "PutResult",
    "RaftkvError",
    "RangeResult",
    "Reachability",
    "ReadLevel",
    "Reading",
    "Refused",
    "RevisionCompacted",
    "RevisionInFuture",
    "Role",
    "Scan",
    "SessionExpired",
    "ShuttingDown",
    "SizeMismatch",
    "Sort",
    "SwapResult",
    "SyncClient",
    "SyncPagedDeletion",
    "SyncScan",
    "SyncWatch",
    "TooLarge",
    "TooManyKeys",
    "TooStale",
    "Transaction",
    "TransactionConflict",
    "TransactionResult",
    "Unavailable",
    "UnusableHere",
    "Watch",
    "WatchEvent",
    "WrongCluster",
    "WrongLoop",
    "WrongProcess",
    "__version__",
    "bounded",
    "connect",
    "connect_sync",
    "op",
    "prefix_end",
    "when",
]

_HOMES = (
    "raftkv.errors",
    "raftkv.client.client",
    "raftkv.client.deletion",
    "raftkv.client.elections",
    "raftkv.client.grants",
    "raftkv.client.kept_leases",
    "raftkv.client.levels",
    "raftkv.client.locks",
    "raftkv.client.op",
    "raftkv.client.results",
    "raftkv.client.scan",
    "raftkv.client.settings",
    "raftkv.client.status",
    "raftkv.client.sync",
    "raftkv.client.sync_pages",
    "raftkv.client.transactions",
    "raftkv.client.values",
    "raftkv.client.watch",
    "raftkv.client.watch_events",
    "raftkv.client.watch_sync",
    "raftkv.client.when",
    "raftkv.client",
    "raftkv.fencing",
)


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> object:
    """A public name, imported at its first use: `raftkv --help` and a node need no client."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(home)
            if hasattr(module, name):
                globals()[name] = found = getattr(module, name)
                return found
    raise AttributeError(f"module 'raftkv' has no attribute {name!r}")
