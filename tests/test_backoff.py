"""The back-off doubles its delays up to the maximum, with jitter, and restarts after success."""

from __future__ import annotations

from random import Random

import pytest

from raftkv.backoff import Backoff


@pytest.mark.parametrize("jitter", [0.5, 1.0])
def test_backoff_grows_to_its_cap_and_starts_again_after_success(jitter: float) -> None:
    backoff = Backoff(Random(1), 0.05, 1.0, jitter=jitter)
    delays = [backoff.next_s() for _ in range(12)]
    assert 0.05 * (1 - jitter) <= delays[0] <= 0.05
    assert 1.0 * (1 - jitter) <= min(delays[-5:]) <= max(delays[-5:]) <= 1.0
    assert len(set(delays)) == len(delays)
    backoff.reset()
    assert backoff.next_s() <= 0.05


def test_no_delay_is_above_the_maximum_even_if_the_minimum_is() -> None:
    backoff = Backoff(Random(1), 2.0, 1.0, jitter=0.0)
    assert [backoff.next_s(), backoff.next_s()] == [1.0, 1.0]
