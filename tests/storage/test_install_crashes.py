"""A crash at any instant of `install` leaves the complete old or the complete new state.

Each file operation of the installation is made to fail in turn, and the directory copied as it
was at that instant: that copy is what a restart finds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raftkv.errors import DamagedData, StorageError
from raftkv.kv.store import Family
from raftkv.storage.state_storage import RocksStateStorage

from .test_state_storage import content, receive

OLD, NEW = {b"k": b"old", b"only": b"old"}, {b"k": b"new"}


class Tracer:
    """Copies the directory before and after each file operation, and may fail one of them."""

    def __init__(self, watched: Path, copies: Path, failing: int = -1) -> None:
        self._watched, self._copies, self._failing = watched, copies, failing
        self.steps: list[str] = []
        self.moments: list[Path] = []

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def traced(*arguments: Any, **options: Any) -> Any:
            number = len(self.steps)
            self.steps.append(name)
            self._copy(f"{number}-before-{name}")
            if number == self._failing:
                raise OSError(5, "Input/output error")
            result = call(*arguments, **options)
            self._copy(f"{number}-after-{name}")
            return result

        return traced

    def _copy(self, moment: str) -> None:
        if self._failing < 0:
            target = self._copies / moment
            shutil.copytree(self._watched, target)
            self.moments.append(target)


async def prepared(path: Path) -> tuple[RocksStateStorage, Path]:
    """A storage with the old content, and a received snapshot of the new."""
    storage = RocksStateStorage(path)
    storage.store.write({Family.CURRENT: NEW})
    received = await receive(storage)
    storage.store.write({Family.CURRENT: OLD})
    await storage.sync()
    return storage, received


def trace(monkeypatch: pytest.MonkeyPatch, tracer: Tracer) -> None:
    monkeypatch.setattr(os, "fsync", tracer.wrap("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", tracer.wrap("replace", os.replace))
    monkeypatch.setattr(Path, "rename", tracer.wrap("rename", Path.rename))


async def restarted(directory: Path) -> dict[bytes, bytes]:
    storage = RocksStateStorage(directory)
    found = content(storage)
    names = os.listdir(directory)
    assert sum(name.startswith("state-") for name in names) == 1, "leftovers are removed at start"
    assert "incoming" not in names
    storage.store.write({Family.CURRENT: {b"probe": b"1"}})
    storage.store.write({Family.CURRENT: {b"probe": None}})
    await storage.close()
    return found


async def replace(storage: RocksStateStorage, received: Path) -> None:
    await storage.install(received)
    await storage.retire()


async def test_a_crash_at_any_step_of_an_installation_leaves_the_old_state_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, received = await prepared(tmp_path / "state")
    tracer = Tracer(tmp_path / "state", tmp_path)
    with monkeypatch.context() as patched:
        trace(patched, tracer)
        await replace(storage, received)
    await storage.close()
    found = [await restarted(moment) for moment in tracer.moments]
    swap = tracer.steps.index("replace")
    assert found == [OLD] * (2 * swap + 1) + [NEW] * (len(found) - 2 * swap - 1)
    assert len(found) > 12


async def test_a_step_that_fails_leaves_the_old_state_or_stops_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, received = await prepared(tmp_path / "measured")
    counter = Tracer(tmp_path / "measured", tmp_path / "copies")
    with monkeypatch.context() as patched:
        trace(patched, counter)
        await replace(storage, received)
    await storage.close()
    # One file's fsync is like the next one's: take the first of each row.
    for step, name in enumerate(counter.steps):
        if counter.steps[step - 1 : step] == [name]:
            continue
        path = tmp_path / f"failing-{step}"
        storage, received = await prepared(path)
        with monkeypatch.context() as patched:
            trace(patched, Tracer(path, tmp_path, failing=step))
            with pytest.raises(StorageError):
                await replace(storage, received)
        live = content(storage)
        try:
            storage.store.write({Family.CURRENT: {}})
            stopped = False
        except StorageError:
            stopped = True
        await storage.close()
        assert live == (OLD if step <= counter.steps.index("replace") + 1 else NEW)
        assert stopped or await restarted(path) == live
        assert await restarted(path) in (OLD, NEW)


async def test_a_crash_during_the_very_first_start_leaves_a_directory_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    tracer = Tracer(state, tmp_path)
    with monkeypatch.context() as patched:
        trace(patched, tracer)
        await RocksStateStorage(state).close()
    assert tracer.moments
    for moment in tracer.moments:
        assert await restarted(moment) == {}


async def test_a_state_directory_whose_pointer_is_wrong_is_refused(tmp_path: Path) -> None:
    await RocksStateStorage(tmp_path / "state").close()
    for wrong in ("", "state-9\n", "../elsewhere\n", "\0\0\0\0"):
        (tmp_path / "state/CURRENT").write_text(wrong)
        with pytest.raises(DamagedData, match="CURRENT"):
            RocksStateStorage(tmp_path / "state")


async def test_a_live_state_that_lost_its_catalogue_is_not_taken_for_a_new_one(
    tmp_path: Path,
) -> None:
    await RocksStateStorage(tmp_path / "state").close()
    (tmp_path / "state/state-1/CURRENT").unlink()
    with pytest.raises(DamagedData):
        RocksStateStorage(tmp_path / "state")


async def test_checkpoints_of_a_killed_process_are_removed_at_start(tmp_path: Path) -> None:
    storage = RocksStateStorage(tmp_path / "state")
    await storage.checkpoint(1, 1)
    storage.begin_receive()
    shutil.copytree(tmp_path / "state", tmp_path / "crashed")
    await storage.close()
    restart = RocksStateStorage(tmp_path / "crashed")
    assert list((tmp_path / "crashed/checkpoints").iterdir()) == []
    assert not (tmp_path / "crashed/incoming").exists()
    await restart.close()
