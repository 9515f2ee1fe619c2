"""Power cuts below a real file system: ext4 on a loop device whose writes and flushes are logged.

The disk is rebuilt as of a moment of the log and mounted, so the kernel recovers its journal. This
is the check of the model in `disk.py`. It needs root, FUSE and loop devices.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from jepsen_lite.power_cuts import notes
from jepsen_lite.power_cuts.campaign import Cut, CutFigures, drawn, judge_cuts
from jepsen_lite.power_cuts.disk import BLOCK_BYTES, CutModel
from jepsen_lite.power_cuts.logged_disk import DISK, NOTES, DiskOperation, read_log
from jepsen_lite.power_cuts.recorder import RecorderFailed, run_recorded, workload_command

DISK_BYTES = 64 << 20
FUSE_START_S_MAX = 20
_FUSE_MODULE = "jepsen_lite.power_cuts.logged_disk"


def missing() -> str:
    """The reason for which no file system can be checked here, empty if it is possible."""
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(device, os.R_OK | os.W_OK):
            return f"{device} can't be opened"
    for command in ("mkfs.ext4", "mount", "umount"):
        if not shutil.which(command):
            return f"{command} is not installed; apt-get install e2fsprogs mount"
    try:
        importlib.import_module("mfusepy")
    except ImportError:
        return "mfusepy is not installed; pip install 'jepsen-lite[file-system]'"
    except (OSError, AttributeError) as error:
        return f"libfuse can't be loaded ({error}); apt-get install libfuse3-3"
    return ""


class LoggedDisk:
    """A disk that follows a log, one operation at a time."""

    def __init__(self, size: int = DISK_BYTES) -> None:
        self._durable = bytearray(size)
        self._unflushed: list[DiskOperation] = []

    def follow(self, operation: DiskOperation) -> None:
        """Carry out the next operation."""
        if operation.kind == "w":
            self._unflushed.append(operation)
        elif operation.kind == "f":
            for write in self._unflushed:
                _write(self._durable, write.offset, write.data)
            self._unflushed.clear()

    def image(self, model: CutModel, rng: Random) -> bytearray:
        """The bytes that a power cut at this moment leaves."""
        content = bytearray(self._durable)
        kept = {CutModel.ISSUED: 1.0, CutModel.SYNCED: 0.0}.get(model)
        if kept is None:
            kept = rng.choice((0.1, 0.5, 0.9))
        for write in self._unflushed:
            for start in range(0, len(write.data), BLOCK_BYTES):
                if rng.random() < kept:
                    block = write.data[start : start + BLOCK_BYTES]
                    _write(content, write.offset + start, block)
        return content

    @contextmanager
    def left(self, target: Path, model: CutModel, rng: Random) -> Iterator[None]:
        """While this is entered, the file system that a power cut leaves is mounted there."""
        image = target.with_name(f"{target.name}.image")
        image.write_bytes(self.image(model, rng))
        with _mounted(image, target):
            yield
        image.unlink()


def _write(content: bytearray, offset: int, data: bytes) -> None:
    content[offset : offset + len(data)] = data


def make_recording(directory: Path, seed: int, steps: int, mutants: Sequence[str] = ()) -> Path:
    """Run the workload on ext4 and log its disk. Returns the file of the log, in `directory`.

    Raises `RecorderFailed`, also if the log does not lead to the bytes that are on the disk.
    """
    if missing():
        raise RecorderFailed(missing())
    image, log, served = directory / "image", directory / "log", directory / "served"
    root = directory / "file-system"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    for each in (served, root):
        each.mkdir()
    with _served(served, image, log):
        _execute("mkfs.ext4", "-q", "-F", "-E", "nodiscard", str(served / DISK))
        with _mounted(served / DISK, root):
            # The notes pass through FUSE too, and so they have their order among the writes.
            (root / notes.NOTES).symlink_to(served / NOTES)
            run_recorded(workload_command(root, seed, steps, mutants), os.environ)
    _require_complete(read_log(log), image)
    return log


def _require_complete(operations: Sequence[DiskOperation], image: Path) -> None:
    disk = LoggedDisk()
    for operation in operations:
        disk.follow(operation)
    if disk.image(CutModel.ISSUED, Random(0)) != image.read_bytes():
        raise RecorderFailed("the log does not lead to the bytes that are on the disk")


def draw_cuts(operations: Sequence[DiskOperation], seed: int, count: int) -> list[Cut]:
    """Cuts beside flushes, right after acknowledgements, and while writes are not flushed."""
    kinds = [operation.kind for operation in operations]
    begun = kinds.index("n")  # before that the file system is being made
    beside, acknowledged, unflushed = [], [], []
    waiting = False
    for moment, operation in enumerate(operations[begun:], begun + 1):
        waiting = operation.kind == "w" or (waiting and operation.kind == "n")
        if operation.kind == "f":
            beside += [moment - 1, moment]
        elif operation.kind == "n" and b'"acknowledged"' in operation.data:
            acknowledged.append(moment)
        if waiting:
            unflushed.append(moment)
    everywhere = range(begun + 1, len(operations) + 1)
    moments = [each or everywhere for each in (beside, acknowledged, unflushed)]
    return drawn(moments, Random(f"{seed}/power-cuts/file-system"), count)


def carry_out(operations: Sequence[DiskOperation], seed: int, cuts: Sequence[Cut]) -> CutFigures:
    """Mount the disk after each of the cuts, in their order, and check what production finds."""
    noted = {at: each.data for at, each in enumerate(operations) if each.kind == "n"}
    return judge_cuts(operations, noted, LoggedDisk(), seed, cuts)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """While this is entered, a SIGTERM ends the program as Ctrl-C does: after all is unmounted."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _served(at: Path, image: Path, log: Path) -> Iterator[None]:
    """While this is entered, `logged_disk` serves the image there."""
    command = [sys.executable, "-m", _FUSE_MODULE, str(at), str(image), str(log)]
    # A session of its own: Ctrl-C must not end it before what is mounted on it.
    with (
        log.with_suffix(".output").open("w+") as output,
        subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as server,
    ):
        try:
            deadline_s = time.monotonic() + FUSE_START_S_MAX
            while not os.path.ismount(at):
                if server.poll() is not None or time.monotonic() > deadline_s:
                    output.seek(0)
                    raise RecorderFailed(f"FUSE can't be mounted:\n{output.read()[-2_000:]}")
                time.sleep(0.02)
            yield
        finally:
            _unmount(at)
            try:
                server.wait(FUSE_START_S_MAX)
            except subprocess.TimeoutExpired:
                server.kill()


@contextmanager
def _mounted(image: Path, at: Path) -> Iterator[None]:
    """While this is entered, the image is mounted; its loop device ends with the mount."""
    try:
        _execute("mount", "-t", "ext4", "-o", "loop", str(image), str(at))
        yield
    finally:
        _unmount(at)


def _unmount(at: Path) -> None:
    """Unmount, without a second Ctrl-C between. What is still in use goes when its user ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        if os.path.ismount(at):
            gc.collect()  # an error of RocksDB may refer to open files
            command = ["umount", str(at)]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                subprocess.run([*command, "--lazy"], capture_output=True, check=False)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def _execute(*command: str) -> None:
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, start_new_session=True
    )
    if ended.returncode:
        raise RecorderFailed(f"{' '.join(command)}: {(ended.stderr or ended.stdout).strip()}")
