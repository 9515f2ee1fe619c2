"""The port of a database under test: its nodes, its clients, and what can be done to them."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Protocol

from jepsen_lite.clients.protocol import KvClient
from jepsen_lite.db.network import Pair, ProxyNetwork


class DatabaseFailed(Exception):
    """The database can't be started or used; the message gives the cause, and where to look."""


class NoEffect(Exception):
    """A fault had no effect; the message gives the cause."""


class Machine(Protocol):
    """One node that runs, is paused or is down."""

    name: str

    @property
    def running(self) -> bool: ...

    async def start(self) -> bool:
        """Returns whether it did not run before."""

    async def stop(self) -> bool:
        """Ask it to end; returns whether it did so by itself."""

    async def kill(self) -> bool:
        """End it without asking; returns whether it ran."""

    async def pause(self) -> bool:
        """Pause it; returns whether it ran."""

    async def resume(self) -> None:
        """Resume it."""


class Database(abc.ABC):
    """A cluster. `machines` changes when nodes are replaced; `network` identifies nodes by name.

    What an operator does raises `NoEffect` if it had none. The defaults are those of a system
    that can't do it.
    """

    name: str

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.network = ProxyNetwork()
        self.on_event: Callable[[str, str, str], None] = _ignored
        """Called by a system whose nodes do not act by themselves, when the harness acts for them:
        the event's name ("failover"), the node, and what was done. It is recorded as a fault is.
        """

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.machines)

    @abc.abstractmethod
    async def start(self) -> None:
        """Return when every node serves. Raises `DatabaseFailed`."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """End everything that was started; called also after a failed start.

        Raises `DatabaseFailed` with what could not be ended or mended, when all else has been.
        """

    @abc.abstractmethod
    async def connect(self, node: str = "") -> KvClient:
        """A client that knows only this node; without one, all nodes."""

    async def leader(self) -> str:
        """The leader by the nodes' own status; "" if there is none.

        Half of the faults are aimed at it; without a leader these have no effect.
        """
        return ""

    @abc.abstractmethod
    async def not_ready(self) -> Mapping[str, str]:
        """The nodes that do not serve, with the reason."""

    def versions(self) -> Mapping[str, str]:
        """What was tested: for the record."""
        return {}

    def died(self) -> list[str]:
        """The nodes that ended by themselves, for no reason that a fault gave them; and how."""
        return []

    async def cut(self, pairs: Collection[Pair]) -> Callable[[], Awaitable[str]]:
        """Nothing passes in these directions until the returned function is called.

        It returns what was held back, and raises `NoEffect` if nothing was.
        """
        network, held = self.network, self.network.held
        network.cut(pairs)

        async def mend() -> str:
            network.mend(pairs)
            return held_back(network.held - held, "messages")

        return mend

    async def transfer_leader(self, to: str) -> str:
        """Transfer leadership to a node; returns the new leader."""
        raise NoEffect(f"{self.name} has no transfer of leadership here")

    async def compact(self) -> str:
        """Forget the history but for the last few revisions; returns what was done."""
        raise NoEffect(f"{self.name} has no compaction here")

    async def replace(self, node: str) -> str:
        """Begin to replace a node by a new one; returns the new one's name."""
        raise NoEffect(f"{self.name} has no change of membership here")

    async def finish_replacements(self) -> int:
        """Promote the new nodes, remove the old ones; returns how many.

        Raises `DatabaseFailed` if they don't.
        """
        return 0


def _ignored(name: str, node: str, detail: str) -> None:
    """The event of a database that no run observes."""


async def do_all(steps: Iterable[Callable[[], object]]) -> None:
    """Run every step in turn, even if others fail; a step may return an awaitable.

    Raises `DatabaseFailed` in the end, with all that went wrong.
    """
    failed = []
    for step in steps:
        try:
            done = step()
            if inspect.isawaitable(done):
                await done
        except Exception as error:  # noqa: BLE001 - see above
            failed.append(f"{type(error).__name__}: {error}")
    if failed:
        raise DatabaseFailed("; ".join(failed))


def held_back(count: int, what: str) -> str:
    """The effect of a cut that is over. Raises `NoEffect` if there was none."""
    if not count:
        raise NoEffect("no message was sent that way")
    return f"held back {count} {what}"
