"""Every argument of every public call is checked, by its name and before anything is sent."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import raftkv
from raftkv import clocks, recipes
from raftkv.arguments import shown
from raftkv.client.client import Client
from raftkv.client.connection.link import WATCH
from raftkv.client.coordination.election import Leadership
from raftkv.client.coordination.lease import KeptLease
from raftkv.client.coordination.queue_entry import WATCHED_AFTER_S
from raftkv.client.settings import ClientSettings
from raftkv.client.sync.client import SyncClient
from raftkv.client.sync.locks import SyncElection, SyncKeptLease, SyncLeadership
from raftkv.client.sync.portal import shared_portal
from raftkv.client.sync.transactions import SyncTransaction
from raftkv.errors import ConfigurationError, InvalidRequest
from raftkv.recipes import sync
from raftkv.rpc.v1 import api_pb2
from tests.client.lock_cluster import LockCluster
from tests.client.public_calls import (
    CALLED,
    PublicCall,
    classes_of,
    entered,
    functions_of,
    methods_of,
    modules,
    operators,
)
from tests.client.scripted import ScriptedLink, ScriptedStream

PROGRESS = api_pb2.WatchRequest(progress=True).SerializeToString()


class CountingCluster(LockCluster):
    """Counts all that is sent to it."""

    def __init__(self) -> None:
        super().__init__("a:1", "a:2")
        self.sent = 0

    def link(self, address: str) -> CountingLink:
        return CountingLink(super().link(address), self)

    def stop(self) -> None:
        """Let no more time pass."""
        self._tick = lambda: None  # type: ignore[method-assign]


class CountingLink:
    """A link that counts what calls send, not a watch stream's own question how far it is."""

    def __init__(self, link: ScriptedLink, cluster: CountingCluster) -> None:
        self._link = link
        self._cluster = cluster

    def open(self, *arguments: Any, token: str = "") -> ScriptedStream:
        self._cluster.sent += 1
        stream = self._link.open(*arguments[:2])
        send = stream.send

        def counted(message: bytes) -> None:
            asks_progress = arguments[2:] == (WATCH,) and message == PROGRESS
            self._cluster.sent += not asks_progress
            send(message)

        stream.send = counted  # type: ignore[method-assign]
        return stream

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        self._cluster.sent += 1
        return await self._link.call(method, request, timeout_s)

    async def close(self) -> None:
        await self._link.close()


class Findings:
    """What went wrong in a walk."""

    def __init__(self) -> None:
        self.calls = 0
        self.wrong: list[str] = []

    @contextmanager
    def expecting(
        self, call: PublicCall, parameter: inspect.Parameter, value: object, sent: Callable[[], int]
    ) -> Iterator[None]:
        self.calls += 1
        what = f"{call.name}({parameter.name}={shown(value)})"
        before = sent()
        try:
            yield
        except (InvalidRequest, ConfigurationError, TypeError) as error:
            configures = call.function in (raftkv.connect, raftkv.connect_sync, ClientSettings)
            if isinstance(error, ConfigurationError) and not configures:
                self.wrong.append(f"{what} raised ConfigurationError: {error}")
            names = CALLED.get(parameter.name, (parameter.name, parameter.name.rstrip("s")))
            if not re.search(rf"\b({'|'.join(names)})\b", str(error)):
                self.wrong.append(f"{what} did not name the argument: {error}")
        except Exception as error:  # noqa: BLE001 - any other error is what the walk looks for
            self.wrong.append(f"{what} raised {type(error).__name__}: {error}"[:300])
        else:
            self.wrong.append(f"{what} was accepted")
        if sent() != before:
            self.wrong.append(f"{what} was sent")


