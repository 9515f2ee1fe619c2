"""raftkv: a key-value store that Raft replicates, and its client library.

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

from functools import cache
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    # The only list of the public names. At run time a name is imported at its first use, so that
    # `raftkv --help` and a node load no client.
    from raftkv.client.api.auth import Auth as Auth
    from raftkv.client.api.paging import (
        PagedDeletion as PagedDeletion,
        Scan as Scan,
    )
    from raftkv.client.api.transactions import Transaction as Transaction
    from raftkv.client.client import (
        Client as Client,
        connect as connect,
    )
    from raftkv.client.tls import Tls as Tls
    from raftkv.client.coordination.election import (
        Election as Election,
        LeaderInfo as LeaderInfo,
        Leadership as Leadership,
    )
    from raftkv.client.coordination.lease import KeptLease as KeptLease
    from raftkv.client.coordination.lock import Lock as Lock
    from raftkv.client.model import (
        op as op,
        when as when,
    )
    from raftkv.client.model.op import (
        Operation as Operation,
        Sort as Sort,
    )
    from raftkv.client.model.read_levels import (
        Bounded as Bounded,
        ReadLevel as ReadLevel,
        bounded as bounded,
    )
    from raftkv.client.model.results import (
        DeleteResult as DeleteResult,
        EventKind as EventKind,
        Grant as Grant,
        KeyValue as KeyValue,
        LeaseResult as LeaseResult,
        LeaseTimeToLive as LeaseTimeToLive,
        LockInfo as LockInfo,
        LockMember as LockMember,
        OperationResult as OperationResult,
        PutResult as PutResult,
        RangeResult as RangeResult,
        Reading as Reading,
        SwapResult as SwapResult,
        TransactionResult as TransactionResult,
        WatchEvent as WatchEvent,
    )
    from raftkv.client.model.status import (
        ConfigReload as ConfigReload,
        Member as Member,
        NodeStatus as NodeStatus,
        PeerStatus as PeerStatus,
        Reachability as Reachability,
        Role as Role,
        SettingChange as SettingChange,
    )
    from raftkv.client.model.users import (
        KeyAccess as KeyAccess,
        AdministrativeRight as AdministrativeRight,
        AuthStatus as AuthStatus,
        NewToken as NewToken,
        Permission as Permission,
        RoleInfo as RoleInfo,
        TokenInfo as TokenInfo,
        UserInfo as UserInfo,
    )
    from raftkv.client.model.when import Compare as Compare
    from raftkv.client.requests import prefix_end as prefix_end
    from raftkv.client.settings import ClientSettings as ClientSettings
    from raftkv.client.sync.auth import SyncAuth as SyncAuth
    from raftkv.client.sync.client import (
        SyncClient as SyncClient,
        connect_sync as connect_sync,
    )
    from raftkv.client.sync.locks import (
        SyncElection as SyncElection,
        SyncKeptLease as SyncKeptLease,
        SyncLeadership as SyncLeadership,
        SyncLock as SyncLock,
    )
    from raftkv.client.sync.pages import (
        SyncPagedDeletion as SyncPagedDeletion,
        SyncScan as SyncScan,
    )
    from raftkv.client.sync.transactions import SyncTransaction as SyncTransaction
    from raftkv.client.sync.watch import SyncWatch as SyncWatch
    from raftkv.client.watch.watch import Watch as Watch
    from raftkv.errors import (
        ClockDrift as ClockDrift,
        ClocksIncomparable as ClocksIncomparable,
        ConfigurationError as ConfigurationError,
        ConnectionFailed as ConnectionFailed,
        DamagedData as DamagedData,
        DeadlineExceeded as DeadlineExceeded,
        DirectoryInUse as DirectoryInUse,
        DiskFull as DiskFull,
        FencedOff as FencedOff,
        GreenThreads as GreenThreads,
        IdempotencyKeyReused as IdempotencyKeyReused,
        InvalidRequest as InvalidRequest,
        KeyNotFound as KeyNotFound,
        LeaseExists as LeaseExists,
        LeaseNotFound as LeaseNotFound,
        LockLost as LockLost,
        LockNotAcquired as LockNotAcquired,
        LockReentered as LockReentered,
        MembershipRefused as MembershipRefused,
        MemberUnknown as MemberUnknown,
        NoLeader as NoLeader,
        NotElected as NotElected,
        NotLeader as NotLeader,
        NotServing as NotServing,
        Outcome as Outcome,
        OutcomeUnknown as OutcomeUnknown,
        OutOfResources as OutOfResources,
        Overloaded as Overloaded,
        PermissionDenied as PermissionDenied,
        RaftkvError as RaftkvError,
        Refused as Refused,
        ReplicasDiffer as ReplicasDiffer,
        RevisionCompacted as RevisionCompacted,
        RevisionInFuture as RevisionInFuture,
        RoleExists as RoleExists,
        RoleNotFound as RoleNotFound,
        SessionExpired as SessionExpired,
        ShuttingDown as ShuttingDown,
        SizeMismatch as SizeMismatch,
        StorageError as StorageError,
        TokenNotFound as TokenNotFound,
        TooLarge as TooLarge,
        TooManyKeys as TooManyKeys,
        TooStale as TooStale,
        TransactionConflict as TransactionConflict,
        Unauthenticated as Unauthenticated,
        Unavailable as Unavailable,
        UnusableHere as UnusableHere,
        UserExists as UserExists,
        UserNotFound as UserNotFound,
        WrongCluster as WrongCluster,
        WrongLoop as WrongLoop,
        WrongProcess as WrongProcess,
    )
    from raftkv.fencing import FencingGuard as FencingGuard

if not TYPE_CHECKING:  # a type checker would take `__getattr__` for any attribute

    @cache
    def _public_names() -> dict[str, tuple[str, str]]:
        """Each public name with its module and its name there, read from the imports above."""
        import ast

        source = __spec__.loader.get_source(__name__)
        if source is None:
            raise ImportError("the source of raftkv/__init__.py is needed and is missing")
        blocks = (each for each in ast.parse(source).body if isinstance(each, ast.If))
        imports = next(each.body for each in blocks if ast.unparse(each.test) == "TYPE_CHECKING")
        return {
            alias.asname: (statement.module, alias.name)
            for statement in imports
            for alias in statement.names
        }

    def __dir__() -> list[str]:
        return sorted({*_public_names(), "__version__"})

    def __getattr__(name: str) -> object:
        if name == "__all__":
            return __dir__()
        if name.startswith("__") or name not in _public_names():
            raise AttributeError(f"module 'raftkv' has no attribute {name!r}")
        module, name_there = _public_names()[name]
        # As `from module import name_there`, which also finds a module that is not imported yet.
        found = getattr(__import__(module, fromlist=[name_there]), name_there)
        globals()[name] = found
        return found
