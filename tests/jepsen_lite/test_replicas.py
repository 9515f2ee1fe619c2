"""Committed logs that other processes apply again, and bugs that only they show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.power_cuts.random_commands import RandomCommands
from jepsen_lite.sim.replicas import variations
from jepsen_lite.sim.replicas.applied_log import COMPARED_EVERY
from jepsen_lite.sim.replicas.pool import (
    RARE_EVERY,
    ReplicaEnded,
    ReplicaPool,
    describe_replicas,
    environment_of,
)
from jepsen_lite.sim.replicas.variations import (
    ORDINARY,
    OTHER_PROTOBUF,
    Variation,
    other_pythons,
)
from raftkv.raft.entry import Entry, EntryKind, encode_version
from raftkv.versions import SUPPORTED


def drawn_log(seed: int, length: int) -> list[Entry]:
    commands = RandomCommands(Random(f"{seed}/replicas"))
    first = Entry(1, 1, EntryKind.VERSION, encode_version(SUPPORTED.maximum))
    return [
        first,
        *(
            Entry(1, index, EntryKind.COMMANDS, commands.payload())
            for index in range(2, length + 1)
        ),
    ]


def test_other_hashes_and_optimized_bytecode_give_the_same_bytes() -> None:
    with ReplicaPool() as pool:
        assert pool.differences(1, drawn_log(1, 3 * COMPARED_EVERY + 7)) == []
        assert pool.differences(2, drawn_log(2, 5)) == []
        assert pool.differences(3, []) == []
        assert pool.compared == 3


@pytest.mark.slow
def test_other_pythons_and_libraries_give_the_same_bytes() -> None:
    with ReplicaPool() as pool:
        for seed in range(10):
            assert pool.differences(RARE_EVERY * seed, drawn_log(seed, 1_000)) == []


@pytest.mark.slow
def test_an_older_protobuf_gives_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*command, str(tmp_path), "protobuf==7.35.*"], check=True)
    older = Variation("protobuf 7.35", environment=ORDINARY.environment, paths=(str(tmp_path),))
    ask = "import google.protobuf; print(google.protobuf.__version__)"
    asked = [sys.executable, "-c", ask]
    found = subprocess.run(asked, env=environment_of(older), capture_output=True, check=True)
    assert found.stdout.startswith(b"7.35.")
    with ReplicaPool() as pool:
        assert pool.compare(drawn_log(1, 1_000), [older], "1") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "problem"),
    [
        ("keys-are-deleted-in-the-order-of-a-set", "the replica with PYTHONHASHSEED=1 holds other"),
        ("results-are-forgotten-in-an-assert", "the replica with python -O holds other bytes"),
    ],
)
def test_a_difference_names_its_replica(mutant: str, problem: str) -> None:
    with ReplicaPool(MUTANTS[mutant].reference) as pool:
        (found,) = pool.differences(1, drawn_log(1, 300))
    assert found.startswith(problem)


def test_a_state_machine_that_fails_in_one_replica_is_a_difference(tmp_path: Path) -> None:
    (tmp_path / "sortedcontainers.py").write_text(
        "class Broken:\n"
        "    def __init__(self, *_, **__): pass\n"
        "    def __getattr__(self, _): 1 / 0\n"
        "def __getattr__(_): return Broken\n"
    )
    broken = Variation("a broken library", paths=(str(tmp_path),))
    with ReplicaPool() as pool:
        (found,) = pool.compare(drawn_log(1, 5), [broken], "1")
    assert "ZeroDivisionError" in found


def test_a_replica_that_ends_by_itself_is_no_difference() -> None:
    ends = Variation("no process", options=("-c", "raise SystemExit(9)"))
    with ReplicaPool() as pool, pytest.raises(ReplicaEnded, match="no process ended with 9"):
        pool.compare(drawn_log(1, 5), [ends], "1")


def test_a_python_that_cannot_run_the_state_machine_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python3.14"
    python.write_text("#!/bin/sh\necho 'this Python is broken' >&2\nexit 1\n")
    python.chmod(0o700)
    monkeypatch.setattr(variations, "OTHER_PYTHONS", ("3.14", "9.9"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    other_pythons.cache_clear()
    try:
        usable, skipped = other_pythons()
        assert usable == ()
        assert skipped == (
            "Python 3.14: this Python is broken",
            "Python 9.9: it is not installed",
        )
        line = describe_replicas(range(1, RARE_EVERY + 1))
        assert OTHER_PROTOBUF.name in line
        assert "Python 9.9: it is not installed" in line
        assert OTHER_PROTOBUF.name not in describe_replicas(range(1, RARE_EVERY))
    finally:
        other_pythons.cache_clear()


@pytest.mark.usefixtures("quiet_nodes")
def test_the_simulator_compares_replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["sim", "--seeds", "1", "--seconds", "1", "--no-reduce", "--store", str(tmp_path)]
    monkeypatch.setattr(
        ReplicaPool, "differences", lambda _, seed, entries: [f"{len(entries) > 5} {seed}"]
    )
    failed = CliRunner().invoke(app, asked)
    assert failed.exit_code == 1, failed.output
    assert "  True 1" in failed.output
