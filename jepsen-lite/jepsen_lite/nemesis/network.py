"""Networks that are cut, slow, or drop their connections: mostly by the proxies, without root."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import TypeAlias

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.db.network import CLIENTS, Pair
from jepsen_lite.faults.kinds import Fault, Isolate, Reset, Ring, SlowNode, Split
from jepsen_lite.nemesis.base import (
    ActiveFault,
    Nemesis,
    nothing_to_undo,
    one_node,
    positions,
    resolve,
)

Partition: TypeAlias = Isolate | Split | Ring

SHAPES = ("halves", "one", "one", "one and clients", "bridge", "ring", "mute", "deaf")
DIRECTIONS = ("both ways", "outgoing", "incoming")
DELAYS_S = (0.01, 0.05, 0.2, 1.0)


class PartitionNemesis(Nemesis):
    name = "partition"
    summary = "cut the network: halves, one node, a bridge, a ring of majorities, one way only"

    def draw(self, rng: Random, size: int) -> Fault:
        shape = rng.choice(SHAPES)
        if shape in ("halves", "bridge", "ring"):
            nodes = positions(rng.sample(range(size), size))
            if shape == "ring":
                return Ring(0.0, 0.0, nodes)
            if shape == "bridge":
                return Split(0.0, 0.0, nodes[1 : (size + 1) // 2], nodes[0], one_way=False)
            return Split(0.0, 0.0, nodes[: size // 2], "", one_way=False)
        node = one_node(rng, size)
        deaf, mute = shape != "mute", shape != "deaf"
        return Isolate(0.0, 0.0, node, deaf, mute, clients_too=shape == "one and clients")

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(fault, Isolate | Split | Ring)
        named = await _named(db, fault)
        target, shape = _described(named)
        return ActiveFault(target, shape, await db.cut(pairs_of(named, db.nodes)))


class DelayNemesis(Nemesis):
    name = "delay"
    summary = "everything that a node sends, or receives, takes longer"

    def draw(self, rng: Random, size: int) -> Fault:
        direction = rng.choice(DIRECTIONS)
        return SlowNode(
            0.0,
            0.0,
            one_node(rng, size),
            outgoing=direction != "incoming",
            incoming=direction != "outgoing",
            delay_s=rng.choice(DELAYS_S),
        )

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(fault, SlowNode)
        (node,) = await resolve(db, fault.node)
        others = [name for name in db.nodes if name != node]
        pairs = [(node, other) for other in others] if fault.outgoing else []
        pairs += [(other, node) for other in others] if fault.incoming else []
        network = db.network
        delayed = network.delayed
        network.slow(pairs, fault.delay_s)

        async def undo() -> str:
            network.slow(pairs, 0.0)
            if network.delayed == delayed:
                raise NoEffect("no message was sent that way")
            return f"delayed {network.delayed - delayed} messages"

        one_way = "outgoing" if fault.outgoing else "incoming"
        direction = "both ways" if fault.outgoing and fault.incoming else one_way
        return ActiveFault(node, f"{direction}: {fault.delay_s} s", undo)


class ResetNemesis(Nemesis):
    name = "reset"
    summary = "every connection of a node, to peers and clients, is reset"

    def draw(self, rng: Random, size: int) -> Fault:
        return Reset(0.0, 0.0, one_node(rng, size))

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(fault, Reset)
        (node,) = await resolve(db, fault.node)
        broken = db.network.reset((node, other) for other in (*db.nodes, CLIENTS))
        if not broken:
            raise NoEffect(f"{node} has no connections")
        return ActiveFault(node, f"{broken} connections", nothing_to_undo)


async def _named(db: Database, fault: Partition) -> Partition:
    """The same partition with the names that the nodes have now."""
    match fault:
        case Isolate():
            (node,) = await resolve(db, fault.node)
            return replace(fault, node=node)
        case Ring():
            return replace(fault, nodes=tuple(await resolve(db, *fault.nodes)))
        case Split():
            group = tuple(await resolve(db, *fault.group))
            bridge = (await resolve(db, fault.bridge))[0] if fault.bridge else ""
            return replace(fault, group=group, bridge=bridge)


def _described(fault: Partition) -> tuple[str, str]:
    """The target and the shape, for the record."""
    match fault:
        case Ring():
            return ", ".join(fault.nodes), "ring"
        case Split():
            shape = (
                f"from the others, except the bridge {fault.bridge}" if fault.bridge else "halves"
            )
            return ", ".join(fault.group), shape
        case Isolate():
            ways = "one and clients" if fault.clients_too else "one"
            return (
                fault.node,
                ways if fault.deaf and fault.mute else "deaf" if fault.deaf else "mute",
            )


def pairs_of(fault: Partition, nodes: Sequence[str]) -> list[Pair]:
    """The directions that a partition cuts, as (from, to)."""
    match fault:
        case Ring():
            return _ring(fault.nodes)
        case Split():
            rest = [name for name in nodes if name not in fault.group and name != fault.bridge]
            group = [name for name in fault.group if name != fault.bridge]
            pairs = list(itertools.product(group, rest))
            return pairs if fault.one_way else _both_ways(pairs)
        case Isolate():
            others = [name for name in nodes if name != fault.node]
            others += [CLIENTS] if fault.clients_too else []
            pairs = [(fault.node, other) for other in others] if fault.mute else []
            return pairs + ([(other, fault.node) for other in others] if fault.deaf else [])


def _ring(nodes: Sequence[str]) -> list[Pair]:
    """Each node reaches as many neighbours on both sides as make a majority with it."""
    size = len(nodes)
    reach = max(1, size // 2 // 2)
    far = [
        (one, other)
        for (position, one), (other_position, other) in itertools.combinations(enumerate(nodes), 2)
        if min(other_position - position, size - (other_position - position)) > reach
    ]
    # Of three nodes all are neighbours: then one link of the triangle is cut.
    return _both_ways(far or [(nodes[0], nodes[1])])


def _both_ways(pairs: Iterable[Pair]) -> list[Pair]:
    forward = [(one, other) for one, other in pairs]
    return forward + [(other, one) for one, other in forward]
