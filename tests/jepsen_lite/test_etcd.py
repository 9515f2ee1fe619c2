"""etcd's locks as workloads use them, on a real etcd; and that the checker sees when they break."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import pytest

from jepsen_lite.checkers import lock
from jepsen_lite.clients.protocol import LOCK_NOT_ACQUIRED, OperationError
from jepsen_lite.history import History
from jepsen_lite.recorder import Recorder
from jepsen_lite.verdicts import Validity
from jepsen_lite.workloads.base import Invocation
from jepsen_lite.workloads.locks import TTL_S, LockWorkload

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not shutil.which("etcd"), reason="etcd is not installed"),
    pytest.mark.skipif(find_spec("aetcd") is None, reason="the package aetcd is not installed"),
]

SHORT_S = 0.3
SOON_S = 10.0


@asynccontextmanager
async def etcd(directory: Path) -> AsyncIterator[Any]:
    """One node."""
    from jepsen_lite.db.etcd import EtcdCluster

    system = EtcdCluster(directory / "data", directory / "logs", 1)
    try:
        await system.start()
        yield system
    finally:
        await system.stop()


def test_a_lock_has_one_holder_who_keeps_it_by_renewing_and_gives_it_on(tmp_path: Path) -> None:
    async def go() -> None:
        async with etcd(tmp_path) as system:
            clients = [await system.connect() for _ in range(2)]
            one, other = (client.locks.lock("lock", TTL_S) for client in clients)
            await one.acquire(SOON_S)
            until_s = time.monotonic() + 2 * TTL_S
            while time.monotonic() < until_s:
                with pytest.raises(OperationError) as refused:
                    await other.acquire(SHORT_S)
                assert refused.value.reason == LOCK_NOT_ACQUIRED
            token = one.token
            assert await one.release()
            await other.acquire(SOON_S)
            assert other.token > token
            assert not await one.release()
            for client in clients:
                await client.close()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("code", "details", "late"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", True),
        (grpc.StatusCode.UNKNOWN, "context deadline exceeded", True),  # etcd's, on a busy machine
        (grpc.StatusCode.UNKNOWN, "something else", False),
    ],
)
def test_a_timeout_of_client_or_server_is_recognised(
    code: grpc.StatusCode, details: str, late: bool
) -> None:
    from jepsen_lite.clients.etcd_locks import is_late

    none = grpc.aio.Metadata()
    assert is_late(grpc.aio.AioRpcError(code, none, none, details)) is late


def test_a_holder_that_can_not_renew_says_so_before_its_lease_has_ended(tmp_path: Path) -> None:
    async def go() -> None:
        async with etcd(tmp_path) as system:
            client = await system.connect()
            held, lost = client.locks.lock("lock", TTL_S), asyncio.Event()
            held.on_lost(lost.set)
            await held.acquire(SOON_S)
            await system.machines["node-1"].pause()
            began = time.monotonic()
            await asyncio.wait_for(lost.wait(), SOON_S)
            assert time.monotonic() - began < TTL_S
            assert not await held.release()
            await client.close()

    asyncio.run(go())


@pytest.mark.parametrize("careless", [False, True])
def test_the_checker_accuses_a_holder_that_never_finds_out(
    careless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jepsen_lite.clients.etcd_locks import EtcdLock

    async def never(*_: Any) -> None:
        """Renew nothing."""

    if careless:
        monkeypatch.setattr(EtcdLock, "_keep", never)
        monkeypatch.setattr(EtcdLock, "_end_if_due", lambda *_: None)

    async def go() -> History:
        history, times = History(), itertools.count()
        recorder, workload = Recorder(history, lambda: next(times)), LockWorkload()
        async with etcd(tmp_path) as system:
            clients = [await system.connect() for _ in range(2)]

            async def acquire(worker: int) -> None:
                asked = Invocation("acquire", "lock/a")
                await recorder.perform(clients[worker], worker, workload, asked, SOON_S)

            await acquire(0)
            until_s = time.monotonic() + 2 * TTL_S
            while time.monotonic() < until_s:
                await acquire(1)
            for client in clients:
                await client.close()
        return history

    found = lock.check(list(asyncio.run(go()).operations("lock")))
    assert found.validity is (Validity.INVALID if careless else Validity.VALID)
