"""A model of a disk: what a recording has written to it, and what a power cut may leave."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias

from jepsen_lite.power_cuts.recorder import FileOperation

BLOCK_BYTES = 4_096


class CutModel(enum.StrEnum):
    """What of the unsynced writes a power cut leaves."""

    ISSUED = "issued"  # everything: as after a crash of the process alone
    SYNCED = "synced"  # nothing; a name is durable once its directory was synced
    TORN = "torn"  # of each file any of the unsynced blocks, of each directory the first names


@dataclass(slots=True)
class ModelFile:
    """The bytes that are durable, and the writes and truncations since, in their order."""

    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[FileOperation] = field(default_factory=list)

    def sync(self) -> None:
        for operation in self.unsynced:
            _change(self.durable, operation)
        self.unsynced.clear()

    def issued(self) -> bytes:
        content = bytearray(self.durable)
        for operation in self.unsynced:
            _change(content, operation)
        return bytes(content)

    def torn(self, rng: Random) -> bytes:
        """The durable bytes with some of the blocks and of the growth that were not synced."""
        before, after = bytes(self.durable), self.issued()
        if before == after:
            return before
        low, high = sorted((len(before), len(after)))
        size = rng.choice((low, high, rng.randint(low, high)))
        kept = rng.choice((0.0, 0.5, 0.9, 1.0))
        blocks = []
        for start in range(0, size, BLOCK_BYTES):
            source = after if rng.random() < kept else before
            blocks.append(source[start : start + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0"))
        return b"".join(blocks)[:size]


Child: TypeAlias = "ModelFile | ModelDirectory"
Names: TypeAlias = "dict[str, Child]"


@dataclass(slots=True)
class ModelDirectory:
    """Names: as they are, as they are durable, and the states in between since the last sync."""

    names: Names = field(default_factory=dict)
    durable: Names = field(default_factory=dict)
    unsynced: list[Names] = field(default_factory=list)

    def changed(self) -> None:
        self.unsynced.append(dict(self.names))

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.unsynced.clear()


class ModelDisk:
    """A disk that follows a recording, one operation at a time.

    A file's fsync makes its bytes durable and not its name. That is weaker than what ext4 and XFS
    do, and all that POSIX promises.
    """

    def __init__(self) -> None:
        self.root = ModelDirectory()
        self._inodes: dict[int, Child] = {}

    def follow(self, operation: FileOperation) -> None:
        """Carry out the next operation."""
        match operation.kind:
            case "c" | "m":
                child: Child = ModelFile() if operation.kind == "c" else ModelDirectory()
                self._inodes[operation.inode] = child
                self._name(operation.path, child)
            case "w" | "t":
                self._file(operation).unsynced.append(operation)
            case "s":
                # The recorded directory itself is the only one that was there before.
                self._inodes.get(operation.inode, self.root).sync()
            case "u":
                self._forget(operation.path)
            case "r":
                child = self._child(operation.path)
                moved_within = _parent(operation.path) == _parent(operation.target)
                directory, name = self._place(operation.path)
                del directory.names[name]
                if not moved_within:
                    directory.changed()
                self._name(operation.target, child)
            case "l":
                self._name(operation.target, self._child(operation.path))

    def _file(self, operation: FileOperation) -> ModelFile:
        found = self._inodes[operation.inode]
        if not isinstance(found, ModelFile):
            raise TypeError(f"{operation} is on a directory")
        return found

    def _place(self, path: str) -> tuple[ModelDirectory, str]:
        directory = self.root
        *parents, name = path.split("/")
        for parent in parents:
            found = directory.names[parent]
            if not isinstance(found, ModelDirectory):
                raise TypeError(f"{path} is below a file")
            directory = found
        return directory, name

    def _child(self, path: str) -> Child:
        directory, name = self._place(path)
        return directory.names[name]

    def _name(self, path: str, child: Child) -> None:
        directory, name = self._place(path)
        directory.names[name] = child
        directory.changed()

    def _forget(self, path: str) -> None:
        directory, name = self._place(path)
        del directory.names[name]
        directory.changed()

    def leave(self, target: Path, model: CutModel, rng: Random) -> None:
        """Write below `target`, an empty directory, what a power cut at this moment leaves."""
        _leave(self.root, target, model, rng)

    @contextmanager
    def left(self, target: Path, model: CutModel, rng: Random) -> Iterator[None]:
        """While this is entered, what a power cut leaves is below `target`."""
        self.leave(target, model, rng)
        yield


def _leave(directory: ModelDirectory, target: Path, model: CutModel, rng: Random) -> None:
    match model:
        case CutModel.ISSUED:
            names = directory.names
        case CutModel.SYNCED:
            names = directory.durable
        case CutModel.TORN:
            names = rng.choice([directory.durable, *directory.unsynced])
    for name, child in names.items():
        path = target / name
        if isinstance(child, ModelDirectory):
            path.mkdir(0o700)
            _leave(child, path, model, rng)
            continue
        match model:
            case CutModel.ISSUED:
                content = child.issued()
            case CutModel.SYNCED:
                content = bytes(child.durable)
            case CutModel.TORN:
                content = child.torn(rng)
        path.touch(0o600)  # as the node has its files
        path.write_bytes(content)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _change(content: bytearray, operation: FileOperation) -> None:
    size, end = len(content), operation.offset + len(operation.data)
    if operation.kind == "t":
        del content[operation.offset :]
    content.extend(bytes(max(0, end - size)))
    if operation.kind == "w":
        content[operation.offset : end] = operation.data
