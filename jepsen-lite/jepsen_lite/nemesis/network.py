"""Networks that are cut, slow, or drop their connections: mostly by the proxies, without root."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from random import Random

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.db.network import CLIENTS, Pair
from jepsen_lite.nemesis.base import ActiveFault, Fault, Kind, nothing_to_undo, one_node, resolve

WAYS = ("halves", "one", "one", "one and clients", "bridge", "ring", "mute", "deaf")
DELAYS_S = (0.01, 0.05, 0.2, 1.0)


class PartitionNemesis(Kind):
    name = "partition"
    summary = "cut the network: halves, one node, a bridge, a ring of majorities, one way only"

    def draw(self, rng: Random, size: int) -> Fault:
        how = rng.choice(WAYS)
        if how in ("halves", "bridge", "ring"):
            return Fault(self.name, tuple(rng.sample(range(size), size)), how)
        return Fault(self.name, one_node(rng, size), how)

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        chosen = await resolve(system, fault)
        pairs = pairs_of(fault.how, chosen, system.nodes)
        return ActiveFault(", ".join(chosen), fault.how, await system.cut(pairs))


class DelayNemesis(Kind):
    name = "delay"
    summary = "all that a node says, or hears, takes longer"

    def draw(self, rng: Random, size: int) -> Fault:
        how = rng.choice(("both ways", "what it says", "what it hears"))
        return Fault(self.name, one_node(rng, size), how, rng.choice(DELAYS_S))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        (node,) = await resolve(system, fault)
        others = [name for name in system.nodes if name != node]
        said, heard = [(node, other) for other in others], [(other, node) for other in others]
        pairs = {"what it says": said, "what it hears": heard}.get(fault.how, said + heard)
        network = system.network
        delayed = network.delayed
        network.slow(pairs, fault.amount)

        async def undo() -> str:
            network.slow(pairs, 0.0)
            if network.delayed == delayed:
                raise NoEffect("nobody said anything that way")
            return f"delayed {network.delayed - delayed} messages"

        return ActiveFault(node, f"{fault.how}: {fault.amount} s", undo)


class ResetNemesis(Kind):
    name = "reset"
    summary = "every connection of a node, to peers and clients, is reset"

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name, one_node(rng, size))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        (node,) = await resolve(system, fault)
        broken = system.network.reset((node, other) for other in (*system.nodes, CLIENTS))
        if not broken:
            raise NoEffect(f"{node} has no connections")
        return ActiveFault(node, f"{broken} connections", nothing_to_undo)


def pairs_of(how: str, chosen: Sequence[str], nodes: Sequence[str]) -> list[Pair]:
    """The ways that are cut. `chosen`: the one node, or all of them in a drawn order."""
    others = [name for name in nodes if name not in chosen]
    half = len(chosen) // 2
    match how:
        case "halves":
            return _both_ways(itertools.product(chosen[:half], chosen[half:]))
        case "bridge":
            # The first one reaches both sides, which don't reach each other.
            middle = (len(chosen) + 1) // 2
            return _both_ways(itertools.product(chosen[1:middle], chosen[middle:]))
        case "ring":
            return _ring(chosen)
        case "mute":
            return [(name, other) for name in chosen for other in others]
        case "deaf":
            return [(other, name) for name in chosen for other in others]
        case "one and clients":
            return _both_ways(itertools.product(chosen, [*others, CLIENTS]))
        case _:
            return _both_ways(itertools.product(chosen, others))


def _ring(chosen: Sequence[str]) -> list[Pair]:
    """Each node reaches as many neighbours to both sides as make a majority with it."""
    size = len(chosen)
    reach = max(1, size // 2 // 2)
    far = [
        (one, other)
        for (place, one), (there, other) in itertools.combinations(enumerate(chosen), 2)
        if min(there - place, size - (there - place)) > reach
    ]
    # Among three everybody is a neighbour: one link of the triangle is missing then.
    return _both_ways(far or [(chosen[0], chosen[1])])


def _both_ways(pairs: Iterable[Pair]) -> list[Pair]:
    there = [(one, other) for one, other in pairs]
    return there + [(other, one) for one, other in there]
