"""The asynchronous client, and how one is made."""

from __future__ import annotations

import asyncio
import os
import random
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from raftkv.arguments import to_callable, to_instance, to_list, to_timeout
from raftkv.client.api.auth import AuthMethods
from raftkv.client.api.cluster import ClusterMethods
from raftkv.client.api.leases import LeaseMethods
from raftkv.client.api.locks import ElectionMethods, LockMethods
from raftkv.client.api.pages import PagedMethods
from raftkv.client.api.transactions import TransactionMethods
from raftkv.client.api.watches import WatchMethods
from raftkv.client.connection.endpoints import split_scheme
from raftkv.client.connection.home import check_threads
from raftkv.client.connection.link import Links
from raftkv.client.credentials import UserCredentials, credentials_of
from raftkv.client.settings import ClientSettings
from raftkv.client.tls import ChannelCredentials, Tls
from raftkv.errors import ConfigurationError

DEFAULT_TIMEOUT_S = 5.0


class Client(
    TransactionMethods,
    ElectionMethods,
    PagedMethods,
    LeaseMethods,
    LockMethods,
    WatchMethods,
    ClusterMethods,
    AuthMethods,
):
    """A connection to a cluster, made by `raftkv.connect`. Belongs to one event loop.

    Share one among all tasks: calls that they make in the same turn of the loop travel together.
    The `timeout` of a call is in seconds; None stands for the client's default.

    The client belongs to the cluster whose node answers it first. An endpoint that answers for
    another cluster, or for the same one founded anew, is left out, with a warning to the log
    `raftkv.client`, and asked again now and then. Once no other endpoint answers, every call raises
    `WrongCluster`, at once and with nothing applied (a write that was sent before:
    `OutcomeUnknown`), watches end with it, and locks are lost: revisions, sessions and locks of one
    cluster mean nothing in another.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        # `_closing` is missing if it could not be made. A loop that does not run closes nothing.
        # What a forked child inherits is its parent's.
        if (
            getattr(self, "_closing", True)
            or self._pipeline.home.inherited
            or not self._loop.is_running()
        ):
            return
        with suppress(RuntimeError):  # the loop is closed, and every connection with it
            self._loop.call_soon_threadsafe(_close_dropped, self)
        warn(
            f"a client of {', '.join(self.endpoints)} was dropped without being closed; write"
            " `async with raftkv.connect(...)` (`with raftkv.connect_sync(...)`), or close it",
            ResourceWarning,
            source=self,
        )


_dropped: set[asyncio.Task[None]] = set()
"""The closing tasks of dropped clients: the loop itself keeps weak references only."""


def _close_dropped(client: Client) -> None:
    task = asyncio.get_running_loop().create_task(client.close())
    _dropped.add(task)
    task.add_done_callback(_dropped.discard)


class Connecting:
    """A client that is not connected yet: `await` it, or enter it with `async with`."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        timeout: float,
        settings: ClientSettings | None,
        tls: Tls | bool | None,
        credentials: UserCredentials,
        links: Links | None,
        rng: random.Random | None,
    ) -> None:
        if not isinstance(endpoints, str):
            endpoints = to_list(endpoints, str, "endpoints", '"host:port"')
        self._endpoints, by_scheme = split_scheme(endpoints)
        self._tls = _tls_of(tls, by_scheme)
        self._timeout = to_timeout(timeout)
        self._settings = ClientSettings() if settings is None else settings
        to_instance(self._settings, ClientSettings, "settings", "raftkv.ClientSettings(...)")
        self._links = None if links is None else to_callable(links, "links")
        self._credentials = credentials
        self._rng = random.Random() if rng is None else rng
        to_instance(self._rng, random.Random, "rng", "a random.Random")
        self._client: Client | None = None

    if not TYPE_CHECKING:  # a type checker would take this for any attribute

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"there is no client yet that could have {name!r}: write"
                " `async with raftkv.connect(...) as client`, or `client = await"
                " raftkv.connect(...)`"
            )

    def __await__(self) -> Generator[object, None, Client]:
        return self._connected().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._connected()
        return self._client

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> Client:
        links = self._links
        if links is None:
            # Imported late: a simulator's client has no gRPC. The first must load it.
            from raftkv.client.connection.grpc_fork import forks
            from raftkv.client.connection.grpc_link import GrpcLink

            check_threads()
            forks.check()
            credentials = None if self._tls is None else ChannelCredentials(self._tls)
            links = partial(GrpcLink, tls=credentials)
        client = Client(
            self._endpoints, self._timeout, self._settings, links, self._rng, self._credentials
        )
        try:
            await client._connect()
        except BaseException:
            await client.close()
            raise
        return client


