"""All nemeses by the names that `--nemesis` takes."""

from __future__ import annotations

from jepsen_lite.nemesis.base import Nemesis
from jepsen_lite.nemesis.clocks import ClockNemesis
from jepsen_lite.nemesis.disks import BitFlipNemesis, FullDiskNemesis, SlowDiskNemesis
from jepsen_lite.nemesis.network import DelayNemesis, PartitionNemesis, ResetNemesis
from jepsen_lite.nemesis.operations import (
    CompactionNemesis,
    MemberNemesis,
    SnapshotNemesis,
    TransferNemesis,
)
from jepsen_lite.nemesis.processes import KillNemesis, PauseNemesis, RestartNemesis

NEMESES: dict[str, Nemesis] = {
    nemesis.name: nemesis
    for nemesis in (
        KillNemesis(),
        PauseNemesis(),
        RestartNemesis(),
        PartitionNemesis(),
        DelayNemesis(),
        ResetNemesis(),
        TransferNemesis(),
        CompactionNemesis(),
        SnapshotNemesis(),
        MemberNemesis(),
        ClockNemesis(),
        SlowDiskNemesis(),
        FullDiskNemesis(),
        BitFlipNemesis(),
    )
}
