"""The demonstration of fencing runs to its end, and leaves no process behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo-fencing"


@pytest.mark.slow
def test_the_demo_shows_a_lost_update_and_a_refused_token() -> None:
    done = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-bob was here" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("fencing demo: OK, token "), done.stdout
