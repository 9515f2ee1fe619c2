"""The vector clocks of real nodes, end to end: messages over real connections have one order."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from raftkv.clocks import VectorTime

pytestmark = pytest.mark.cluster


@pytest.mark.slow
def test_the_messages_of_a_real_run_have_vector_clocks_that_include_their_past(
    tmp_path: Path,
) -> None:
    command = ["run", "--workload", "register", "--nemesis", "none", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "jepsen_lite", *command, "--seed", "3", "--store", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    latest = tmp_path / "latest"
    assert (latest / "messages.jsonl").exists(), done.stdout + done.stderr
    messages = [json.loads(line) for line in (latest / "messages.jsonl").read_text().splitlines()]

    assert {each["from"] for each in messages} == {"node-1", "node-2", "node-3"}
    arrived = [each for each in messages if each["received_ns"] is not None]
    assert len(arrived) > len(messages) * 0.8
    for node, of_node in _by_moment(messages).items():
        known = VectorTime()
        for message in of_node:
            clock = VectorTime(message["clock"])
            if message["from"] == node:
                assert known.happened_before(clock)
            known = known.merge(clock)
    assert 'class="space-time"' in (latest / "report.html").read_text()


def _by_moment(messages: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What each node sent and received, in its order."""
    events: dict[str, list[tuple[int, int, dict[str, Any]]]] = defaultdict(list)
    for number, message in enumerate(messages):
        events[message["from"]].append((message["time_ns"], number, message))
        if message["received_ns"] is not None:
            events[message["to"]].append((message["received_ns"], number, message))
    return {node: [each[2] for each in sorted(found)] for node, found in events.items()}
