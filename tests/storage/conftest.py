"""The stores under test, each as a factory that reopens the store as after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.storage.ports import LogStore, StateStorage
from raftkv.storage.state_storage import RocksStateStorage


class Logs:
    """A log store that can be closed and opened again."""

    def __init__(self, kind: str, path: Path) -> None:
        self._kind = kind
        self._path = path / "log"
        self.store: LogStore = MemoryLogStore() if kind == "memory" else RocksLogStore(self._path)
        self.store.recover()

    async def reopen(self) -> LogStore:
        await self.store.close()
        if isinstance(self.store, MemoryLogStore):
            self.store = self.store.crash()
        else:
            self.store = RocksLogStore(self._path)
        return self.store


class States:
    """A state storage that can be closed and opened again."""

    def __init__(self, kind: str, path: Path) -> None:
        self._path = path / "state"
        self.storage: StateStorage = (
            MemoryStateStorage(self._path) if kind == "memory" else RocksStateStorage(self._path)
        )

    async def reopen(self) -> StateStorage:
        await self.storage.close()
        if isinstance(self.storage, MemoryStateStorage):
            self.storage = self.storage.crash()
        else:
            self.storage = RocksStateStorage(self._path)
        return self.storage


@pytest.fixture(params=["memory", "rocks"])
async def logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Logs]:
    logs = Logs(request.param, tmp_path)
    yield logs
    await logs.store.close()


@pytest.fixture(params=["memory", "rocks"])
async def states(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[States]:
    states = States(request.param, tmp_path)
    yield states
    await states.storage.close()
