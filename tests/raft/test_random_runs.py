"""Long random runs with fixed seeds: figure 3 at every step, and liveness once the faults end.

Replay one:  python -m tests.raft.random_run --seed SEED --steps STEPS --voters VOTERS --trace
"""

from __future__ import annotations

import pytest

from tests.raft.liveness import check_liveness
from tests.raft.random_run import RandomRun

STEPS = 8000


@pytest.mark.parametrize("voters", [2, 3, 5])
@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(each, marks=pytest.mark.slow) for each in range(4, 9))]
)
def test_no_run_breaks_an_invariant_and_every_cluster_recovers(seed: int, voters: int) -> None:
    run = RandomRun(seed, voters)
    run.run(STEPS)
    check_liveness(run.cluster)


def test_a_seed_decides_the_whole_run() -> None:
    traces: list[list[str]] = [[], []]
    for trace in traces:
        run = RandomRun(7)
        run.cluster.trace = trace.append
        run.run(1000)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 100


def test_the_random_runs_commit_and_elect() -> None:
    """Runs in which nothing happens prove nothing."""
    runs = [RandomRun(seed) for seed in range(6)]
    for run in runs:
        run.run(STEPS)
    committed = [run.cluster.invariants.committed for run in runs]
    assert sum(map(len, committed)) > 500
    assert sum(len({in_term for _, in_term in entries.values()}) for entries in committed) > 20
    assert sum(run.membership_changes for run in runs) > 5
    assert sum(len(run.cluster.reads) for run in runs) > 100
