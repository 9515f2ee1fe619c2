"""The wheels and sdists of this checkout, built once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Built:
    """A distribution, built from a copy of its folder."""

    wheel: Path
    sdist: Path


def build(folder: Path, target: Path, base: Path) -> Built:
    """The wheel and the sdist that a clean checkout of the folder gives, built in `base`."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if (folder / name).is_file():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, base / name)
    return build_here(base, target)


def build_here(source: Path, target: Path) -> Built:
    """Build the wheel and the sdist of a folder, without a network."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", target],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="session")
def raftkv_built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    base = tmp_path_factory.mktemp("raftkv")
    return build(ROOT, base / "dist", base / "source")


@pytest.fixture(scope="session")
def jepsen_lite_built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    base = tmp_path_factory.mktemp("jepsen-lite")
    return build(ROOT / "jepsen-lite", base / "dist", base / "source")
