"""File descriptors are divided between stores and connections, within the process's limit."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raftkv.errors import ConfigurationError
from raftkv.server import resources
from raftkv.server.resources import LIMIT_MIN, OWN, divide


@pytest.mark.parametrize("limit", [LIMIT_MIN, 220, 256, 1024, 4096, 20_000, 1 << 20])
def test_all_shares_together_are_within_the_limit(limit: int) -> None:
    shares = divide(limit)
    connections = shares.client_connections + shares.peer_connections
    assert OWN + shares.log_tables + 2 * shares.state_tables + connections <= limit
    assert shares.state_tables >= 24
    assert shares.client_connections >= 32
    assert shares.peer_connections >= 16


def test_too_low_a_limit_is_refused_with_the_limit_and_the_fix() -> None:
    with pytest.raises(ConfigurationError) as raised:
        divide(LIMIT_MIN - 1)
    for word in (str(LIMIT_MIN - 1), str(LIMIT_MIN), "ulimit -n", "LimitNOFILE"):
        assert word in raised.value.message


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_limit() -> None:
    program = (
        "import resource\n"
        "from raftkv.server import resources\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))\n"
        "assert resources.raise_soft_limit() == 300\n"
        "assert resources.limit() == 300\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_limit_in_force_is_a_number_that_can_be_divided() -> None:
    assert divide(resources.limit()).client_connections > 0
