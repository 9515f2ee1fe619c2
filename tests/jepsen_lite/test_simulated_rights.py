"""Users in the simulator: what a run does with them, and what its history shows by itself."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_lite.clients.raftkv_client import RaftkvClient, connect
from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.sim import administrator
from jepsen_lite.sim.checks.model_comparison import ModelComparison
from jepsen_lite.sim.coverage.service_marks import RIGHTS
from jepsen_lite.sim.impostor import Impostor
from jepsen_lite.sim.report import describe_failure
from jepsen_lite.sim.run import run
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.sim.swarm import draw_swarm

pytestmark = pytest.mark.usefixtures("quiet_nodes")

SELDOM = {
    "authentication is disabled",
    "a node refuses a client's token",
    "the result of a session is withheld",
    "the result under an idempotency key is withheld",
    "a node that lags finds a right after a read barrier",
}


def test_users_lose_and_get_rights_while_nodes_lag() -> None:
    outcome = run(SCENARIOS["rights"](2))
    assert not outcome.problems, describe_failure(outcome)
    (finding,) = [each for each in outcome.findings if each.checker == "rights"]
    assert finding.statistics["refused"] > 50
    assert finding.statistics["withdrawn"] > 5
    assert {mark.name for mark in RIGHTS} - outcome.marks.keys() <= SELDOM


def test_the_administrator_closes_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    # A client that is collected in a process that still runs warns, at any later moment.
    connected: list[RaftkvClient] = []

    async def recorded(*arguments: Any, **options: Any) -> RaftkvClient:
        connected.append(await connect(*arguments, **options))
        return connected[-1]

    monkeypatch.setattr(administrator, "connect", recorded)
    run(SCENARIOS["rights"](2))
    assert [client._client._closing for client in connected] == [True, True]


@pytest.mark.slow
def test_the_history_alone_shows_what_was_applied_without_a_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the model, and without submissions that no client makes."""

    def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(ModelComparison, "_compare_result", nothing)
    monkeypatch.setattr(ModelComparison, "compare_state", nothing)
    monkeypatch.setattr(Impostor, "begin", nothing)
    with MUTANTS["rights-only-at-the-door"].planted():
        problems = [
            each for seed in range(1, 11) for each in run(SCENARIOS["rights"](seed)).problems
        ]
    assert any("without the right" in each for each in problems)


def test_no_seed_has_users_beside_workloads_that_share_leases_and_names() -> None:
    secured = [plan for seed in range(1, 201) if "rights" in (plan := draw_swarm(seed)).workloads]
    assert 20 <= len(secured) <= 60
    for plan in secured:
        assert not plan.tuning.older_programs
        assert "idempotency" not in plan.workloads
