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
    from raftkv.client.api.paging import PagedDeletion, Scan
    from raftkv.client.api.transactions import Transaction
    from raftkv.client.client import Client, connect
    from raftkv.client.coordination.election import Election, LeaderInfo, Leadership
    from raftkv.client.coordination.lease import KeptLease
    from raftkv.client.coordination.lock import Lock
    from raftkv.client.model import op, when
    from raftkv.client.model.op import Operation, Sort
    from raftkv.client.model.read_levels import Bounded, ReadLevel, bounded
    from raftkv.client.model.results import (
        DeleteResult,
        EventKind,
        Grant,
        KeyValue,
        LeaseResult,
        LeaseTimeToLive,
        LockInfo,
        LockMember,
        OperationResult,
        PutResult,
        RangeResult,
        Reading,
        SwapResult,
        TransactionResult,
        WatchEvent,
    )
    from raftkv.client.model.status import Member, NodeStatus, PeerStatus, Reachability, Role
    from raftkv.client.model.when import Compare
    from raftkv.client.requests import prefix_end
    from raftkv.client.settings import ClientSettings
    from raftkv.client.sync.client import SyncClient, connect_sync
    from raftkv.client.sync.pages import SyncPagedDeletion, SyncScan
    from raftkv.client.sync.watch import SyncWatch
    from raftkv.client.watch.watch import Watch
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
        NotElected,
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
    "NotElected",
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
    "raftkv.client.api.pages",
    "raftkv.client.coordination.election",
    "raftkv.client.model.results",
    "raftkv.client.coordination.lease",
    "raftkv.client.model.read_levels",
    "raftkv.client.coordination.lock",
    "raftkv.client.model.op",
    "raftkv.client.model.results",
    "raftkv.client.api.pages",
    "raftkv.client.settings",
    "raftkv.client.model.status",
    "raftkv.client.sync.client",
    "raftkv.client.sync.pages",
    "raftkv.client.api.transactions",
    "raftkv.client.requests",
    "raftkv.client.watch.watch",
    "raftkv.client.model.results",
    "raftkv.client.sync.watch",
    "raftkv.client.model.when",
    "raftkv.client.model",
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
