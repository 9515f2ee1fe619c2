"""The synchronous twin is the asynchronous client, method for method."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

import raftkv
from raftkv.client.client import Client
from raftkv.client.sync.client import SyncClient
from raftkv.client.sync.portal import shared_portal
from raftkv.errors import ConfigurationError, NoLeader, WrongLoop

# What hands out an object has a twin of that object, so the types differ; all else must be equal.
HANDS_OUT_TWINS = {
    *("transaction", "watch", "lease", "keep", "lock", "election"),
    *("scan", "scan_prefix", "delete_range_in_pages", "delete_prefix_in_pages"),
}


def public_methods(cls: type) -> dict[str, object]:
    return {
        name: member
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
    }


def test_the_twin_has_the_same_methods_signatures_and_docstrings() -> None:
    asynchronous, synchronous = public_methods(Client), public_methods(SyncClient)
    assert asynchronous.keys() == synchronous.keys()
    for name, method in asynchronous.items():
        twin = synchronous[name]
        told, wanted = inspect.signature(twin), inspect.signature(method)  # type: ignore[arg-type]
        if name in HANDS_OUT_TWINS:
            assert list(told.parameters) == list(wanted.parameters), name
        else:
            assert told == wanted, name
        assert inspect.getdoc(twin) == inspect.getdoc(method), name


def test_a_portal_returns_and_raises_what_the_coroutine_does() -> None:
    async def failing() -> None:
        raise NoLeader("no leader")

    async def named() -> str:
        return threading.current_thread().name

    with pytest.raises(NoLeader):
        shared_portal().call(failing)
    assert shared_portal().call(named) == "raftkv-client"


def test_many_threads_share_one_loop() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def running() -> None:
        loops.append(asyncio.get_running_loop())

    threads = [threading.Thread(target=lambda: shared_portal().call(running)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loops) == 8
    assert len(set(map(id, loops))) == 1


def test_the_portals_own_loop_may_not_wait_for_itself() -> None:
    async def nothing() -> None:
        return

    async def waiting() -> None:
        shared_portal().call(nothing)

    with pytest.raises(WrongLoop, match="own thread"):
        shared_portal().call(waiting)


def test_connecting_to_no_address_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        raftkv.connect_sync("nowhere")
