from __future__ import annotations

import pytest

from .harness import Driver


@pytest.fixture
def db() -> Driver:
    return Driver()
