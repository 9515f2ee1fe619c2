"""A database in which nothing runs, and a run on it whose clock is the event loop's."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from jepsen_lite import run
from jepsen_lite.clients.protocol import KvClient
from jepsen_lite.db.base import Database
from jepsen_lite.options import RunOptions
from jepsen_lite.store import RunDirectory


class Idle(Database):
    """One node that is always well. A test provides `connect`."""

    name = "idle"

    @property
    def nodes(self) -> tuple[str, ...]:
        return ("node-1",)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def connect(self, node: str = "") -> KvClient:
        raise NotImplementedError

    async def leader(self) -> str:
        return ""

    async def not_ready(self) -> Mapping[str, str]:
        return {}

    def versions(self) -> Mapping[str, str]:
        return {}


async def run_on_virtual_time(
    options: RunOptions,
    database: Database,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    progress: Any = None,
) -> RunDirectory:
    """Carry it out; returns where it is written down."""
    loop, looks = asyncio.get_running_loop(), itertools.count()

    def monotonic_ns() -> int:
        # A read takes a moment, so that a wait that is shorter does not loop for ever.
        return round(loop.time() * 1e9) + 1_000 * next(looks)

    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic_ns=monotonic_ns))
    directory = RunDirectory(path)
    await run.Run(options, database, directory, [], progress or Mock()).execute()
    return directory
