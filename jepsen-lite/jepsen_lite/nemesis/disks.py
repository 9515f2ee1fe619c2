"""Disks that are slow, full, or return other bytes than were written to them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from jepsen_lite.db.base import Database, DatabaseFailed, NoEffect
from jepsen_lite.db.local import LocalCluster
from jepsen_lite.db.processes import End, Server
from jepsen_lite.db.raftkv import RaftkvCluster
from jepsen_lite.nemesis.base import ActiveFault, Fault, Kind, one_node, resolve

SYNCS = "fsync,fdatasync"
DELAYS_MS = (20, 100, 500)
TRACER_END_S = 10.0

DISK_BYTES = 256 << 20
BALLAST = "ballast"
END_S = 10.0
FULL_CHUNK_BYTES = 1 << 20

FLIPS = 3
# The end of a log that is being written may be half a record after any crash; nobody can tell what
# is missing there, so a disk that loses it after a sync is beyond what Raft promises to survive.
SPARED_TAIL_BYTES = 16 << 10
LOOKS, LOOK_AGAIN_S = 60, 0.5


class SlowDiskNemesis(Kind):
    name = "slow-disk"
    summary = "every sync of a node takes longer (needs strace)"

    def missing(self) -> str:
        return "" if shutil.which("strace") else "strace is not installed; apt-get install strace"

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name, one_node(rng, size), amount=rng.choice(DELAYS_MS))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        assert isinstance(system, LocalCluster)
        (node,) = await resolve(system, fault)
        server = system.servers[node]
        if not server.running:
            raise NoEffect(f"{node} does not run")
        said = server.directory.with_suffix(".strace")
        trace = ["strace", "-f", "-p", str(server.pid), "-o", str(said), "-e", f"trace={SYNCS}"]
        trace += ["-e", f"inject={SYNCS}:delay_enter={round(fault.amount * 1000)}"]
        tracer = subprocess.Popen(  # noqa: ASYNC220 - see systems/programs.py
            trace,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        async def undo() -> str:
            tracer.send_signal(signal.SIGINT)
            try:
                await asyncio.to_thread(tracer.wait, TRACER_END_S)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()
            slowed = said.read_text().count("DELAYED") if said.exists() else 0
            if not slowed:
                raise NoEffect("it synced nothing")
            return f"{slowed} syncs were slow"

        return ActiveFault(node, f"{fault.amount:g} ms for each sync", undo)


class FullDiskNemesis(Kind):
    """Every node has a small disk of its own, in memory; it is filled to the last byte."""

    name = "full-disk"
    summary = "a node's disk is full until somebody makes room (needs root, for a tmpfs)"

    def missing(self) -> str:
        return "" if os.geteuid() == 0 else "only root can mount a small disk"

    def prepare(self, system: Database) -> None:
        assert isinstance(system, LocalCluster)
        system.equip(lambda server: _give_disk(system, server))

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name, one_node(rng, size))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        assert isinstance(system, LocalCluster)
        (node,) = await resolve(system, fault)
        server = system.servers[node]
        if not server.running:
            raise NoEffect(f"{node} does not run")
        seen, excuse_over = len(server.ends()), server.excuse(system.bad_disk_codes)
        _fill(server.directory / BALLAST)

        async def undo() -> str:
            (server.directory / BALLAST).unlink()
            # Who could not write takes a moment to answer its clients and close its stores.
            await server.ended(END_S)
            excuse_over()
            if not _refused(server, seen):
                raise NoEffect("it wrote too little to notice")
            if node in system.machines:
                await server.start()
            return "it had stopped, and was started again"

        return ActiveFault(node, "no byte is left", undo)


class BitFlipNemesis(Kind):
    """One node at a time, and it is replaced in the end, whether it has met the damage or not.

    So never more than one disk lies, which a majority of three can stand.
    """

    name = "bit-flip"
    summary = "some bits of a node's log or tables flip, or a table is cut short, while it is down"

    def draw(self, rng: Random, size: int) -> Fault:
        how = rng.choice(("log", "state", "cut"))
        return Fault(self.name, one_node(rng, size), how, rng.random())

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        assert isinstance(system, RaftkvCluster)
        (node,) = await resolve(system, fault)
        server = system.servers[node]
        seen = len(server.ends())
        if not await server.kill():
            raise NoEffect(f"{node} did not run")
        try:
            harmed = _harm(server.directory, fault.how, Random(fault.amount))
            server.excuse(system.bad_disk_codes)  # for good: it never gets a better disk
        finally:
            await server.start()

        async def undo() -> str:
            await _up_or_ended(system, server)
            refused = _refused(server, seen)
            await server.kill()
            replaced = await _replaced(system, node)
            await system.finish_replacements()
            if not refused:
                raise NoEffect(f"it has not met the damage; {replaced}")
            return f"it refused its disk (code {refused[0].code}); {replaced}"

        return ActiveFault(node, harmed, undo)


def _refused(server: Server, seen: int) -> Sequence[End]:
    """How it gave up by itself since so many ends had been seen: not by a fault that killed it."""
    return [end for end in server.ends()[seen:] if end.excused]


async def _up_or_ended(system: RaftkvCluster, server: Server) -> None:
    """Wait until the node serves or has given up, for a while."""
    for _ in range(LOOKS):
        if not server.running or server.name not in await system.not_ready():
            return
        await asyncio.sleep(LOOK_AGAIN_S)


async def _replaced(system: RaftkvCluster, node: str) -> str:
    """Replace it, however often other faults are in the way; who did it."""
    for _ in range(LOOKS):
        if node not in system.servers:
            return "another fault has replaced it"
        try:
            return f"{await system.replace(node)} replaced it"
        except NoEffect:
            await asyncio.sleep(LOOK_AGAIN_S)
    raise DatabaseFailed(f"{node} has a damaged disk and can't be replaced")


def _give_disk(system: LocalCluster, server: Server) -> None:
    server.directory.mkdir(parents=True, exist_ok=True)
    disk = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "jepsen-lite"]
    subprocess.run([*disk, str(server.directory)], check=True)
    system.at_end(lambda: subprocess.run(["umount", str(server.directory)], check=True))


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for chunk_bytes in (FULL_CHUNK_BYTES, 1):
            while _written(file.fileno(), chunk_bytes):
                pass


def _written(descriptor: int, count: int) -> bool:
    try:
        return os.write(descriptor, b"x" * count) > 0
    except OSError:
        return False


def _harm(directory: Path, how: str, rng: Random) -> str:
    """Change bytes of one file; returns what was done. Raises `NoEffect` if there is none."""
    tables = list(_files(directory, "*.sst"))
    logs = list(_files(directory / "log", "*.log"))
    candidates = {"log": logs, "cut": tables}.get(how) or tables or logs
    if not candidates:
        raise NoEffect("no file is large enough to be damaged")
    file = rng.choice(candidates)
    content = bytearray(file.read_bytes())
    name = file.relative_to(directory)
    if how == "cut" and file.suffix == ".sst":
        file.write_bytes(content[: len(content) // 2])
        return f"{name} was cut in half"
    for _ in range(FLIPS):
        content[rng.randrange(len(content) - SPARED_TAIL_BYTES)] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return f"{FLIPS} bits of {name} were flipped"


def _files(directory: Path, pattern: str) -> Iterator[Path]:
    for path in sorted(directory.rglob(pattern)):
        if path.stat().st_size > 2 * SPARED_TAIL_BYTES:
            yield path
