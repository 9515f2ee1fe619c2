"""Long random runs with fixed seeds: figure 3 at every step, and liveness once the faults end.

Replay one:  python -m tests.raft.random_run --seed SEED --steps STEPS --voters VOTERS --trace
"""

from __future__ import annotations

import pytest

from tests.raft.liveness import check_liveness
from tests.raft.random_run import RandomRun

STEPS = 6000


@pytest.mark.parametrize("voters", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
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


def test_the_runs_get_somewhere() -> None:
    """A run in which nothing happens proves nothing."""
    run = RandomRun(1)
    run.run(STEPS)
    terms = {in_term for _, in_term in run.cluster.invariants.committed.values()}
    assert len(run.cluster.invariants.committed) > 100
    assert len(terms) > 5
    assert run.membership_changes > 3
    assert len(run.cluster.reads) > 20
