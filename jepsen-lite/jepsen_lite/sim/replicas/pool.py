"""Replica processes that live as long as the command, and the comparison of what they hold."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepsen_lite.sim.replicas.applied_log import StateDigests
from jepsen_lite.sim.replicas.variations import (
    DIFFERENT,
    ORDINARY,
    OTHER_PROTOBUF,
    Variation,
    other_pythons,
)
from raftkv.raft.entry import Entry

RARE_EVERY = 10
"""Of so many seeds one is applied by all kinds of replicas, the slow ones included."""


class ReplicaProcess:
    """One process, started at its first log."""

    def __init__(self, variation: Variation, mutant: str = "") -> None:
        self.variation = variation
        command = [variation.python, *variation.options, "-m", "jepsen_lite.sim.replicas.process"]
        self._process = subprocess.Popen(
            [*command, *([mutant] if mutant else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment_of(variation),
        )
        self._ready = False

    def send(self, entries: Sequence[Entry], runs: str) -> None:
        """Have the process apply a log. `digests` must be called before the next one is sent."""
        packed = [(each.term, each.index, each.kind.value, each.payload) for each in entries]
        self._await_ready()
        pickle.dump((f"{runs}/{self.variation.name}", packed), self._stdin, protocol=4)
        self._stdin.flush()

    def digests(self) -> list[StateDigests] | str:
        """The digests of the log that was sent, or the error of the state machine."""
        answer = self._receive()
        if isinstance(answer, str):
            return answer
        return [StateDigests(*each) for each in answer]

    def close(self) -> None:
        """End the process."""
        self._stdin.close()
        self._stdout.close()
        self._process.wait()

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    @property
    def _stdout(self) -> Any:
        return self._process.stdout

    def _await_ready(self) -> None:
        if not self._ready:
            self._receive()
            self._ready = True

    def _receive(self) -> Any:
        try:
            return pickle.load(self._stdout)
        except EOFError as error:
            code = self._process.wait()
            raise ReplicaEnded(
                f"the replica with {self.variation.name} ended with {code}"
            ) from error


class ReplicaEnded(Exception):
    """A replica process ended by itself: a failure of the harness."""


class ReplicaPool:
    """The replicas that apply each seed's log. `mutant`, MODULE:NAME, is planted in all of them."""

    def __init__(self, mutant: str = "") -> None:
        self._mutant = mutant
        self._processes: dict[str, ReplicaProcess] = {}
        self.compared = 0

    def __enter__(self) -> ReplicaPool:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def differences(self, seed: int, entries: Sequence[Entry]) -> list[str]:
        """How the states or results of other replicas differ from those of an ordinary one."""
        others = [DIFFERENT]
        if seed % RARE_EVERY == 0:
            others += [OTHER_PROTOBUF, *other_pythons()[0]]
        return self.compare(entries, others, str(seed))

    def compare(
        self, entries: Sequence[Entry], others: Sequence[Variation], runs: str
    ) -> list[str]:
        """As `differences`, for these variations."""
        processes = [self._process(each) for each in (ORDINARY, *others)]
        for process in processes:  # they apply at the same time
            process.send(entries, runs)
        ordinary, *answers = [process.digests() for process in processes]
        self.compared += 1
        problems = []
        for variation, answer in zip(others, answers, strict=True):
            difference = _difference(ordinary, answer)
            if difference:
                single = self.compare(entries, variation.parts, runs) if variation.parts else []
                problems += single or [f"the replica with {variation.name} {difference}"]
        return problems

    def _process(self, variation: Variation) -> ReplicaProcess:
        if variation.name not in self._processes:
            self._processes[variation.name] = ReplicaProcess(variation, self._mutant)
        return self._processes[variation.name]


def environment_of(variation: Variation) -> dict[str, str]:
    """The environment of a replica: it finds the modules that this process has found."""
    library = Path(sysconfig.get_path("stdlib"))  # each Python has its own
    paths = [
        path
        for path in sys.path
        if path and ("site-packages" in path or not _is_library(Path(path), library))
    ]
    path = os.pathsep.join([*variation.paths, *paths])
    return {**os.environ, "PYTHONPATH": path, **variation.environment}


def _is_library(path: Path, library: Path) -> bool:
    return path.is_relative_to(library) or path.suffix == ".zip"


def _difference(ordinary: list[StateDigests] | str, other: list[StateDigests] | str) -> str:
    if isinstance(ordinary, str) or isinstance(other, str):
        if ordinary == other:
            return ""
        failed = ordinary if isinstance(ordinary, str) else str(other)
        return f"or the one with {ORDINARY.name} raises: {failed}"
    for one, two in zip(ordinary, other, strict=True):
        families = [name for name in one.families if one.families[name] != two.families[name]]
        if families:
            return (
                f"holds other bytes than the one with {ORDINARY.name} after entry {one.last_index}:"
                f" in {', '.join(families)}"
            )
        if one.results != two.results:
            return (
                f"returned other results than the one with {ORDINARY.name} up to entry"
                f" {one.last_index}"
            )
    return ""


def describe_replicas(seeds: range) -> str:
    """The line on the replicas after a run of these seeds in which everything held."""
    line = f"replicas: each log was applied again with {DIFFERENT.name}: the same bytes"
    if not any(seed % RARE_EVERY == 0 for seed in seeds):
        return line
    usable, skipped = other_pythons()
    names = ", ".join(each.name for each in (OTHER_PROTOBUF, *usable))
    return f"{line}; each {RARE_EVERY}th also with {names}" + (
        f" (not with {'; '.join(skipped)})" if skipped else ""
    )
