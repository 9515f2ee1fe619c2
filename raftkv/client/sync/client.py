"""The synchronous twin of the client: the same methods, run on the shared portal's loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import Self, TypeVar

from raftkv.client.api.kv import Fallback
from raftkv.client.api.paging import DELETE_PAGE_KEYS, SCAN_PAGE_KEYS
from raftkv.client.client import DEFAULT_TIMEOUT_S, Client, connect
from raftkv.client.connection.home import check_threads
from raftkv.client.coordination.lease import KeptLease
from raftkv.client.model.op import Operation, Sort
from raftkv.client.model.read_levels import Level, ReadLevel
from raftkv.client.model.results import (
    DeleteResult,
    Grant,
    KeyValue,
    LeaseResult,
    LeaseTimeToLive,
    LockInfo,
    PutResult,
    RangeResult,
    Reading,
    SwapResult,
    TransactionResult,
)
from raftkv.client.model.status import Member, NodeStatus
from raftkv.client.model.when import Compare
from raftkv.client.requests import Fences
from raftkv.client.settings import ClientSettings
from raftkv.client.sync.locks import SyncElection, SyncKeptLease, SyncLock
from raftkv.client.sync.pages import SyncPagedDeletion, SyncScan
from raftkv.client.sync.portal import shared_portal, twin_of
from raftkv.client.sync.transactions import SyncTransaction, run_on_this_thread
from raftkv.client.sync.watch import SyncWatch
from raftkv.errors import RaftkvError

R = TypeVar("R")


class SyncClient:
    """A connection to a cluster for code without an event loop, made by `raftkv.connect_sync`.

    Share one among all threads: what they ask at about the same time travels together. Otherwise as
    `Client`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._portal = shared_portal()
        self._call = self._portal.call
        self._portal.close_at_exit(client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @twin_of(Client.close)
    def close(self) -> None:
        self._portal.close(self._client.close)

    @property
    def asynchronous(self) -> Client:
        """The client that does the work, on the portal's loop; for the twins of recipes."""
        return self._client

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses that the client was given."""
        return self._client.endpoints

    @twin_of(Client.put)
    def put(
        self,
        key: str | bytes,
        value: str | bytes = b"",
        *,
        lease: int = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> PutResult:
        return self._call(
            self._client.put,
            key,
            value,
            lease=lease,
            prev_kv=prev_kv,
            ignore_value=ignore_value,
            ignore_lease=ignore_lease,
            fence=fence,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            timeout=timeout,
        )

    @twin_of(Client.get)
    def get(
        self,
        key: str | bytes,
        *,
        revision: int = 0,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> KeyValue | None:
        return self._call(
            self._client.get,
            key,
            revision=revision,
            level=level,
            fallback=fallback,
            timeout=timeout,
        )

    @twin_of(Client.read)
    def read(
        self,
        key: str | bytes,
        *,
        revision: int = 0,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> Reading:
        return self._call(
            self._client.read,
            key,
            revision=revision,
            level=level,
            fallback=fallback,
            timeout=timeout,
        )

    @twin_of(Client.range)
    def range(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        limit: int = 0,
        revision: int = 0,
        sort: Sort = Sort.KEY,
        descending: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> RangeResult:
        return self._call(
            self._client.range,
            start,
            end,
            prefix=prefix,
            limit=limit,
            revision=revision,
            sort=sort,
            descending=descending,
            keys_only=keys_only,
            count_only=count_only,
            level=level,
            fallback=fallback,
            timeout=timeout,
        )

    @twin_of(Client.range_prefix)
    def range_prefix(
        self,
        prefix: str | bytes,
        *,
        limit: int = 0,
        revision: int = 0,
        sort: Sort = Sort.KEY,
        descending: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> RangeResult:
        return self._call(
            self._client.range_prefix,
            prefix,
            limit=limit,
            revision=revision,
            sort=sort,
            descending=descending,
            keys_only=keys_only,
            count_only=count_only,
            level=level,
            fallback=fallback,
            timeout=timeout,
        )

    @twin_of(Client.delete)
    def delete(
        self,
        key: str | bytes,
        *,
        prev_kv: bool = False,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> DeleteResult:
        return self._call(
            self._client.delete,
            key,
            prev_kv=prev_kv,
            fence=fence,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            timeout=timeout,
        )

    @twin_of(Client.delete_range)
    def delete_range(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        limit: int = 0,
        prev_kv: bool = False,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> DeleteResult:
        return self._call(
            self._client.delete_range,
            start,
            end,
            prefix=prefix,
            limit=limit,
            prev_kv=prev_kv,
            fence=fence,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            timeout=timeout,
        )

    @twin_of(Client.delete_prefix)
    def delete_prefix(
        self,
        prefix: str | bytes,
        *,
        limit: int = 0,
        prev_kv: bool = False,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> DeleteResult:
        return self._call(
            self._client.delete_prefix,
            prefix,
            limit=limit,
            prev_kv=prev_kv,
            fence=fence,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            timeout=timeout,
        )

    @twin_of(Client.scan)
    def scan(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        revision: int = 0,
        keys_only: bool = False,
        page_keys: int = SCAN_PAGE_KEYS,
        level: Level = ReadLevel.LINEARIZABLE,
        timeout: float | None = None,
    ) -> SyncScan:
        return SyncScan(
            self._client.scan(
                start,
                end,
                prefix=prefix,
                revision=revision,
                keys_only=keys_only,
                page_keys=page_keys,
                level=level,
                timeout=timeout,
            )
        )

    @twin_of(Client.scan_prefix)
    def scan_prefix(
        self,
        prefix: str | bytes,
        *,
        revision: int = 0,
        keys_only: bool = False,
        page_keys: int = SCAN_PAGE_KEYS,
        level: Level = ReadLevel.LINEARIZABLE,
        timeout: float | None = None,
    ) -> SyncScan:
        return SyncScan(
            self._client.scan_prefix(
                prefix,
                revision=revision,
                keys_only=keys_only,
                page_keys=page_keys,
                level=level,
                timeout=timeout,
            )
        )

    @twin_of(Client.delete_range_in_pages)
    def delete_range_in_pages(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        page_keys: int = DELETE_PAGE_KEYS,
        fence: Fences = None,
        timeout: float | None = None,
    ) -> SyncPagedDeletion:
        return SyncPagedDeletion(
            self._client.delete_range_in_pages(
                start, end, prefix=prefix, page_keys=page_keys, fence=fence, timeout=timeout
            )
        )

    @twin_of(Client.delete_prefix_in_pages)
    def delete_prefix_in_pages(
        self,
        prefix: str | bytes,
        *,
        page_keys: int = DELETE_PAGE_KEYS,
        fence: Fences = None,
        timeout: float | None = None,
    ) -> SyncPagedDeletion:
        return SyncPagedDeletion(
            self._client.delete_prefix_in_pages(
                prefix, page_keys=page_keys, fence=fence, timeout=timeout
            )
        )

    @twin_of(Client.compare_and_swap)
    def compare_and_swap(
        self,
        key: str | bytes,
        expected: str | bytes | int | None,
        new_value: str | bytes,
        *,
        lease: int = 0,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> SwapResult:
        return self._call(
            self._client.compare_and_swap,
            key,
            expected,
            new_value,
            lease=lease,
            fence=fence,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            timeout=timeout,
        )

    @twin_of(Client.txn)
    def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> TransactionResult:
        return self._call(
            self._client.txn,
            compare,
            success,
            failure,
            fence=fence,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            timeout=timeout,
        )

    @twin_of(Client.transaction)
    def transaction(
        self, function: Callable[[SyncTransaction], R], *, timeout: float | None = None
    ) -> R:
        attempts = self._client._attempts(timeout)
        return run_on_this_thread(attempts, function, shared_portal())

    @twin_of(Client.read_txn)
    def read_txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> TransactionResult:
        return self._call(
            self._client.read_txn,
            compare,
            success,
            failure,
            level=level,
            fallback=fallback,
            timeout=timeout,
        )

    @twin_of(Client.compact)
    def compact(self, revision: int, *, timeout: float | None = None) -> int:
        return self._call(self._client.compact, revision, timeout=timeout)

    @twin_of(Client.watch)
    def watch(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        from_revision: int = 0,
        prev_kv: bool = False,
        puts: bool = True,
        deletes: bool = True,
        progress: bool = False,
    ) -> SyncWatch:
        async def watch() -> SyncWatch:
            return SyncWatch(
                self._client.watch(
                    start,
                    end,
                    prefix=prefix,
                    from_revision=from_revision,
                    prev_kv=prev_kv,
                    puts=puts,
                    deletes=deletes,
                    progress=progress,
                )
            )

        return self._portal.take(lambda twin: twin.asynchronous.close(), watch)

    @twin_of(Client.lock)
    def lock(self, name: str | bytes, *, ttl: float = 10.0, value: str | bytes = b"") -> SyncLock:
        return SyncLock(self._client.lock(name, ttl=ttl, value=value))

    @twin_of(Client.lock_info)
    def lock_info(self, name: str | bytes, *, timeout: float | None = None) -> LockInfo:
        return self._call(self._client.lock_info, name, timeout=timeout)

    @twin_of(Client.acquire)
    def acquire(
        self,
        name: str | bytes,
        ttl: float,
        *,
        value: str | bytes = b"",
        timeout: float | None = None,
    ) -> Grant:
        return self._portal.hold(
            self._client.release, self._client.acquire, name, ttl, value=value, timeout=timeout
        )

    @twin_of(Client.renew)
    def renew(self, grant: Grant, *, timeout: float | None = None) -> Grant:
        return self._call(self._client.renew, grant, timeout=timeout)

    @twin_of(Client.release)
    def release(self, grant: Grant, *, timeout: float | None = None) -> bool:
        return self._portal.finish(self._client.release, grant, timeout=timeout)

    @twin_of(Client.election)
    def election(self, name: str | bytes, *, ttl: float = 10.0) -> SyncElection:
        return SyncElection(self._client.election(name, ttl=ttl))

    @twin_of(Client.lease)
    @contextmanager
    def lease(self, ttl: float, *, timeout: float | None = None) -> Iterator[SyncKeptLease]:
        with self._keeping(self._client.lease(ttl, timeout=timeout)) as kept:
            yield kept

    @twin_of(Client.keep)
    @contextmanager
    def keep(self, lease: int, *, timeout: float | None = None) -> Iterator[SyncKeptLease]:
        with self._keeping(self._client.keep(lease, timeout=timeout)) as kept:
            yield kept

    @twin_of(Client.lease_grant)
    def lease_grant(
        self, ttl: float, *, lease: int = 0, fence: Fences = None, timeout: float | None = None
    ) -> LeaseResult:
        async def revoke(granted: LeaseResult) -> None:
            await self._client.lease_revoke(granted.lease)

        return self._portal.hold(
            revoke, self._client.lease_grant, ttl, lease=lease, fence=fence, timeout=timeout
        )

    @twin_of(Client.lease_renew)
    def lease_renew(
        self, lease: int, *, fence: Fences = None, timeout: float | None = None
    ) -> LeaseResult:
        return self._call(self._client.lease_renew, lease, fence=fence, timeout=timeout)

    @twin_of(Client.lease_revoke)
    def lease_revoke(
        self, lease: int, *, fence: Fences = None, timeout: float | None = None
    ) -> None:
        return self._portal.finish(self._client.lease_revoke, lease, fence=fence, timeout=timeout)

    @twin_of(Client.lease_time_to_live)
    def lease_time_to_live(
        self, lease: int, *, keys: bool = False, timeout: float | None = None
    ) -> LeaseTimeToLive:
        return self._call(self._client.lease_time_to_live, lease, keys=keys, timeout=timeout)

    @twin_of(Client.leases)
    def leases(self, *, timeout: float | None = None) -> tuple[int, ...]:
        return self._call(self._client.leases, timeout=timeout)

    @twin_of(Client.status)
    def status(self, endpoint: str, *, timeout: float | None = None) -> NodeStatus:
        return self._call(self._client.status, endpoint, timeout=timeout)

    @twin_of(Client.status_all)
    def status_all(self, *, timeout: float | None = None) -> Mapping[str, NodeStatus | RaftkvError]:
        return self._call(self._client.status_all, timeout=timeout)

    @twin_of(Client.member_list)
    def member_list(self, *, timeout: float | None = None) -> tuple[Member, ...]:
        return self._call(self._client.member_list, timeout=timeout)

    @twin_of(Client.member_add)
    def member_add(
        self,
        node_id: int,
        peer_address: str,
        client_address: str,
        *,
        force: bool = False,
        timeout: float | None = None,
    ) -> tuple[Member, ...]:
        return self._call(
            self._client.member_add,
            node_id,
            peer_address,
            client_address,
            force=force,
            timeout=timeout,
        )

    @twin_of(Client.member_promote)
    def member_promote(
        self, node_id: int, *, force: bool = False, timeout: float | None = None
    ) -> tuple[Member, ...]:
        return self._call(self._client.member_promote, node_id, force=force, timeout=timeout)

    @twin_of(Client.member_remove)
    def member_remove(
        self, node_id: int, *, force: bool = False, timeout: float | None = None
    ) -> tuple[Member, ...]:
        return self._call(self._client.member_remove, node_id, force=force, timeout=timeout)

    @twin_of(Client.member_replace)
    def member_replace(
        self, old_id: int, new_id: int, *, force: bool = False, timeout: float | None = None
    ) -> tuple[Member, ...]:
        return self._call(self._client.member_replace, old_id, new_id, force=force, timeout=timeout)

    @twin_of(Client.member_update)
    def member_update(
        self,
        node_id: int,
        *,
        peer_address: str = "",
        client_address: str = "",
        timeout: float | None = None,
    ) -> tuple[Member, ...]:
        return self._call(
            self._client.member_update,
            node_id,
            peer_address=peer_address,
            client_address=client_address,
            timeout=timeout,
        )

    @twin_of(Client.transfer_leader)
    def transfer_leader(self, node_id: int = 0, *, timeout: float | None = None) -> int:
        return self._call(self._client.transfer_leader, node_id, timeout=timeout)

    @twin_of(Client.set_log_level)
    def set_log_level(self, level: str, endpoint: str, *, timeout: float | None = None) -> str:
        return self._call(self._client.set_log_level, level, endpoint, timeout=timeout)

    @contextmanager
    def _keeping(self, keeping: AbstractAsyncContextManager[KeptLease]) -> Iterator[SyncKeptLease]:
        async def begin() -> SyncKeptLease:
            return SyncKeptLease(await keeping.__aenter__())

        async def end(_: SyncKeptLease | None = None) -> None:
            await keeping.__aexit__(None, None, None)

        kept = self._portal.hold(end, begin)
        try:
            yield kept
        finally:
            self._portal.leave(sys.exc_info()[0], end)


def connect_sync(
    endpoints: str | Sequence[str],
    *,
    timeout: float = DEFAULT_TIMEOUT_S,
    settings: ClientSettings | None = None,
) -> SyncClient:
    """Connect to the cluster with a node at any of `endpoints`, "host:port" each.

        with raftkv.connect_sync("127.0.0.1:7411") as client:
            client.put("greeting", "hello")

    `timeout` is the default of every call, in seconds; 0: try once, as `connect` explains. Raises
    what that raises: `ConnectionFailed` if no node answers within `timeout`, `ConfigurationError`
    for endpoints that are no addresses, `WrongCluster` if they answer for two clusters,
    `WrongProcess` in a forked child in which gRPC can't work, `GreenThreads` under gevent.
    """

    async def connected() -> SyncClient:
        return SyncClient(await connect(endpoints, timeout=timeout, settings=settings))

    check_threads()
    return shared_portal().take(lambda twin: twin.asynchronous.close(), connected)
