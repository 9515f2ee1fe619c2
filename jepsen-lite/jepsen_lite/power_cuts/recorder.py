"""Recordings of file operations: how a command is recorded, and how its recording is read."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("recorder.c")
_HEADER = struct.Struct("=BIIQq")


class RecorderFailed(Exception):
    """The recorder could not be built, or the recorded command failed."""


@dataclass(frozen=True, slots=True)
class FileOperation:
    """One successful call that changed or synced a file.

    `kind` is `c`reate, `m`kdir, `w`rite, `t`runcate, `s`ync, `u`nlink, `r`ename or `l`ink. Paths
    are relative to the recorded directory. A rename and a link have `path` and `target`.
    """

    kind: str
    inode: int
    offset: int
    path: str
    target: str
    data: bytes


def missing() -> str:
    """The reason for which nothing can be recorded on this machine, empty if it is possible."""
    return "" if shutil.which("gcc") else "gcc is not installed; apt-get install gcc libc6-dev"


def library() -> Path:
    """The recorder, compiled once for each version of its source."""
    source = SOURCE.read_bytes()
    name = f"jepsen-lite-recorder-{os.getuid()}-{hashlib.sha256(source).hexdigest()[:16]}.so"
    built = Path(tempfile.gettempdir(), name)
    if not built.exists():
        with tempfile.TemporaryDirectory() as directory:
            unfinished = Path(directory, "recorder.so")
            command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(unfinished), str(SOURCE), "-ldl"]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode:
                raise RecorderFailed(f"the recorder can't be compiled:\n{ended.stderr}")
            # Another process may build it at the same time: the last rename stays.
            moved = built.with_name(f"{built.name}.{os.getpid()}")
            shutil.copyfile(unfinished, moved)
            moved.replace(built)
    return built


def record(command: Sequence[str], root: Path, file: Path) -> None:
    """Run a command, and record its operations below `root` in `file`."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library()),
        "RECORDER_LOG": str(file),
        "RECORDER_ROOT": str(root),
    }
    run_recorded(command, environment)


def workload_command(root: Path, seed: int, steps: int, mutants: Sequence[str]) -> list[str]:
    """The command that runs the workload below `root`."""
    module = "jepsen_lite.power_cuts.workload"
    return [sys.executable, "-m", module, str(root), str(seed), str(steps), *mutants]


def run_recorded(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command to its end. Raises `RecorderFailed` if it fails."""
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        output = (ended.stdout + ended.stderr)[-4_000:]
        raise RecorderFailed(f"the workload ended with {ended.returncode}:\n{output}")


def read(file: Path) -> list[FileOperation]:
    """The operations of a recording, in their order."""
    return list(_operations(file.read_bytes()))


def _operations(recorded: bytes) -> Iterator[FileOperation]:
    at = 0
    while at < len(recorded):
        kind, path_length, data_length, inode, offset = _HEADER.unpack_from(recorded, at)
        at += _HEADER.size
        path = recorded[at : at + path_length].decode()
        at += path_length
        data = recorded[at : at + data_length]
        at += data_length
        letter, target = chr(kind), ""
        if letter in "rl":
            target, data = os.path.normpath(data.decode()), b""
        normal = os.path.normpath(path) if path else ""
        yield FileOperation(letter, inode, offset, normal, target, data)
