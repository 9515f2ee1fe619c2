"""A fault of a disk took effect if the node itself gave up over it, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from jepsen_lite.db.base import NoEffect
from jepsen_lite.db.processes import Server
from jepsen_lite.db.raftkv import RaftkvCluster
from jepsen_lite.faults.kinds import LOG, BitFlip, FullDisk
from jepsen_lite.nemesis import disks
from jepsen_lite.nemesis.base import Nemesis
from jepsen_lite.nemesis.disks import BitFlipNemesis, FullDiskNemesis

REFUSES = ["sh", "-c", "exit 7"]
FAILS_A_SAFETY_CHECK = ["sh", "-c", "exit 8"]
LIVES = ["sleep", "100"]
SOON_S = 10.0


class Replaced(RaftkvCluster):
    """One node, which is always ready, and whose replacement is no work."""

    async def not_ready(self) -> Mapping[str, str]:
        return {name: "down" for name, each in self.servers.items() if not each.running}

    async def replace(self, node: str) -> str:
        return "another"

    async def finish_replacements(self) -> int:
        return 1


async def broken(
    nemesis: Nemesis,
    directory: Path,
    then: list[str],
    meanwhile: Callable[[Server], Awaitable[object]],
) -> tuple[str, list[str]]:
    """The effect of a fault on a node that then starts like that, and the nodes that died."""
    log = directory / "node-1" / "log"
    log.mkdir(parents=True)
    (log / "1.log").write_bytes(bytes(1 << 16))
    system = Replaced(directory, directory, 1)
    server = system.servers["node-1"]
    server.command = LIVES
    await server.start()
    server.command = then
    try:
        fault = FullDisk(0, 0, "0") if nemesis.name == "full-disk" else BitFlip(0, 0, "0", LOG, 0.5)
        active = await nemesis.inject(system, fault)
        await meanwhile(server)
        return await active.undo(), system.died()
    finally:
        await server.kill()


async def nothing(server: Server) -> None:
    """No other fault."""


async def restarted(server: Server) -> None:
    await server.kill()
    await server.start()
    await server.ended(SOON_S)
    server.command = LIVES  # once there is room


def test_a_node_that_refuses_its_damaged_disk_has_met_the_damage(tmp_path: Path) -> None:
    effect, died = asyncio.run(
        broken(BitFlipNemesis(), tmp_path, REFUSES, lambda each: each.ended(SOON_S))
    )
    assert "it refused its disk (code 7); another replaced it" in effect
    assert died == []


@pytest.mark.parametrize("meanwhile", [nothing, Server.kill], ids=["it runs", "it is killed"])
def test_a_node_that_has_not_refused_its_damaged_disk_has_not_met_the_damage(
    tmp_path: Path, meanwhile: Callable[[Server], Awaitable[object]]
) -> None:
    with pytest.raises(NoEffect, match="has not met the damage; another replaced it"):
        asyncio.run(broken(BitFlipNemesis(), tmp_path, LIVES, meanwhile))


def test_a_node_that_stops_on_a_full_disk_has_an_excuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "_fill", Path.touch)
    effect, died = asyncio.run(broken(FullDiskNemesis(), tmp_path, REFUSES, restarted))
    assert "it had stopped" in effect
    assert died == []


def test_a_node_that_another_fault_has_killed_has_not_stopped_on_its_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "_fill", Path.touch)
    with pytest.raises(NoEffect, match="wrote too little"):
        asyncio.run(broken(FullDiskNemesis(), tmp_path, LIVES, Server.kill))


@pytest.mark.parametrize(
    "nemesis", [FullDiskNemesis(), BitFlipNemesis()], ids=lambda each: each.name
)
def test_a_safety_check_that_fails_is_not_excused_by_a_bad_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nemesis: Nemesis
) -> None:
    monkeypatch.setattr(disks, "_fill", Path.touch)
    with pytest.raises(NoEffect):
        asyncio.run(broken(nemesis, tmp_path, FAILS_A_SAFETY_CHECK, restarted))
