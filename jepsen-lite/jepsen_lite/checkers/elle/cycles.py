"""Cycles of dependencies: the anomalies of Adya that no order of transactions can explain.

Each class is searched for in the weakest set of reasons that shows it, from the worst to the
mildest, first without time (serializability), then with the order of each process, then with real
time (strict serializability). A component that was explained is not explained again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from jepsen_lite.checkers.elle.dependencies import Because, Dependencies
from jepsen_lite.checkers.elle.graphs import Successors, components, shortest_way
from jepsen_lite.history import before, began_ns, ended_ns
from jepsen_lite.verdicts import Problem, problem, who

_WRITES = (Because.WW,)
_COMMITTED = (Because.WW, Because.WR)
_TIMES: tuple[tuple[str, tuple[Because, ...]], ...] = (
    ("", ()),
    ("-process", (Because.PROCESS,)),
    ("-realtime", (Because.PROCESS, Because.REALTIME)),
)
# The name of a class, the edges of its cycles, and the edge that each of them must have: of
# G-single exactly one.
_CLASSES = (
    ("G0", _WRITES, Because.WW),
    ("G1c", _COMMITTED, Because.WR),
    ("G-single", _COMMITTED, Because.RW),
    ("G2-item", (*_COMMITTED, Because.RW), Because.RW),
)
# How many closing edges of a component are tried for the shortest cycle.
_TRIES_MAX = 50
_LENGTH_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Cycle:
    """`nodes[i]` must come before `nodes[i + 1]` because of `reasons[i]`, and the last one before
    the first.
    """

    anomaly: str
    nodes: tuple[int, ...]
    reasons: tuple[Because, ...]


def find(found: Dependencies) -> list[Cycle]:
    """The shortest cycle that was found of each class in each component."""
    cycles: list[Cycle] = []
    suspects = _in_cycles(found, range(len(found.transactions)), tuple(Because))
    for suffix, times in _TIMES:
        within = _in_cycles(found, suspects, (*_COMMITTED, Because.RW, *times))
        for name, ways, closing in _CLASSES:
            cycles += _of_class(found, within, name + suffix, (*ways, *times), closing, cycles)
    return cycles


def _in_cycles(
    found: Dependencies, nodes: Sequence[int], reasons: tuple[Because, ...]
) -> list[int]:
    """Those of the nodes that stand in a cycle of these edges among them."""
    parts = components(nodes, _among(found, set(nodes), reasons))
    return sorted(node for component in parts for node in component)


def _among(found: Dependencies, nodes: set[int], reasons: tuple[Because, ...]) -> Successors:
    return lambda node: [each for each in found.successors(node, reasons) if each in nodes]


def _of_class(
    found: Dependencies,
    within: Sequence[int],
    anomaly: str,
    ways: tuple[Because, ...],
    closing: Because,
    described: Sequence[Cycle],
) -> list[Cycle]:
    """One cycle of each component, closed by an edge of the kind that names the class."""
    reasons = ways if closing in ways else (*ways, closing)
    cycles: list[Cycle] = []
    for component in components(within, _among(found, set(within), reasons)):
        if any(component.issuperset(cycle.nodes) for cycle in described):
            continue
        nodes = _shortest(found, component, ways, closing)
        if nodes is not None:
            cycles.append(_collapsed(found, anomaly, nodes, ways, closing))
    return cycles


def _shortest(
    found: Dependencies, component: set[int], ways: tuple[Because, ...], closing: Because
) -> list[int] | None:
    """The first edge, from the first to the second node, is the closing one."""
    closers = [
        (source, target)
        for source in component
        for target in found.edges[closing].get(source, ())
        if target in component
    ]
    # An edge far back in time is the most likely one to close a short cycle.
    transactions = found.transactions
    closers.sort(key=lambda edge: ended_ns(transactions[edge[1]]) - began_ns(transactions[edge[0]]))
    inside = _among(found, component, ways)
    best: list[int] | None = None
    for source, target in closers[:_TRIES_MAX]:
        if Because.REALTIME in ways and before(transactions[target], transactions[source]):
            return [source, target]
        length_max = _LENGTH_MAX if best is None else len(best) - 2
        way = shortest_way(
            target,
            source,
            inside,
            length_max,
        )
        if way is not None and (best is None or len(way) < len(best)):
            best = [source, *way[:-1]]
    return best


def _collapsed(
    found: Dependencies,
    anomaly: str,
    nodes: Sequence[int],
    ways: tuple[Because, ...],
    closing: Because,
) -> Cycle:
    """With a reason for each edge, and with steps in time made one: time is transitive."""
    reasons = [closing]
    for source, target in itertools.pairwise([*nodes[1:], nodes[0]]):
        reasons.append(
            next(
                (way for way in ways if target in found.edges[way].get(source, ())),
                Because.REALTIME,
            )
        )
    kept_nodes: list[int] = []
    kept_reasons: list[Because] = []
    for node, reason in zip(nodes, reasons, strict=True):
        in_time = reason in (Because.PROCESS, Because.REALTIME)
        if in_time and kept_reasons and kept_reasons[-1] is reason:
            continue
        kept_nodes.append(node)
        kept_reasons.append(reason)
    return Cycle(anomaly, tuple(kept_nodes), tuple(kept_reasons))


def explained(found: Dependencies, cycle: Cycle) -> Problem:
    """The cycle in words, edge by edge."""
    names = {node: f"T{place}" for place, node in enumerate(cycle.nodes, 1)}
    who_is_who = ", ".join(
        f"{name} is the transaction of {who(found.transactions[node])} that began at"
        f" {began_ns(found.transactions[node]) / 1e9:.6f} s"
        for node, name in names.items()
    )
    ring = [*cycle.nodes, cycle.nodes[0]]
    steps = "; ".join(
        found.explain(source, target, reason, names)
        for (source, target), reason in zip(itertools.pairwise(ring), cycle.reasons, strict=True)
    )
    text = f"{cycle.anomaly}: {steps}: a contradiction. Here {who_is_who}."
    return problem(text, *(found.transactions[node] for node in cycle.nodes))
