"""A fault as a value, and what a kind of fault has to know: how to draw, do and undo one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from jepsen_lite.db.base import Database, NoEffect

LEADER_LOOKS = 5
LEADER_PAUSE_S = 0.3

LEADER = "leader"
"""In the place of a node: whoever leads when the fault begins."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`targets` are places in the list of nodes, from 0, or LEADER: drawn before anything runs.

    `how` is the variety of the fault, `amount` its strength; what they mean is up to its kind.
    """

    name: str
    targets: tuple[int | str, ...] = ()
    how: str = ""
    amount: float = 0.0
    at_s: float = 0.0
    for_s: float = 0.0

    def planned(self, at_s: float, for_s: float) -> Fault:
        return replace(self, at_s=at_s, for_s=for_s)


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault that has begun: whom it hit, what was done, and how it is taken back.

    `undo` returns what else is to be said of it, and raises `NoEffect` if it turned out that
    there was nothing for it to break.
    """

    target: str
    detail: str
    undo: Callable[[], Awaitable[str]]


class Nemesis(Protocol):
    """One kind of fault."""

    name: str
    summary: str

    def missing(self) -> str:
        """What this machine lacks for it, with what to do; "" if nothing."""

    def prepare(self, system: Database) -> None:
        """Called before the system is started."""

    def draw(self, rng: Random, size: int) -> Fault:
        """A fault for a cluster of so many nodes."""

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        """Do it. Raises `NoEffect`."""


class Kind:
    """What most kinds of faults have in common: they need nothing."""

    def missing(self) -> str:
        return ""

    def prepare(self, system: Database) -> None:
        """Nothing to be done."""


async def nothing_to_undo() -> str:
    return ""


def one_node(rng: Random, size: int) -> tuple[int | str, ...]:
    """The leader as often as anybody else."""
    return (LEADER,) if rng.random() < 0.5 else (rng.randrange(size),)


def some_nodes(rng: Random, size: int) -> tuple[int | str, ...]:
    """One node, mostly; now and then a minority or a majority of them."""
    if rng.random() < 0.75:
        return one_node(rng, size)
    return tuple(rng.sample(range(size), rng.randint(1, size - 1)))


async def resolve(system: Database, fault: Fault) -> list[str]:
    """The names of the nodes that a fault means, now. Raises `NoEffect` if nobody leads."""
    nodes = system.nodes
    found: list[str] = []
    for target in fault.targets:
        name = nodes[target % len(nodes)] if isinstance(target, int) else await _leader(system)
        if name not in found:
            found.append(name)
    return found


async def _leader(system: Database) -> str:
    """Who leads, or will in a moment: after most faults somebody is elected soon."""
    for _ in range(LEADER_LOOKS):
        if leader := await system.leader():
            return leader
        await asyncio.sleep(LEADER_PAUSE_S)
    raise NoEffect("nobody leads")
