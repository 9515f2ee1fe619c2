"""The deadlines of requests."""

from __future__ import annotations

import pytest

from raftkv.server.calls import Deadlines

DEADLINES = Deadlines(default_s=5.0, max_s=60.0, answer_early_s=0.1)


def test_a_call_without_a_timeout_gets_the_default() -> None:
    assert DEADLINES.of_pipeline(100.0, 0) == 105.0
    assert DEADLINES.of_call(100.0, None) == 105.0


def test_no_call_gets_more_than_the_maximum() -> None:
    assert DEADLINES.of_pipeline(100.0, 3_600_000) == 160.0
    assert DEADLINES.of_call(100.0, 3600.0) == 160.0


def test_a_unary_call_is_answered_before_its_caller_gives_up() -> None:
    assert DEADLINES.of_call(100.0, 2.0) == pytest.approx(101.9)


def test_a_very_short_call_keeps_half_of_its_time() -> None:
    assert DEADLINES.of_call(100.0, 0.1) == pytest.approx(100.05)
