"""The exit code of `soak`, by those of its runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.commands import soak


@pytest.mark.parametrize(
    ("codes", "code"),
    [((0, 3), 0), ((3, 3), 3), ((), 3), ((0, 1), 1), ((3, 2), 2)],
    ids=["one has proved something", "all vacuous", "none", "an invalid one", "an unknown one"],
)
def test_soak_passes_only_if_a_run_has_proved_something_and_none_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: Iterable[int], code: int
) -> None:
    left = list(codes)
    # There is time for these runs and no more.
    times = iter([0.0, *(1.0 for _ in left), 60.0])

    def ended(command: list[str], **_: Any) -> CompletedProcess[str]:
        return CompletedProcess(command, left.pop(0), "", "")

    monkeypatch.setattr(soak, "time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr(soak, "subprocess", SimpleNamespace(run=ended))
    monkeypatch.setattr(soak, "choose", lambda *_: ["sim"])
    result = CliRunner().invoke(app, ["soak", "--minutes", "1", "--store", str(tmp_path)])
    assert result.exit_code == code, result.output
