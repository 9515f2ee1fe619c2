"""What a kind of fault of a real run implements: how to draw, inject and revert one."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.faults.kinds import LEADER, Fault

LEADER_TRIES = 5
LEADER_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault that has begun: its target, what was done, and how it is reverted.

    `undo` returns more detail for the record. It raises `NoEffect` if the fault turned out to have
    affected nothing.
    """

    target: str
    detail: str
    undo: Callable[[], Awaitable[str]]


class Nemesis(abc.ABC):
    """One kind of fault, under the name that `--nemesis` takes."""

    name: str
    summary: str

    def missing(self) -> str:
        """What this machine lacks for the fault, with the remedy; "" if nothing."""
        return ""

    def prepare(self, db: Database) -> None:  # noqa: B027 - most nemeses prepare nothing
        """Called before the database is started."""

    @abc.abstractmethod
    def draw(self, rng: Random, size: int) -> Fault:
        """A fault for a cluster of `size` nodes. Its `at_s` and `for_s` are not set yet."""

    @abc.abstractmethod
    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        """Begin a fault that `draw` has returned. Raises `NoEffect`."""


async def nothing_to_undo() -> str:
    return ""


def one_node(rng: Random, size: int) -> str:
    """The leader in half of all cases, else any node by its position."""
    return LEADER if rng.random() < 0.5 else str(rng.randrange(size))


def some_nodes(rng: Random, size: int) -> tuple[str, ...]:
    """Mostly one node, sometimes a minority or a majority of the nodes."""
    if rng.random() < 0.75:
        return (one_node(rng, size),)
    return positions(rng.sample(range(size), rng.randint(1, max(1, size - 1))))


def positions(numbers: range | list[int]) -> tuple[str, ...]:
    """Nodes by their positions in the list of nodes."""
    return tuple(map(str, numbers))


async def resolve(db: Database, *nodes: str) -> list[str]:
    """The names of the nodes at this moment, each once. Raises `NoEffect` without a leader."""
    names = db.nodes
    found: list[str] = []
    for node in nodes:
        name = await _leader(db) if node == LEADER else names[int(node) % len(names)]
        if name not in found:
            found.append(name)
    return found


async def _leader(db: Database) -> str:
    """The leader, or the next one: after most faults a leader is elected soon."""
    for _ in range(LEADER_TRIES):
        if leader := await db.leader():
            return leader
        await asyncio.sleep(LEADER_PAUSE_S)
    raise NoEffect("no node leads")
