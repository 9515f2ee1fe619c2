"""The ways in which replicas of a cluster may differ while they must hold the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

OTHER_PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_ASK_S = 10.0


@dataclass(frozen=True, slots=True)
class Variation:
    """How a replica's process is started.

    `paths` come before all other places of modules. `parts` are the single differences of a
    combination.
    """

    name: str
    python: str = sys.executable
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    parts: tuple[Variation, ...] = ()


def _seeded(number: int) -> Variation:
    name = f"PYTHONHASHSEED={number}"
    return Variation(name, environment={"PYTHONHASHSEED": str(number)})


ORDINARY = _seeded(0)
_OTHER_HASHES = _seeded(1)
_OPTIMIZED = Variation("python -O", options=("-O",), environment=ORDINARY.environment)
OTHER_PROTOBUF = Variation(
    "protobuf in pure Python",
    environment={**ORDINARY.environment, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
)
DIFFERENT = Variation(
    f"{_OTHER_HASHES.name} and {_OPTIMIZED.name}",
    options=_OPTIMIZED.options,
    environment=_OTHER_HASHES.environment,
    parts=(_OTHER_HASHES, _OPTIMIZED),
)


@cache
def other_pythons() -> tuple[tuple[Variation, ...], tuple[str, ...]]:
    """A variation for each other Python that can run the state machine; and why others can't."""
    usable, skipped = [], []
    for version in OTHER_PYTHONS:
        if version == f"{sys.version_info.major}.{sys.version_info.minor}":
            continue
        reason = "it is not installed"
        for python in _installed(version):
            variation = Variation(f"Python {version}", python, environment=ORDINARY.environment)
            reason = _unusable(variation)
            if not reason:
                usable.append(variation)
                break
        if reason:
            skipped.append(f"Python {version}: {reason}")
    return tuple(usable), tuple(skipped)


def _installed(version: str) -> list[str]:
    """On the PATH, where a shim of pyenv may refuse to run, and below pyenv itself."""
    on_path = shutil.which(f"python{version}")
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    below = sorted(str(each) for each in versions.glob(f"{version}.*/bin/python{version}"))
    return [*([on_path] if on_path else []), *below]


def _unusable(variation: Variation) -> str:
    from jepsen_lite.sim.replicas.pool import environment_of

    command = [variation.python, "-c", "import jepsen_lite.sim.replicas.applied_log"]
    try:
        asked = subprocess.run(
            command,
            env=environment_of(variation),
            capture_output=True,
            text=True,
            check=False,
            timeout=_ASK_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (asked.stderr.strip().splitlines() or ["?"])[-1] if asked.returncode else ""
