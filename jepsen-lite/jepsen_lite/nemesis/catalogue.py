"""All kinds of faults, by the names that the command line knows them by."""

from __future__ import annotations

from jepsen_lite.nemesis.base import Nemesis
from jepsen_lite.nemesis.networks import Delay, Partition, Reset
from jepsen_lite.nemesis.processes import Kill, Pause, RestartAll

NEMESES: dict[str, Nemesis] = {
    nemesis.name: nemesis
    for nemesis in (Kill(), Pause(), RestartAll(), Partition(), Delay(), Reset())
}
