"""Several processes give the finding of one, and begin only where they pay."""

from __future__ import annotations

import os
from dataclasses import replace
from random import Random

import pytest

from jepsen_lite.checkers.linearizable import register
from jepsen_lite.checkers.linearizable.benchmark import simulated, with_stale_read
from jepsen_lite.checkers.linearizable.processes import KeyProcesses, free_cores
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity


def test_the_findings_are_those_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register, "SEARCHED_MIN", 0)
    verdicts = set()
    with KeyProcesses(2) as processes:
        for seed in range(12):
            history = simulated(Random(seed), 120, 4, 4, 0.02, values=6)
            for judged in (history, with_stale_read(history)):
                alone = register.check(judged)
                assert register.check(judged, map_keys=processes.map) == alone
                verdicts.add(alone.validity)
        # Illegal keys in the order of the history, not of their ends.
        several = [each for seed in range(3) for each in _illegal(seed)]
        alone = register.check(several)
        assert len(alone.problems) == 3
        assert register.check(several, map_keys=processes.map) == alone
    assert verdicts == {Validity.VALID, Validity.INVALID}


def _illegal(seed: int) -> list[Operation]:
    made = with_stale_read(simulated(Random(seed), 60 * (3 - seed), 1, 3, 0.0))
    keyed = []
    for each in made:
        invocation = replace(each.invocation, key=f"key-{seed}")
        keyed.append(replace(each, invocation=invocation))
    return keyed


def test_a_short_search_and_a_busy_machine_begin_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> list[object]:
        raise AssertionError("the keys are few")

    register.check(simulated(Random(1), 200, 4, 4, 0.0, values=6), map_keys=never)
    monkeypatch.setattr(os, "getloadavg", lambda: (1_000.0, 0.0, 0.0))
    assert free_cores() == 1
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 0.0, 0.0))
    assert free_cores() == len(os.sched_getaffinity(0))
