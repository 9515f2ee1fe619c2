"""The outcome of simulated runs as plain text."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jepsen_lite.sim.plan import PLAIN, SWARM
from jepsen_lite.sim.run import Outcome


def describe_pass(
    seeds: range,
    operations: Counter[str],
    faults: Counter[str],
    members_changed: int,
    stood_still: int,
    simulated_s: float,
    wall_s: float,
) -> str:
    """The last lines of a run of some seeds in which everything held."""
    return "\n".join(
        [
            f"seeds {seeds.start}..{seeds.stop - 1}: all held",
            f"operations: {_counted(operations)};"
            f" {operations.total() / simulated_s:.1f} in each simulated second",
            f"faults that took effect: {_counted(faults)}; members changed: {members_changed};"
            f" clusters that lost a majority of their disks, and served nothing: {stood_still}",
            f"simulated {simulated_s:.0f} s in {wall_s:.1f} s:"
            f" {simulated_s / wall_s:.0f} simulated seconds per second",
        ]
    )


def describe_failure(outcome: Outcome) -> str:
    """What broke, under which faults, and the one command that does it again."""
    plan = outcome.plan
    of_scenario = f" of the swarm, from {plan.base}," if plan.base else f" of {plan.scenario}"
    return "\n".join(
        [
            f"seed {plan.seed}{of_scenario} FAILED (commit {commit()})",
            *(f"  {problem}" for problem in outcome.problems[:10]),
            f"with {plan.nodes} nodes, {plan.clients} clients, {plan.seconds:g} s, the workloads"
            f" {', '.join(plan.workloads)}, and these {len(plan.schedule)} faults left of it:",
            *(f"  {fault}" for fault in plan.schedule),
            *(f"  from the first boot on: {fault}" for fault in plan.founding),
            f"replay: {shell_line(replay_command(outcome))}",
        ]
    )


def replay_command(outcome: Outcome) -> list[str]:
    """The arguments of jepsen-lite that repeat this run."""
    plan = outcome.plan
    command = ["sim", "--seeds", str(plan.seed)]
    if plan.scenario != SWARM:
        command += ["--scenario", plan.scenario]
    if plan.scenario in (SWARM, PLAIN):
        command += ["--seconds", f"{plan.seconds:g}"]
    if plan.workloads_asked:
        command += ["--workload", ",".join(plan.workloads)]
    if plan.rate is not None:
        command += ["--rate", f"{plan.rate:g}"]
    if not outcome.reduced:
        command += ["--no-reduce"]
    return [*command, "--log"]


def shell_line(command: Sequence[str]) -> str:
    """What to type for this command of jepsen-lite: it is run by the Python that runs now, which
    may not be on the PATH.
    """
    return shlex.join([sys.executable, "-m", "jepsen_lite", *command])


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


def commit() -> str:
    """Of this checkout."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"
