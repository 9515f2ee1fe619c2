"""Ports for servers, while others on this machine choose theirs."""

from __future__ import annotations

import subprocess
import sys

from jepsen_lite import ports

CHOOSE_AND_STAY = """
from jepsen_lite.ports import free_ports
print(*free_ports(20), flush=True)
input()
"""


def test_a_port_of_another_process_is_reserved_until_that_process_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHOOSE_AND_STAY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        chosen = [int(port) for port in other.stdout.readline().split()]
        assert len(set(chosen)) == 20
        assert not any(ports._reserve(port) for port in chosen)
        other.communicate("\n")
    assert all(ports._reserve(port) for port in chosen)


def test_a_port_of_this_process_is_not_chosen_again() -> None:
    assert not any(ports._reserve(port) for port in ports.free_ports(20))
