"""All kinds of faults, by the names that the command line knows them by."""

from __future__ import annotations

from jepsen_lite.nemesis.base import Nemesis
from jepsen_lite.nemesis.clocks import Clock
from jepsen_lite.nemesis.disks import BitFlip, FullDisk, SlowDisk
from jepsen_lite.nemesis.networks import Delay, Partition, Reset
from jepsen_lite.nemesis.operations import Compaction, Member, Snapshot, Transfer
from jepsen_lite.nemesis.processes import Kill, Pause, RestartAll

NEMESES: dict[str, Nemesis] = {
    nemesis.name: nemesis
    for nemesis in (
        Kill(),
        Pause(),
        RestartAll(),
        Partition(),
        Delay(),
        Reset(),
        Transfer(),
        Compaction(),
        Snapshot(),
        Member(),
        Clock(),
        SlowDisk(),
        FullDisk(),
        BitFlip(),
    )
}
