"""The rules of the proxies: which bytes may pass between which nodes, and how slowly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Protocol, TypeAlias

CLIENTS = "clients"
"""The harness with all clients, where a node is named."""

Pair: TypeAlias = tuple[str, str]  # from, to


class ProxiedConnection(Protocol):
    """What the network can do to one connection that a proxy carries."""

    def reset(self) -> None: ...


class ProxyNetwork:
    """Cuts and delays, by direction. `held` and `delayed` count the messages that they affected."""

    def __init__(self) -> None:
        self.held = 0
        self.delayed = 0
        self._cuts: Counter[Pair] = Counter()
        self._delays_s: dict[Pair, float] = {}
        self._connections: dict[ProxiedConnection, Pair] = {}
        self._changed = asyncio.Event()

    def cut(self, pairs: Iterable[Pair]) -> None:
        """Let nothing pass in these directions; connections stay open."""
        self._cuts.update(pairs)

    def mend(self, pairs: Iterable[Pair]) -> None:
        """Revert one cut of each direction; one that two faults have cut stays cut by the other."""
        self._cuts -= Counter(pairs)
        self._changed.set()
        self._changed = asyncio.Event()

    def slow(self, pairs: Iterable[Pair], delay_s: float) -> None:
        """Delay everything in these directions by `delay_s`; 0: no longer."""
        for pair in pairs:
            self._delays_s[pair] = delay_s

    def reset(self, pairs: Iterable[Pair]) -> int:
        """Reset the connections between each pair, in both directions; returns their number."""
        wanted = {frozenset(pair) for pair in pairs}
        chosen = [each for each, pair in self._connections.items() if frozenset(pair) in wanted]
        for connection in chosen:
            connection.reset()
        return len(chosen)

    def delay_s(self, pair: Pair) -> float:
        """The delay of what is sent now in this direction."""
        delay_s = self._delays_s.get(pair, 0.0)
        self.delayed += delay_s > 0
        return delay_s

    async def passes(self, pair: Pair) -> None:
        """Return when bytes may go this way."""
        if self._cuts[pair]:
            self.held += 1
        while self._cuts[pair]:
            await self._changed.wait()

    def opened(self, connection: ProxiedConnection, pair: Pair) -> None:
        self._connections[connection] = pair

    def closed(self, connection: ProxiedConnection) -> None:
        self._connections.pop(connection, None)
