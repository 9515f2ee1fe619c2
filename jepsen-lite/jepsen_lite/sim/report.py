"""What a run is told in: plain text. Knows outcomes, prints nothing."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

from jepsen_lite.sim.run import Outcome, Plan


def describe_pass(
    seeds: range,
    operations: Counter[str],
    faults: Counter[str],
    simulated_s: float,
    wall_s: float,
) -> str:
    """The last lines of a run in which everything held."""
    return "\n".join(
        [
            f"seeds {seeds.start}..{seeds.stop - 1}: all held",
            f"operations: {_counted(operations)}",
            f"faults that took effect: {_counted(faults)}",
            f"simulated {simulated_s:.0f} s in {wall_s:.1f} s:"
            f" {simulated_s / wall_s:.0f} simulated seconds per second",
        ]
    )


def describe_failure(outcome: Outcome) -> str:
    """What broke, under which faults, and the one command that does it again."""
    plan = outcome.plan
    return "\n".join(
        [
            f"seed {plan.seed} FAILED (commit {commit()})",
            *(f"  {problem}" for problem in outcome.problems[:10]),
            f"with {plan.nodes} nodes, {plan.clients} clients, {plan.seconds:g} s, and these"
            f" {len(plan.schedule)} faults left of it:",
            *(f"  {fault}" for fault in plan.schedule),
            f"replay: python -m jepsen_lite {' '.join(replay_command(plan))}",
        ]
    )


def replay_command(plan: Plan) -> list[str]:
    """What to tell jepsen-lite to do this again."""
    return ["sim", "--seeds", str(plan.seed), "--seconds", f"{plan.seconds:g}", "--log"]


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
