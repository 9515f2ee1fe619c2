"""One recording, and power cuts at many of its moments."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol, TypeVar

from jepsen_lite.power_cuts.disk import BLOCK_BYTES, CutModel, ModelDisk
from jepsen_lite.power_cuts.killed_node import KilledNodes
from jepsen_lite.power_cuts.notes import NOTES, read_note
from jepsen_lite.power_cuts.promises import Promises, committed_entries
from jepsen_lite.power_cuts.recorder import (
    FileOperation,
    RecorderFailed,
    read,
    record,
    workload_command,
)
from jepsen_lite.power_cuts.reopened import REFUSED, ReferenceStates, check_reopened
from jepsen_lite.power_cuts.workload import NODE

SCRATCH_BYTES = 256 << 20
DRAWS_PER_CUT = 4
KILLED_EVERY = 4
"""Of so many moments one has the recovered node killed once more."""
EMPTY_LOG_HASH = 13
"""Of the workload's cluster: its incarnation."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A power cut after the first `operations` of a recording."""

    operations: int
    model: CutModel


@dataclass(slots=True)
class CutFigures:
    """What came of the cuts. `problems` has the cut and what was wrong after it."""

    operations: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    cuts: Counter[CutModel] = field(default_factory=Counter)
    refused: Counter[CutModel] = field(default_factory=Counter)
    problems: list[tuple[Cut, str]] = field(default_factory=list)


class DiskChange(Protocol):
    """One operation of a recording."""

    @property
    def kind(self) -> str:
        """A letter."""
        ...


OperationT = TypeVar("OperationT", bound=DiskChange)
OperationT_contra = TypeVar("OperationT_contra", contravariant=True)


class CutDisk(Protocol[OperationT_contra]):
    """A disk that follows a recording, one operation at a time."""

    def follow(self, operation: OperationT_contra) -> None:
        """Carry out the next operation."""

    def left(self, target: Path, model: CutModel, rng: Random) -> AbstractContextManager[None]:
        """While this is entered, what a power cut at this moment leaves is below `target`."""
        ...


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A temporary directory, in memory if there is room: no sync has to reach a real disk."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free >= SCRATCH_BYTES
    with tempfile.TemporaryDirectory(
        prefix="jepsen-lite-", dir=memory if has_room else None
    ) as directory:
        yield Path(directory)


def make_recording(directory: Path, seed: int, steps: int, mutants: Sequence[str] = ()) -> Path:
    """Run the workload and record it. Returns the file of the recording, in `directory`.

    Raises `RecorderFailed`, also if the recording does not lead to the files that are there.
    """
    root, file = directory / "disk", directory / "recording"
    root.mkdir()
    record(workload_command(root, seed, steps, mutants), root, file)
    require_complete(read(file), root)
    return file


def draw_cuts(operations: Sequence[FileOperation], seed: int, count: int) -> list[Cut]:
    """Most cuts are where the order of operations matters most: right after an acknowledgement,
    beside a sync or a change of names, and while blocks of a write-ahead log are unsynced.
    """
    rng = Random(f"{seed}/power-cuts/cuts")
    everywhere = range(len(operations) + 1)
    beside = [
        at + after
        for at, operation in enumerate(operations)
        if operation.kind != "w"
        for after in (0, 1)
    ]
    notes = _notes_inode(operations)
    acknowledged = [
        moment
        for moment, operation in enumerate(operations, 1)
        if operation.inode == notes and b'"acknowledged"' in operation.data
    ]
    unsynced = list(_unsynced_logs(operations)) or everywhere
    return drawn([everywhere, beside, acknowledged, unsynced], rng, count)


def drawn(moments: Sequence[Sequence[int]], rng: Random, count: int) -> list[Cut]:
    """Different cuts, each at one of the moments of one of these kinds."""
    cuts: set[Cut] = set()
    for _ in range(DRAWS_PER_CUT * count):  # a short recording may have fewer cuts
        if len(cuts) < count:
            cuts.add(Cut(rng.choice(rng.choice(moments)), rng.choice(list(CutModel))))
    return sorted(cuts, key=lambda cut: (cut.operations, cut.model))


