"""The simulated network: which host can reach which, and how long a transmission takes.

Peers' frames are datagrams here, although the real links are streams: Raft promises to bear
loss, duplication and reordering, so it gets them. Client streams are streams (`pipes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from jepsen_lite.faults.kinds import NetworkConditions
from jepsen_lite.sim.net.client_conditions import ClientConditions
from jepsen_lite.sim.world import World

BYTES_PER_S = 50e6


def _unnoticed() -> None:
    """By default a loss is not recorded."""


class SimulatedNetwork:
    """Hosts are names. All directions between them are open until one is cut."""

    def __init__(
        self,
        world: World,
        conditions: NetworkConditions,
        clients: ClientConditions = ClientConditions(),  # noqa: B008 - a value
    ) -> None:
        self.conditions = conditions
        self.clients = clients
        """Of the connections of clients."""
        self._world = world
        self._rng: Random = world.rng("network")
        self._cut: dict[tuple[str, str], int] = {}
        self._slow_s: dict[tuple[str, str], float] = {}
        self._beside: dict[str, str] = {}
        self.dropped = 0

    def stand_beside(self, name: str, other: str) -> None:
        """Cuts and delays of `other` are this host's as well; it has none of its own."""
        self._beside[name] = other

    def reaches(self, source: str, target: str) -> bool:
        return not self._cut or self._way(source, target) not in self._cut

    def is_swift(self, source: str, target: str) -> bool:
        """Whether the way from source to target is neither cut nor slow."""
        return self.reaches(source, target) and not (
            self._slow_s and self._slow_s.get(self._way(source, target))
        )

    @property
    def fair(self) -> bool:
        """Whether nothing is cut, slow or lost."""
        return (
            not self._cut
            and not any(self._slow_s.values())
            and self.conditions == NetworkConditions()
        )

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Let nothing pass from the first to the second of each pair. Cuts may overlap."""
        for pair in pairs:
            way = self._way(*pair)
            self._cut[way] = self._cut.get(way, 0) + 1

    def mend(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Take back one cut of each pair."""
        for pair in pairs:
            way = self._way(*pair)
            self._cut[way] -= 1
            if not self._cut[way]:
                del self._cut[way]

    def slow(self, pairs: Iterable[tuple[str, str]], delay_s: float) -> None:
        """Delay everything from the first to the second of each pair; 0: no longer."""
        for pair in pairs:
            self._slow_s[self._way(*pair)] = delay_s

    def heal(self, conditions: NetworkConditions) -> None:
        """Every host reaches every other host again."""
        self._cut.clear()
        self._slow_s.clear()
        self.conditions = conditions
        self.clients = ClientConditions()

    def delay_s(self, source: str, target: str, size_bytes: int) -> float:
        """How long the next transmission takes."""
        conditions = self.conditions
        travel_s = conditions.delay_s_min + self._rng.expovariate(1 / conditions.delay_s_mean)
        slow_s = self._slow_s.get(self._way(source, target)) if self._slow_s else None
        if slow_s:
            travel_s += slow_s * self._rng.uniform(0.5, 1.5)
        return travel_s + size_bytes / BYTES_PER_S

    def datagram(
        self,
        source: str,
        target: str,
        size_bytes: int,
        deliver: Callable[[], None],
        lose: Callable[[], None] = _unnoticed,
    ) -> None:
        """Carry one message under the present conditions. A cut drops it on its arrival.

        `lose` is called on a loss, for the record: no simulated process may learn of it.
        """
        conditions, rng = self.conditions, self._rng
        copies = 1
        if conditions.loss and rng.random() < conditions.loss:
            copies = 0
            lose()
        elif conditions.duplication and rng.random() < conditions.duplication:
            copies = 2
        for _ in range(copies):
            delay_s = self.delay_s(source, target, size_bytes)
            if conditions.straggling and rng.random() < conditions.straggling:
                delay_s += rng.uniform(0.0, conditions.straggle_s_max)
            self._world.after(delay_s, lambda: self._arrive(source, target, deliver, lose))

    def _way(self, source: str, target: str) -> tuple[str, str]:
        return self._beside.get(source, source), self._beside.get(target, target)

    def _arrive(
        self, source: str, target: str, deliver: Callable[[], None], lose: Callable[[], None]
    ) -> None:
        if self.reaches(source, target):
            deliver()
        else:
            self.dropped += 1
            lose()
