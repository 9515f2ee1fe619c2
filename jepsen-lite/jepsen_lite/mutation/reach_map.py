"""Which tests and which seeds reach which statements, and how long each takes.

The map is kept in a file. Only what is missing or out of date is run again.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepsen_lite.mutation.candidates import Candidate, Target
from jepsen_lite.mutation.code_import import module_name
from jepsen_lite.mutation.server_process import SIMULATOR, TESTS, ServerProcess
from jepsen_lite.mutation.trial_server import ServerOrder


@dataclass(frozen=True, slots=True)
class MappedStep:
    """A test or a seed; `reached` has the bit of each statement that it reaches."""

    name: str
    seconds: float
    reached: int


class ReachMap:
    """The map of one tree, from a file where that has it."""

    def __init__(self, target: Target, file: Path) -> None:
        self._target, self._file = target, file
        self._importers = _importers(target)
        self._numbers: dict[str, dict[int, int]] = {}
        self._tests: dict[str, tuple[str, list[MappedStep]]] = {}
        """By test file: the file's digest, and its tests."""
        self._seeds: dict[str, MappedStep] = {}
        self._code = _digest(target.root, sorted((target.root).glob(f"{_package(target)}/**/*.py")))
        self._harness = _digest(target.root, sorted(target.root.glob("jepsen-lite/**/*.py")))
        self._load()

    def map_tests(self, progress: Callable[[str], None]) -> None:
        """Run the tests whose files have changed since they were mapped."""
        files = self._test_files()
        due = [file for file, digest in files.items() if self._digest_of(file) != digest]
        self._tests = {file: kept for file, kept in self._tests.items() if file in files}
        if not due:
            return
        found: dict[str, list[MappedStep]] = {file: [] for file in due}
        for step in self._recorded(TESTS, due, progress):
            found[step.name.partition("::")[0]].append(step)
        self._tests |= {file: (files[file], steps) for file, steps in found.items()}
        self._save()

    def map_seeds(self, seeds: Iterable[int], progress: Callable[[str], None]) -> None:
        """Run the seeds that are not in the map."""
        due = [str(seed) for seed in seeds if str(seed) not in self._seeds]
        if due:
            for step in self._recorded(SIMULATOR, due, progress):
                self._seeds[step.name] = step
            self._save()

    def tests_of(self, candidate: Candidate, seconds: float = math.inf) -> list[MappedStep]:
        """The tests that reach the mutation, quickest first.

        If they take longer than `seconds` together, those in the folder of the mutation's package
        are preferred, and of the others the quickest.
        """
        folder = f"tests/{candidate.path.split('/')[1]}/"
        steps = [step for _, each in self._tests.values() for step in each]
        steps = self._reaching(candidate, steps)
        steps.sort(key=lambda step: (not step.name.startswith(folder), step.seconds, step.name))
        ends = itertools.accumulate(step.seconds for step in steps)
        chosen = [step for step, end in zip(steps, ends, strict=True) if end <= seconds]
        return sorted(chosen, key=lambda step: (step.seconds, step.name))

    def seeds_of(self, candidate: Candidate, seeds: Iterable[int]) -> list[MappedStep]:
        """The seeds that reach the mutation, in order; all others run as without it."""
        return self._reaching(candidate, [self._seeds[str(seed)] for seed in seeds])

    def _reaching(self, candidate: Candidate, steps: list[MappedStep]) -> list[MappedStep]:
        if candidate.at_import:  # its value may be read by its module and by those that import it
            paths = self._importers[candidate.path]
            numbers = [number for path in paths for number in self._numbers[path].values()]
        else:
            numbers = [self._numbers[candidate.path][candidate.line]]
        wanted = sum(1 << number for number in numbers)
        return [step for step in steps if step.reached & wanted]

    def _recorded(
        self, module: str, names: list[str], progress: Callable[[str], None]
    ) -> Iterable[MappedStep]:
        order = ServerOrder(self._target, tuple(names), records=True)
        with ServerProcess(module, order) as server:
            for answer in server.recorded():
                if "numbers" in answer:
                    self._numbers = _with_int_lines(answer["numbers"])
                    continue
                progress(answer["step"])
                reached = sum(1 << number for number in answer["reached"])
                yield MappedStep(answer["step"], answer["seconds"], reached)

    def _test_files(self) -> dict[str, str]:
        """The digest of each test file, together with the helpers beside it."""
        root, digests = self._target.root, {}
        for folder in self._target.tests:
            modules = sorted((root / folder).rglob("*.py"))
            helpers = [each for each in modules if not each.name.startswith("test_")]
            for each in modules:
                if each.name.startswith("test_"):
                    digests[str(each.relative_to(root))] = _digest(root, [each, *helpers])
        return digests

    def _digest_of(self, file: str) -> str:
        return self._tests[file][0] if file in self._tests else ""

    def _load(self) -> None:
        if not self._file.exists():
            return
        kept = json.loads(gzip.decompress(self._file.read_bytes()))
        if kept["code"] != self._code:
            return
        self._numbers = _with_int_lines(kept["numbers"])
        self._tests = {
            file: (digest, list(map(_step, steps)))
            for file, (digest, steps) in kept["tests"].items()
        }
        if kept["harness"] == self._harness:
            self._seeds = {step.name: step for step in map(_step, kept["seeds"])}

    def _save(self) -> None:
        kept = {
            "code": self._code,
            "harness": self._harness,
            "numbers": self._numbers,
            "tests": {
                file: (digest, list(map(_fields, steps)))
                for file, (digest, steps) in self._tests.items()
            },
            "seeds": list(map(_fields, self._seeds.values())),
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(gzip.compress(json.dumps(kept).encode(), 1))


def _step(fields: list[Any]) -> MappedStep:
    return MappedStep(fields[0], fields[1], int(fields[2], 16))


def _fields(step: MappedStep) -> tuple[str, float, str]:
    return step.name, step.seconds, f"{step.reached:x}"


def _with_int_lines(numbers: dict[str, dict[str, int]]) -> dict[str, dict[int, int]]:
    return {path: {int(line): at for line, at in lines.items()} for path, lines in numbers.items()}


def _package(target: Target) -> str:
    return target.code[0].partition("/")[0]


def _digest(root: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _importers(target: Target) -> dict[str, list[str]]:
    """For each module, itself and the modules that import it, or something from it."""
    paths = {module_name(path): path for path in target.modules()}
    importers = {path: [path] for path in paths.values()}
    for path in target.modules():
        for node in ast.walk(ast.parse((target.root / path).read_bytes())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name in paths and path not in importers[paths[name]]:
                    importers[paths[name]].append(path)
    return importers
