"""The surroundings that all parts of one simulation share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.world import World


@dataclass(frozen=True, slots=True)
class SimulationContext:
    """`on_failure` is called with what must not happen; it ends the simulation."""

    world: World
    network: SimulatedNetwork
    on_failure: Callable[[str], None]
