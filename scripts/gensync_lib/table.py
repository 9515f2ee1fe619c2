"""The table: which classes and functions have a synchronous twin, and how each method is called.

In a body {call} is the method with its arguments, as the portal takes them, {invoke} is the same as
a call, {it} is the asynchronous object, and {return_} is empty if nothing is returned.
`raftkv/client/sync/portal.py` explains the kinds of call. By default a coroutine is a CALL, and
anything else is called where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CALL = "{return_}self._portal.call({call})"
FINISH = "{return_}self._portal.finish({call})"
LEAVE = "self._portal.exit_block(kind, {it}.__aexit__, kind, error, traceback)"
CLOSE = "self._portal.close({call})"
KEEP = "with self._keeping({invoke}, SyncKeptLease) as kept:\n    yield kept"
LISTEN = "self._portal.call(listen, {it}, callback)"


def hold(give_back: str) -> str:
    """A call whose result must not stay with a caller that was interrupted."""
    return f"{{return_}}self._portal.hold({give_back}, {{call}})"


@dataclass(frozen=True)
class Twin:
    """The twin of a class: its name, its hand-written base, and what differs from the defaults."""

    original: str  # module:class
    name: str
    base: str
    members: Sequence[str] | None = None  # None: all that are public
    bodies: Mapping[str, str] = field(default_factory=dict)
    skip: Sequence[str] = ()
    without: Mapping[str, Sequence[str]] = field(default_factory=dict)  # parameters
    docstring: Mapping[str, str] = field(default_factory=dict)  # what is said otherwise
    code: str = ""  # members that the original has in another form


@dataclass(frozen=True)
class Function:
    """The twin of a function."""

    original: str
    name: str
    body: str
    callee: str
    without: Sequence[str] = ()
    docstring: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """A generated module."""

    path: str
    docstring: str
    imports: str  # of what the bodies use
    items: Sequence[Twin | Function]
    epilogue: str = ""


def recipe(module: str, name: str, **rest: Any) -> Twin:
    """The twin of a recipe: callers make it themselves, on a synchronous client."""
    made = f"super().__init__({module}.{name}({{arguments}}))"
    bodies = {"__init__": made, **rest.pop("bodies", {})}
    return Twin(
        f"raftkv.recipes.{module}:{name}", name, f"Twin[{module}.{name}]", bodies=bodies, **rest
    )


CLIENT = "raftkv.client"
MODULES = (
    Module(
        "raftkv/client/sync/client.py",
        "The synchronous client.",
        """
        from collections.abc import Iterator
        from contextlib import contextmanager
        from raftkv.client.client import connect
        from raftkv.client.connection.home import check_threads
        from raftkv.client.sync.base import ClientTwin, make_twin, run_on_this_thread
        from raftkv.client.sync.portal import shared_portal
        """,
        (
            Twin(
                f"{CLIENT}.client:Client",
                "SyncClient",
                "ClientTwin",
                skip=("queues",),
                bodies={
                    "close": CLOSE,
                    "auth": "return SyncAuth({it}.auth)",
                    "acquire": hold("{it}.release"),
                    "release": FINISH,
                    "lease_grant": hold("self._revoke"),
                    "lease_revoke": FINISH,
                    "watch": (
                        "return self._portal.take("
                        "lambda twin: twin.asynchronous.close(), make_twin, SyncWatch, {call})"
                    ),
                    "transaction": (
                        "attempts = {it}._attempts(timeout)\n"
                        "return run_on_this_thread("
                        "attempts, function, self._portal, SyncTransaction)"
                    ),
                },
                docstring={
                    "Belongs to one event loop.": "For code without an event loop.",
                    "in the same turn of the loop travel": "at about the same time travel",
                },
            ),
            Function(
                f"{CLIENT}.client:connect",
                "connect_sync",
                "async def connected() -> SyncClient:\n"
                "    return SyncClient(await {invoke})\n\n"
                "check_threads()\n"
                "return shared_portal().take("
                "lambda twin: twin.asynchronous.close(), connected)",
                callee="connect",
                without=("links", "rng"),
            ),
        ),
    ),
    Module(
        "raftkv/client/sync/auth.py",
        "The synchronous twin of `client.auth`.",
        "from raftkv.client.sync.base import Twin",
        (
            Twin(
                f"{CLIENT}.api.auth:Auth",
                "SyncAuth",
                "Twin[Auth]",
            ),
        ),
    ),
    Module(
        "raftkv/client/sync/locks.py",
        "The synchronous twins of locks, elections and kept leases.",
        """
        from raftkv.client.sync.base import KeptLeaseTwin, LockTwin, Twin, abandon, listen
        from raftkv.client.sync.iteration import iterate_leaders
        """,
        (
            Twin(
                f"{CLIENT}.coordination.lock:Lock",
                "SyncLock",
                "LockTwin",
                (
                    *("name", "token", "key", "remaining", "check", "on_lost"),
                    *("acquire", "try_acquire", "release"),
                ),
                bodies={
                    "on_lost": LISTEN,
                    "acquire": "self._acquire(timeout)\nreturn self",
                    "try_acquire": "return self._try_acquire()",
                    "release": FINISH,
                },
                docstring={
                    "Within the block the thread is cancelled if the lock is lost, and"
                    " `LockLost` is raised at its end.": "Nothing stops the thread if the lock is"
                    " lost within the block: a call with `fence=lock` raises `LockLost` then, a"
                    " call without it goes through, and the end of the block raises `LockLost`.",
                    "The coroutine may run in another thread: `asyncio.wait_for`, `create_task` and"
                    " `gather` may be used.": "",
                },
            ),
            Twin(
                f"{CLIENT}.coordination.election:Leadership",
                "SyncLeadership",
                "Twin[Leadership]",
                (
                    *("name", "token", "key", "remaining", "check", "on_lost"),
                    *("proclaim", "resign", "__aenter__", "__aexit__"),
                ),
                bodies={
                    "on_lost": LISTEN,
                    "resign": FINISH,
                    "__aenter__": "return self",
                    "__aexit__": LEAVE,
                },
                docstring={
                    "Within the block the thread is cancelled if the leadership is lost, and"
                    " `LockLost` is raised at its end.": "Nothing stops the thread if the"
                    " leadership is lost within the block: a call with `fence=leadership` raises"
                    " `LockLost` then, and the end of the block raises `LockLost`.",
                    "From here on the loss cancels the present thread.": "",
                },
            ),
            Twin(
                f"{CLIENT}.coordination.election:Election",
                "SyncElection",
                "Twin[Election]",
                ("name", "campaign", "leader", "observe"),
                bodies={
                    "campaign": (
                        "async def campaign() -> SyncLeadership:\n"
                        "    return SyncLeadership(await {invoke})\n\n"
                        "return self._portal.hold(abandon, campaign)"
                    ),
                    "observe": "return iterate_leaders(self._portal, {it})",
                },
            ),
            Twin(
                f"{CLIENT}.coordination.lease:KeptLease",
                "SyncKeptLease",
                "KeptLeaseTwin",
                ("remaining", "check", "on_lost"),
                bodies={"on_lost": LISTEN},
                without={"check": ("what",)},
            ),
        ),
    ),
    Module(
        "raftkv/client/sync/pages.py",
        "The synchronous twins of a scan and of a deletion in pages.",
        "from raftkv.client.sync.iteration import PagedDeletionTwin, ScanTwin",
        (
            Twin(
                f"{CLIENT}.api.paging:Scan",
                "SyncScan",
                "ScanTwin",
                bodies={"next_page": "return self._take_page()"},
            ),
            Twin(
                f"{CLIENT}.api.paging:PagedDeletion",
                "SyncPagedDeletion",
                "PagedDeletionTwin",
                bodies={"finish": "self._portal.call({call})\nreturn self"},
            ),
        ),
    ),
    Module(
        "raftkv/client/sync/transactions.py",
        "The synchronous twin of one attempt of a transaction.",
        "from raftkv.client.sync.base import Twin",
        (
            Twin(
                f"{CLIENT}.api.transactions:Transaction",
                "SyncTransaction",
                "Twin[Transaction]",
                ("get", "range", "prefix", "put", "delete"),
            ),
        ),
    ),
    Module(
        "raftkv/client/sync/watch.py",
        "The synchronous twin of a watch.",
        "from raftkv.client.sync.iteration import WatchTwin",
        (
            Twin(
                f"{CLIENT}.watch.watch:Watch",
                "SyncWatch",
                "WatchTwin",
                ("started", "revision", "batches", "close"),
                bodies={
                    "revision": "return self._portal.call(self._bookmark)",
                    "batches": "return self._batches()",
                    "close": CLOSE,
                },
            ),
        ),
    ),
    Module(
        "raftkv/recipes/sync.py",
        """The recipes for code without an event loop, on a client of `connect_sync`.

    from raftkv.recipes.sync import ReadWriteLock

    with raftkv.connect_sync("127.0.0.1:7411") as client:
        with ReadWriteLock(client, "report").write() as writer:
            client.put("report", data, fence=writer)

