"""Failed cuts: their recording is kept, and each is described with the command that repeats it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from jepsen_lite.power_cuts.campaign import CutFigures

SHOWN_MAX = 5


def keep_recording(file: Path, store: Path, seed: int) -> Path:
    """RocksDB's threads write in another order each time: only the recording repeats a failure."""
    store.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = store.absolute() / f"power-cuts-{seed}-{stamp}.recording"
    shutil.copyfile(file, kept)
    return kept


def described_failures(
    figures: CutFigures, recording: Path, seed: int, option: str = ""
) -> Iterator[str]:
    """Each of the first failed cuts, with what was wrong after it. `option` was used as well."""
    for cut, problem in figures.problems[:SHOWN_MAX]:
        yield (
            f"seed {seed}, after operation {cut.operations} ({cut.model}): {problem}\n"
            f"  repeat: jepsen-lite power-cuts --recording {recording} --seed {seed}"
            f" --only {cut.operations}:{cut.model} {option}".rstrip()
        )
