"""Directed graphs of numbered nodes: strongly connected components and shortest paths."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

Successors = Callable[[int], Iterable[int]]


def components(nodes: Iterable[int], successors: Successors) -> Iterator[set[int]]:
    """The strongly connected components of two nodes and more (Tarjan), without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in nodes:
        if root in index:
            continue
        work = [(root, iter(successors(root)))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(successors(target))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    found = set[int]()
                    while node not in found:
                        found.add(stack.pop())
                    on_stack -= found
                    if len(found) > 1:
                        yield found


def shortest_way(start: int, end: int, successors: Successors, length_max: int) -> list[int] | None:
    """The nodes from start to end in at most so many steps; None if there is no such way."""
    came_from = {start: start}
    waiting = deque([(start, 0)])
    while waiting:
        node, length = waiting.popleft()
        if node == end:
            way = [end]
            while way[-1] != start:
                way.append(came_from[way[-1]])
            return way[::-1]
        if length < length_max:
            for target in successors(node):
                if target not in came_from:
                    came_from[target] = node
                    waiting.append((target, length + 1))
    return None