def _tls_of(tls: Tls | bool | None, by_scheme: bool) -> Tls | None:
    """How to connect by TLS; None: in plaintext. `by_scheme`: `raftkvs://` asks for TLS."""
    if isinstance(tls, bool):
        if by_scheme and not tls:
            raise ConfigurationError(
                "tls is False, but the endpoints begin with raftkvs://, which asks for TLS; change"
                " one of them",
                setting="tls",
            )
        return Tls() if tls else None
    if tls is None:
        return Tls.from_environment() if by_scheme else None
    return to_instance(tls, Tls, "tls", "raftkv.Tls(...), True, False or None")


def connect(
    endpoints: str | Sequence[str],
    *,
    timeout: float = DEFAULT_TIMEOUT_S,
    settings: ClientSettings | None = None,
    tls: Tls | bool | None = None,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    links: Links | None = None,
    rng: random.Random | None = None,
) -> Connecting:
    """Connect to the cluster with a node at any of `endpoints`, "host:port" each.

        async with raftkv.connect("127.0.0.1:7411,127.0.0.1:7412") as client:
            await client.put("greeting", "hello")

    or `client = await raftkv.connect(...)` and `await client.close()`.

    - `endpoints`: one or several, in a list or in one text with commas. `raftkvs://` in front of
      the text, or of each in a list, asks for TLS.
    - `timeout`: the default of every call, in seconds, at most `ClientSettings.timeout_s_max` (60),
      and how long to wait for a node here.
    - `settings`: bounds and times of the client, see `ClientSettings`.
    - `tls`: a `Tls` with the files for it; True: TLS with the system's CAs. None: with `raftkvs://`
      TLS with the files that the environment names (RAFTKV_CACERT, RAFTKV_CERT, RAFTKV_KEY), else
      plaintext. It holds for every node, also for those that the cluster names later.

    - `user`, `password`: as whom to log in. A password that is not given is read from the file that
      RAFTKV_PASSWORD_FILE names. The client renews its short-lived token by itself.
    - `token`: a service token, as `raftkv token create` prints it, in place of user and password.
      Without any of the three, RAFTKV_USER or RAFTKV_TOKEN_FILE names user or token.

    `links` and `rng` are for simulators: the network and the source of randomness.

    A timeout of 0, here or in a call, means one attempt. Such a call does not wait for locks that
    others hold, and is not retried: a refusal or failure of the attempt is its result. It waits
    only for the answer, at most for `ClientSettings.silence_s_max` (2 s). Opening the session or
    lease that a first write or lock needs belongs to the attempt, and so does, here, asking each
    endpoint once. A call without a timeout has the default given here. What waits for others
    (locks, elections, recipes) then waits without a limit.

    Raises `ConnectionFailed` if no node answers within `timeout`; `Unauthenticated` if the cluster
    refuses user and password, `DeadlineExceeded` if no node can check them in time, `Refused` if
    the cluster's version has no users; `ConfigurationError` for endpoints that are no addresses,
    for credentials that are incomplete, and for a file that can't be used; `InvalidRequest` for
    another wrong argument; `WrongCluster` if the endpoints answer for two clusters; `WrongProcess`
    in a forked child in which gRPC can't work; `GreenThreads` under gevent.
    """
    # A simulation must not depend on the environment.
    environ = os.environ if links is None else {}
    credentials = credentials_of(user, password, token, environ)
    return Connecting(endpoints, timeout, settings, tls, credentials, links, rng)
