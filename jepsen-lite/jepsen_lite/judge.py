"""Runs all checkers on the directory of a run, also of an old one."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jepsen_lite.checkers import statistics, vacuity
from jepsen_lite.checkers.linearizable.processes import MapKeys
from jepsen_lite.history import History
from jepsen_lite.store import RunDirectory
from jepsen_lite.verdicts import Finding, Problem, Validity, at, listed, unknown
from jepsen_lite.workloads.base import JudgedByKey
from jepsen_lite.workloads.catalogue import WORKLOADS

# Of the rate that was asked for, while nothing is wrong yet.
OK_SHARE_MIN = 0.1
FAULTS_LISTED_MAX = 4


def _unwatched(checker: str, done: int, total: int) -> None:
    """Nobody watches the progress."""


def judge(
    directory: RunDirectory,
    on_step: Callable[[str, int, int], None] = _unwatched,
    map_keys: MapKeys = map,
) -> list[Finding]:
    """The findings of all checkers; also written to the directory's results.

    `on_step` is called before each step with its name, the steps done, and how many there are.
    Keys are judged by `map_keys` where a workload allows it.
    """
    test = directory.test()
    steps = ["the history", *test["workloads"], "the faults"]
    on_step(steps[0], 0, len(steps))
    history = directory.history()
    findings = [_of_harness(test.get("problems", []), test.get("crash", ""))]
    if test.get("crash") and not history.events:
        findings += map(_not_judged, test["workloads"])
        directory.write_results(findings)
        return findings
    for done, name in enumerate(test["workloads"], 1):
        on_step(name, done, len(steps))
        found = safely(name, lambda name=name: _checked(name, history, map_keys))  # type: ignore[misc]
        findings += [replace(each, checker=titled(name, each)) for each in found]
    faults, nemeses = directory.faults(), test["nemeses"]
    findings = [_with_faults(each, history, faults) for each in findings]
    on_step(steps[-1], len(steps) - 1, len(steps))
    operations = [each for name in test["workloads"] for each in history.operations(name)]
    findings.append(statistics.check(operations))
    ok_per_s_min = test["options"]["rate"] * OK_SHARE_MIN
    findings.append(vacuity.check(operations, faults, nemeses, ok_per_s_min))
    findings.append(_of_nemeses(faults, nemeses))
    directory.write_results(findings)
    return findings


def _checked(name: str, history: History, map_keys: MapKeys) -> list[Finding]:
    workload = WORKLOADS[name]()
    if isinstance(workload, JudgedByKey):
        return workload.check_keys(history, map_keys)
    return workload.check(history)


def _not_judged(workload: str) -> Finding:
    """Without any operation there is nothing that a checker could have found valid."""
    return unknown(workload, "nothing was judged: no operation was ever invoked")


def _with_faults(
    finding: Finding, history: History, faults: Sequence[Mapping[str, Any]]
) -> Finding:
    """Each problem with the faults that took effect between its first and its last event."""
    if finding.validity is not Validity.INVALID:
        return finding
    problems = []
    for each in finding.problems:
        times = [history.events[position].time_ns for position in each.events]
        meanwhile = [
            _fault_in_words(fault)
            for fault in faults
            if times
            and fault["took_effect"]
            and fault["began_ns"] <= max(times)
            and (fault["ended_ns"] is None or fault["ended_ns"] >= min(times))
        ]
        text = each.text
        if meanwhile:
            text = f"{text.rstrip('.')}. Meanwhile: {listed(meanwhile, FAULTS_LISTED_MAX)}."
        problems.append(replace(each, text=text))
    return replace(finding, problems=tuple(problems))


def _fault_in_words(fault: Mapping[str, Any]) -> str:
    """`failover of node-2 at 5.123456 s (node-2 replaced node-1)`."""
    began_ns, ended_ns = fault["began_ns"], fault["ended_ns"]
    if ended_ns is None:
        when = f"from {began_ns / 1e9:.6f} s on"
    elif ended_ns == began_ns:
        when = at(began_ns)
    else:
        when = f"from {began_ns / 1e9:.6f} s to {ended_ns / 1e9:.6f} s"
    target = f" of {fault['target']}" if fault["target"] else ""
    return f"{fault['name']}{target} {when} ({fault['detail']})"


def titled(workload: str, finding: Finding) -> str:
    """The title of a finding among those of other workloads."""
    return workload if finding.checker == workload else f"{workload}: {finding.checker}"


def _of_nemeses(faults: Sequence[Mapping[str, Any]], asked: Sequence[str]) -> Finding:
    """A requested kind of fault that never took effect makes the run vacuous."""
    tried = Counter(fault["name"] for fault in faults)
    effective = Counter(fault["name"] for fault in faults if fault["took_effect"])
    problems = tuple(
        Problem(
            f"none of {tried[name]} faults {name} took effect"
            if tried[name]
            else f"no fault {name} was begun"
        )
        for name in asked
        if not effective[name]
    )
    validity = Validity.VACUOUS if problems else Validity.VALID
    return Finding("nemeses", validity, problems, dict(effective))


def _of_harness(problems: Sequence[str], crash: str) -> Finding:
    """Problems outside the history: a node that did not recover, an error of the harness."""
    texts = [*problems, crash] if crash else problems
    without = Validity.UNKNOWN if crash else Validity.VALID
    validity = Validity.INVALID if problems else without
    return Finding("recovery", validity, tuple(map(Problem, texts)))


def safely(checker: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A checker that raises has proved nothing, and must not hide the other findings."""
    try:
        return check()
    except Exception:  # noqa: BLE001 - a bug in a checker is a verdict of its own
        text = f"the checker itself failed:\n{traceback.format_exc()}"
        return [Finding(checker, Validity.UNKNOWN, (Problem(text),))]
