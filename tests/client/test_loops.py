"""A client belongs to one event loop; elsewhere, and under green threads, it is refused at once."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import raftkv
from raftkv.client.client import Client
from raftkv.client.connection.grpc_link import LateAnswers
from raftkv.errors import GreenThreads, UnusableHere, WrongLoop
from tests.client.every_call import Call, ClientObjects, of_a_client, of_what_it_handed_out
from tests.client.lock_cluster import LockCluster


@pytest.fixture
async def cluster() -> LockCluster:
    return LockCluster("a:1", "b:2", "c:3")


async def made_elsewhere(calls: dict[str, Call]) -> dict[str, str]:
    """What each call raises on the loop of another thread, if it is not `WrongLoop`."""

    async def make() -> dict[str, str]:
        outcomes = {}
        for name, call in calls.items():
            try:
                async with asyncio.timeout(1.0):
                    outcomes[name] = repr(await call())
            except WrongLoop:
                continue
            except (UnusableHere, TimeoutError, RuntimeError) as error:
                outcomes[name] = repr(error)
        return outcomes

    return await asyncio.to_thread(asyncio.run, make())


async def test_every_call_from_another_loop_is_refused_at_once(client: Client) -> None:
    made = await ClientObjects.by(client)
    calls = of_a_client(client, made.grant) | of_what_it_handed_out(client, made)
    calls["lock.exit"] = lambda: made.lock.__aexit__(None, None, None)
    calls["close"] = client.close
    assert await made_elsewhere(calls) == {}
    made.lock.check()
    await client.put("k", "v", fence=made.lock)
    await made.give_back()


def test_a_client_of_a_closed_loop_raises_wrong_loop() -> None:
    async def left_open() -> Client:
        return await LockCluster("a:1").connect(5.0, raftkv.client.settings.ClientSettings())

    with asyncio.Runner() as runner:
        client = runner.run(left_open())

    async def use() -> None:
        with pytest.raises(WrongLoop, match=r"is closed.*inside each asyncio\.run"):
            await client.get("k")

    asyncio.run(use())


@pytest.mark.parametrize(
    ("module", "patched"),
    [("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")],
)
async def test_green_threads_are_refused_before_anything_is_connected(
    module: str, patched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_patched(name: str) -> bool:
        return name == "socket"

    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{patched: is_patched}))
    with pytest.raises(GreenThreads, match="worker class sync or gthread"):
        await raftkv.connect("127.0.0.1:1")


async def test_only_late_answers_of_grpc_are_dropped_on_the_clients_loop() -> None:
    loop, seen = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: seen.append(context))
    LateAnswers.drop(loop)
    LateAnswers.drop(loop)
    late = {
        "message": "Exception in callback PollerCompletionQueue._handle_events(...)()",
        "exception": RuntimeError("Event loop is closed"),
    }
    others: list[dict[str, Any]] = [
        {**late, "exception": RuntimeError("something else")},
        {**late, "message": "Exception in another callback"},
        {"message": "no exception"},
    ]
    for context in (late, *others):
        loop.call_exception_handler(context)
    loop.set_exception_handler(None)
    assert seen == others
