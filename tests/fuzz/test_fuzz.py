"""A minute of the fuzzer against real nodes; `scripts/soak fuzz` goes on for longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz.campaign import Campaign

SECONDS = 60
SEED = int(os.environ.get("RAFTKV_FUZZ_SEED", "1"))


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
async def test_after_noise_of_any_kind_all_nodes_are_alive_small_and_serving(
    tmp_path: Path,
) -> None:
    outcome = await Campaign(tmp_path, SEED, SECONDS).run()
    print(outcome)
    assert outcome.clean, str(outcome)
    assert outcome.account.done > SECONDS, str(outcome)
