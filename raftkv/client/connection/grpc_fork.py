"""Loads gRPC so that the process can be forked, and protects the parent's connections in a child.

gRPC has handlers that restart its threads in a forked child. While grpc.aio is in use they do only
half of that, and idle children die of SIGSEGV. So gRPC is loaded with these handlers off, if this
module is the one that loads it and GRPC_ENABLE_FORK_SUPPORT is not set.

Without its threads gRPC can't be used in the child, nor be shut down and restarted there. So a
child can have clients of its own only if gRPC was idle at the fork: never used, or all its channels
closed.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol
from weakref import WeakSet

from raftkv.client.log import log
from raftkv.errors import WrongProcess
from raftkv.wire.addresses import split_host_port

SETTING: Final = "GRPC_ENABLE_FORK_SUPPORT"
OFF: Final = ("0", "false", "no")
REST_S_MAX: Final = 2.0  # for the threads of a gRPC that is not in use any more to end
NATIVE_THREADS: Final = ("event_engine\n", "grpc_global_tim\n")
POLLER: Final = "(_poll_wrapper)"  # the thread of grpc.aio


@contextmanager
def _switched_off() -> Iterator[bool]:
    """gRPC reads the setting once, when it is loaded; yields whether its fork handlers are on."""
    if SETTING in os.environ or "grpc._cython.cygrpc" in sys.modules:
        yield os.environ.get(SETTING, "1").lower() not in OFF
        return
    os.environ[SETTING] = "0"
    try:
        yield False
    finally:
        del os.environ[SETTING]  # else each program that this one starts would inherit it


with _switched_off() as handlers_are_on:
    import grpc.aio  # noqa: F401 - loaded for its effect


class OpenChannel(Protocol):
    """An open channel to a node."""

    @property
    def address(self) -> str: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...


class Forks:
    """The open gRPC channels of this process, and whether gRPC can be used in it."""

    def __init__(self) -> None:
        self._open: WeakSet[OpenChannel] = WeakSet()
        self._garbage = False  # channels were closed, and may still be in reference cycles
        self._usable = True
        self._usable_by_child = True
        self._warned = False

    def opened(self, connection: OpenChannel) -> None:
        """A channel was made."""
        self._open.add(connection)

    def closed(self, connection: OpenChannel) -> None:
        """A channel was closed in order."""
        self._open.discard(connection)
        self._garbage = True

    def check(self) -> None:
        """Raise `WrongProcess` if no client can be used in this process."""
        if not self._usable:
            raise WrongProcess(
                "gRPC was in use when this process was forked, so no client can work in it; fork"
                " before the first client connects, or after the last one is closed, or start the"
                " process with multiprocessing's spawn or forkserver (docs/fork.md)"
            )

    # ---- around a fork, in this order ------------------------------------------------

    def before(self) -> None:
        """Find out whether the child will be able to use gRPC."""
        if self._garbage and not self._open:
            # Repeated, because the loop's thread may have the last references for a moment.
            until = time.monotonic() + REST_S_MAX
            while _grpc_runs() and time.monotonic() < until:
                gc.collect()
                time.sleep(0.005)
        self._garbage = self._garbage and bool(self._open)
        at_rest = not _grpc_aio_runs() and (handlers_are_on or not _grpc_runs())
        self._usable_by_child = self._usable and at_rest

    def after_in_parent(self) -> None:
        """Log once that the child may die."""
        if handlers_are_on and self._open and not self._warned:
            self._warned = True
            log(
                "grpc_fork_handlers_are_on",
                advice=f"forked children may crash; set {SETTING}=0, or import raftkv.client."
                "grpc_fork before grpc, or close the clients before the fork (docs/fork.md)",
            )

    def after_in_child(self) -> None:
        """Cut the parent's connections off, so that nothing in this process sends on them."""
        self._usable = self._usable_by_child
        nodes = {split_host_port(each.address) for each in self._open}
        for loop in {each.loop for each in self._open}:
            _leave_epoll(loop)
        if nodes:
            _cut_off(nodes)


def _cut_off(nodes: set[tuple[str, int]]) -> None:
    """Replace this process's descriptors of connections to these nodes by a dead one.

    A host name may stand for any address, so with one the port alone decides.
    """
    wanted = {(_ip_address(host), port) for host, port in nodes}
    dead, other = socket.socketpair()
    other.close()
    with dead:
        for name in os.listdir("/dev/fd"):
            # Not every descriptor is a connection, and one is that of the directory itself.
            with suppress(OSError, ValueError):
                duplicate = socket.socket(fileno=os.dup(int(name)))
                with duplicate:
                    peer: Any = duplicate.getpeername()
                if isinstance(peer, tuple) and (
                    (None, peer[1]) in wanted or (_ip_address(peer[0]), peer[1]) in wanted
                ):
                    os.dup2(dead.fileno(), int(name), inheritable=False)


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for a host name. gRPC connects to 127.0.0.1 by a socket of IPv6, as ::ffff:127.0.0.1."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _leave_epoll(loop: asyncio.AbstractEventLoop) -> None:
    """Give the child's copy of a loop an epoll of its own.

    A child that ends within a coroutine closes the loop: on the shared epoll this would stop the
    parent's loop from being woken.
    """
    selector: Any = getattr(loop, "_selector", None)
    backend: Any = getattr(loop, "_get_backend_id", None)  # of uvloop
    if hasattr(select, "epoll") and not loop.is_closed():
        number = selector.fileno() if selector is not None else backend() if backend else -1
        if number >= 0:
            with select.epoll() as own:
                os.dup2(own.fileno(), number, inheritable=False)


def _grpc_aio_runs() -> bool:
    return any(thread.name.endswith(POLLER) for thread in threading.enumerate())


def _grpc_runs() -> bool:
    """Whether gRPC has threads, of raftkv or others. Without /proc: whether grpc.aio has."""
    if not os.path.isdir("/proc/self/task"):
        return _grpc_aio_runs()
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{task}/comm") as name:
            if name.read() in NATIVE_THREADS:
                return True
    return False


forks: Final = Forks()
os.register_at_fork(
    before=forks.before,
    after_in_parent=forks.after_in_parent,
    after_in_child=forks.after_in_child,
)