async def objects_of(client: Client) -> list[object]:
    """One of each class whose methods take arguments."""
    lease: KeptLease = await client.lease(1000.0).__aenter__()
    leadership: Leadership = await client.election("e", ttl=1000.0).campaign("x")
    return [
        client,
        client.auth,
        client.lock("l"),
        client.election("e"),
        leadership,
        lease,
        client._attempts(None).begin(),
        recipes.ReadWriteLock(client, "r").read(),
        recipes.Semaphore(client, "s", 1).slot(),
        recipes.locked(client, "a", "b"),
        recipes.Barrier(client, "b"),
        recipes.DoubleBarrier(client, "d", 2),
        recipes.Counter(client, "c"),
        raftkv.FencingGuard(),
    ]


def twins_of(client: SyncClient, made: Mapping[type, Any]) -> list[object]:
    """The twins of `objects_of`."""
    return [
        client,
        client.auth,
        client.lock("l"),
        SyncElection(made[raftkv.Election]),
        SyncLeadership(made[Leadership]),
        SyncKeptLease(made[KeptLease]),
        SyncTransaction(made[raftkv.Transaction]),
        sync.ReadWriteLock(client, "r").read(),
        sync.locked(client, "a", "b"),
        sync.Barrier(client, "b"),
        sync.DoubleBarrier(client, "d", 2),
        sync.Counter(client, "c"),
    ]


def calls_on(things: list[object]) -> Iterator[PublicCall]:
    for thing in things:
        yield from methods_of(thing)


def is_asynchronous(call: PublicCall) -> bool:
    return "sync" not in call.name.lower().replace("asynchronous", "")


def classes_without_object(things: list[object]) -> set[type]:
    """Public classes whose methods are not checked."""
    public = {each for module in modules() for each in classes_of(*module)}
    return public - {base for thing in things for base in type(thing).__mro__}


async def test_the_asynchronous_calls_name_what_is_wrong_and_send_nothing() -> None:
    cluster = CountingCluster()
    client = await raftkv.connect(["a:1"], links=cluster.link, rng=random.Random(1))
    things = await objects_of(client)
    await client.put("k", "v")
    await asyncio.sleep(0.1)
    found = Findings()
    functions = [each for module in modules() for each in functions_of(*module)]
    functions += functions_of(clocks, clocks.__all__)
    valid = {Client: client}
    for call in (*filter(is_asynchronous, functions), *calls_on(things), *operators()):
        for parameter in call.parameters:
            for value in call.wrong_values(parameter):
                with found.expecting(call, parameter, value, lambda: cluster.sent):
                    result = entered(call.with_wrong(parameter, value, valid))
                    if inspect.isawaitable(result):
                        await result
    await client.close()
    assert not found.wrong, "\n".join(found.wrong)
    assert found.calls > 3000, "the walk has not gone far"


def test_the_synchronous_calls_do_the_same() -> None:
    async def prepared() -> tuple[CountingCluster, Client, list[object]]:
        cluster = CountingCluster()
        client = await raftkv.connect(["a:1"], links=cluster.link, rng=random.Random(1))
        things = await objects_of(client)
        await client.put("k", "v")
        await asyncio.sleep(WATCHED_AFTER_S + 0.2)  # until what is held is read and watched
        return cluster, client, things

    cluster, asynchronous, things = shared_portal().call(prepared)
    client = SyncClient(asynchronous)
    found = Findings()
    functions = [each for module in modules() for each in functions_of(*module)]
    twins = twins_of(client, {type(thing): thing for thing in things})
    assert not classes_without_object(things + twins), "make one of each"
    for call in (*(each for each in functions if not is_asynchronous(each)), *calls_on(twins)):
        for parameter in call.parameters:
            # The coroutine that checks it is the same: one value of each type will do.
            for value in {type(each): each for each in call.wrong_values(parameter)}.values():
                with found.expecting(call, parameter, value, lambda: cluster.sent):
                    entered(call.with_wrong(parameter, value, {SyncClient: client}))
    client.close()
    cluster.stop()
    assert not found.wrong, "\n".join(found.wrong)
    assert found.calls > 1500, "the walk has not gone far"