def _unsynced_logs(operations: Sequence[FileOperation]) -> Iterator[int]:
    """The moments at which a write-ahead log has more than a block that is not synced."""
    unsynced: dict[int, int] = {}
    for moment, operation in enumerate(operations, 1):
        if operation.kind == "c":
            unsynced.pop(operation.inode, None)
            if operation.path.endswith(".log"):
                unsynced[operation.inode] = 0
        elif operation.inode in unsynced:
            known = 0 if operation.kind == "s" else unsynced[operation.inode]
            unsynced[operation.inode] = known + len(operation.data)
            if unsynced[operation.inode] > BLOCK_BYTES:
                yield moment


def carry_out(operations: Sequence[FileOperation], seed: int, cuts: Sequence[Cut]) -> CutFigures:
    """Rebuild the disk after each of the cuts, in their order, and check what production finds."""
    notes = _notes_inode(operations)
    noted = {
        at: each.data
        for at, each in enumerate(operations)
        if each.inode == notes and each.kind == "w"
    }
    return judge_cuts(operations, noted, ModelDisk(), seed, cuts)


def judge_cuts(
    operations: Sequence[OperationT],
    noted: Mapping[int, bytes],
    disk: CutDisk[OperationT],
    seed: int,
    cuts: Sequence[Cut],
) -> CutFigures:
    """Let the disk follow the operations, cut the power, and check what production finds.

    `noted` has the notes by the places of their operations.
    """
    notes = [read_note(line) for line in noted.values()]
    reference = ReferenceStates(committed_entries(notes), EMPTY_LOG_HASH)
    figures = CutFigures(
        operations=Counter(operation.kind for operation in operations),
        acknowledged=Counter(note["acknowledged"] for note in notes if "acknowledged" in note),
    )
    promises, at = Promises(), 0
    with scratch_directory() as directory, KilledNodes() as killed:
        for number, cut in enumerate(cuts):
            for place in range(at, cut.operations):
                disk.follow(operations[place])
                if place in noted:
                    promises.follow(read_note(noted[place]))
            at = cut.operations
            # RocksDB locks a path as long as the error of a failed start refers to its iterators.
            left = directory / str(number)
            left.mkdir()
            rng = Random(f"{seed}/power-cuts/{cut.operations}/{cut.model}")
            with disk.left(left, cut.model, rng):
                found = asyncio.run(
                    check_reopened(
                        left / NODE,
                        promises,
                        reference,
                        may_refuse=cut.model is CutModel.TORN,
                        killed=None if cut.operations % KILLED_EVERY else killed,
                    )
                )
            shutil.rmtree(left)
            figures.cuts[cut.model] += 1
            if found == REFUSED:
                figures.refused[cut.model] += 1
            elif found:
                figures.problems.append((cut, found.replace(f"{left}/", "")))
    return figures


def _notes_inode(operations: Sequence[FileOperation]) -> int:
    return next(each.inode for each in operations if each.kind == "c" and each.path == NOTES)


def require_complete(operations: Sequence[FileOperation], root: Path) -> None:
    """Raise `RecorderFailed` unless the operations lead to what is really there, apart from
    RocksDB's logs of messages, which it writes by stdio.
    """
    disk = ModelDisk()
    for operation in operations:
        disk.follow(operation)
    with scratch_directory() as directory:
        disk.leave(directory, CutModel.ISSUED, Random(0))
        modelled, real = _content(directory), _content(root)
    for name in sorted(modelled.keys() | real.keys()):
        if modelled.get(name) != real.get(name):
            raise RecorderFailed(f"the recording lacks operations: {name} is not as it is on disk")


def _content(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): b"" if path.name.startswith("LOG") else path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
