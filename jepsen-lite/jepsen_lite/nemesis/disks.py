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
from jepsen_lite.faults.kinds import LOG, STATE, TRUNCATED_TABLE, BitFlip, Fault, FullDisk, SlowDisk
from jepsen_lite.nemesis.base import ActiveFault, Nemesis, one_node, resolve

SYNCS = "fsync,fdatasync"
DELAYS_MS = (20, 100, 500)
TRACER_END_S = 10.0

DISK_BYTES = 256 << 20
BALLAST = "ballast"
END_S = 10.0
FULL_CHUNK_BYTES = 1 << 20

FLIPS = 3
# The end of a log that is being written may be half a record after any crash; nothing shows
# what is missing there, so a disk that loses it after a sync is beyond what Raft promises to
# survive.
SPARED_TAIL_BYTES = 16 << 10
LOOKS, LOOK_AGAIN_S = 60, 0.5


class SlowDiskNemesis(Nemesis):
    name = "slow-disk"
    summary = "every sync of a node takes longer (needs strace)"

    def missing(self) -> str:
        return "" if shutil.which("strace") else "strace is not installed; apt-get install strace"

    def draw(self, rng: Random, size: int) -> Fault:
        return SlowDisk(0.0, 0.0, (one_node(rng, size),), rng.choice(DELAYS_MS) / 1000)

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(db, LocalCluster)
        assert isinstance(fault, SlowDisk)
        (node,) = await resolve(db, *fault.nodes)
        server = db.servers[node]
        if not server.running:
            raise NoEffect(f"{node} does not run")
        traced = server.directory.with_suffix(".strace")
        trace = [
            "strace",
            "-f",
            "-p",
            str(server.pid),
            "-o",
            str(traced),
            "-e",
            f"trace={SYNCS}",
        ]
        trace += ["-e", f"inject={SYNCS}:delay_enter={round(fault.delay_s * 1e6)}"]
        tracer = subprocess.Popen(  # noqa: ASYNC220 - see db/processes.py
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
            slowed = traced.read_text().count("DELAYED") if traced.exists() else 0
            if not slowed:
                raise NoEffect("it synced nothing")
            return f"{slowed} syncs were slow"

        return ActiveFault(node, f"{fault.delay_s * 1000:g} ms for each sync", undo)


class FullDiskNemesis(Nemesis):
    """Every node has a small disk of its own, in memory; it is filled to the last byte."""

    name = "full-disk"
    summary = "a node's disk is full for a while (needs root, for a tmpfs)"

    def missing(self) -> str:
        return "" if os.geteuid() == 0 else "only root can mount a small disk"

    def prepare(self, db: Database) -> None:
        assert isinstance(db, LocalCluster)
        db.equip(lambda server: _give_disk(db, server))

    def draw(self, rng: Random, size: int) -> Fault:
        return FullDisk(0.0, 0.0, one_node(rng, size))

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(db, LocalCluster)
        assert isinstance(fault, FullDisk)
        (node,) = await resolve(db, fault.node)
        server = db.servers[node]
        if not server.running:
            raise NoEffect(f"{node} does not run")
        seen, excuse_over = len(server.ends()), server.excuse(db.bad_disk_codes)
        _fill(server.directory / BALLAST)

        async def undo() -> str:
            (server.directory / BALLAST).unlink()
            # A node that can't write takes a moment to answer its clients and close its stores.
            await server.ended(END_S)
            excuse_over()
            if not _refused(server, seen):
                raise NoEffect("it wrote too little to notice")
            if node in db.machines:
                await server.start()
            return "it had stopped, and was started again"

        return ActiveFault(node, "no byte is left", undo)


class BitFlipNemesis(Nemesis):
    """One node at a time, and it is replaced in the end, whether it has met the damage or not.

    So never more than one disk lies, which a majority of three can stand.
    """

    name = "bit-flip"
    summary = "some bits of a node's log or tables flip, or a table is cut short, while it is down"

    def draw(self, rng: Random, size: int) -> Fault:
        part = rng.choice((LOG, STATE, TRUNCATED_TABLE))
        return BitFlip(0.0, 0.0, one_node(rng, size), part, rng.random())

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(db, RaftkvCluster)
        assert isinstance(fault, BitFlip)
        (node,) = await resolve(db, fault.node)
        server = db.servers[node]
        seen = len(server.ends())
        if not await server.kill():
            raise NoEffect(f"{node} did not run")
        try:
            damage = _damage(server.directory, fault.part, Random(fault.seed))
            server.excuse(db.bad_disk_codes)  # for good: it never gets a better disk
        finally:
            await server.start()

        async def undo() -> str:
            await _up_or_ended(db, server)
            refused = _refused(server, seen)
            await server.kill()
            replaced = await _replaced(db, node)
            await db.finish_replacements()
            if not refused:
                raise NoEffect(f"it has not met the damage; {replaced}")
            return f"it refused its disk (code {refused[0].code}); {replaced}"

        return ActiveFault(node, damage, undo)


def _refused(server: Server, seen: int) -> Sequence[End]:
    """How it gave up by itself since so many ends had been seen: not by a fault that killed it."""
    return [end for end in server.ends()[seen:] if end.excused]


async def _up_or_ended(db: RaftkvCluster, server: Server) -> None:
    """Wait until the node serves or has given up, for a while."""
    for _ in range(LOOKS):
        if not server.running or server.name not in await db.not_ready():
            return
        await asyncio.sleep(LOOK_AGAIN_S)


async def _replaced(db: RaftkvCluster, node: str) -> str:
    """Replace the node, retrying while other faults prevent it; returns how it was replaced."""
    for _ in range(LOOKS):
        if node not in db.servers:
            return "another fault has replaced it"
        try:
            return f"{await db.replace(node)} replaced it"
        except NoEffect:
            await asyncio.sleep(LOOK_AGAIN_S)
    raise DatabaseFailed(f"{node} has a damaged disk and can't be replaced")


def _give_disk(db: LocalCluster, server: Server) -> None:
    server.directory.mkdir(parents=True, exist_ok=True)
    disk = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "jepsen-lite"]
    subprocess.run([*disk, str(server.directory)], check=True)
    db.at_end(lambda: subprocess.run(["umount", str(server.directory)], check=True))


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


def _damage(directory: Path, part: str, rng: Random) -> str:
    """Change bytes of one file; returns what was done. Raises `NoEffect` if there is none."""
    tables = list(_files(directory, "*.sst"))
    logs = list(_files(directory / "log", "*.log"))
    candidates = {LOG: logs, TRUNCATED_TABLE: tables}.get(part) or tables or logs
    if not candidates:
        raise NoEffect("no file is large enough to be damaged")
    file = rng.choice(candidates)
    content = bytearray(file.read_bytes())
    name = file.relative_to(directory)
    if part == TRUNCATED_TABLE and file.suffix == ".sst":
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
