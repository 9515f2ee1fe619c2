"""The table of promises names tests that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clock_promises.promises import PROMISES, ClockPromise

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("promise", PROMISES, ids=lambda each: each.promise)
def test_each_promise_has_tests_that_exist(promise: ClockPromise) -> None:
    assert promise.tests
    for file, name in promise.tests:
        assert f"def {name}(" in (ROOT / file).read_text(), name