A thread can't be stopped from outside: a loss shows by callback, by `check()`, and as `LockLost` at
the end of the block.""",
        """
        from collections.abc import Iterator, Sequence
        from typing import Final, overload
        from raftkv.arguments import to_instance
        from raftkv.client.client import Client
        from raftkv.client.coordination.lock import Hold
        from raftkv.client.sync.base import HeldByThreads, Twin, listen
        from raftkv.recipes import barrier, counter, double_barrier
        from raftkv.recipes import lock_set, read_write_lock, semaphore
        """,
        (
            Twin(
                "raftkv.recipes._queues:SharedLock",
                "SyncSharedLock",
                "SyncLock",
                (),
                code="shared: Final = True",
            ),
            recipe("read_write_lock", "ReadWriteLock"),
            recipe("semaphore", "Semaphore"),
            Twin(
                "raftkv.recipes.lock_set:LockSet",
                "LockSet",
                "HeldByThreads[lock_set.LockSet, list[Hold]], Sequence[SyncLock]",
                ("names", "tokens", "remaining", "check", "on_lost", "acquire", "release"),
                bodies={
                    "on_lost": LISTEN,
                    "acquire": "self._acquire(timeout)\nreturn self",
                    "release": FINISH,
                },
                code="""
                def __init__(self, locks: lock_set.LockSet, timeout: float | None) -> None:
                    super().__init__(locks, locks, timeout)
                    self._twins = tuple(SyncLock(lock) for lock in locks)

                def __len__(self) -> int:
                    return len(self._twins)

                def __iter__(self) -> Iterator[SyncLock]:
                    return iter(self._twins)

                @overload
                def __getitem__(self, which: int) -> SyncLock: ...
                @overload
                def __getitem__(self, which: slice) -> Sequence[SyncLock]: ...
                def __getitem__(self, which: int | slice) -> SyncLock | Sequence[SyncLock]:
                    return self._twins[which]
                """,
            ),
            Function(
                "raftkv.recipes.lock_set:locked",
                "locked",
                "return LockSet({invoke}, timeout)",
                callee="lock_set.locked",
            ),
            recipe("barrier", "Barrier"),
            recipe(
                "double_barrier",
                "DoubleBarrier",
                skip=("step_back",),
                bodies={
                    "enter": hold("lambda _: {it}.step_back()"),
                    "leave": FINISH,
                    "__aenter__": "self.enter()\nreturn self",
                    "__aexit__": LEAVE,
                },
            ),
            recipe("counter", "Counter"),
        ),
        epilogue="""
        def _asynchronous(client: SyncClient) -> Client:
            wanted = "what raftkv.connect_sync makes"
            return to_instance(client, SyncClient, "client", wanted).asynchronous
        """,
    ),
)
