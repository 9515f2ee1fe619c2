"""Runs all checkers on the directory of a run, also of an old one."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jepsen_lite.checkers import statistics, vacuity
from jepsen_lite.store import RunDirectory
from jepsen_lite.verdicts import Finding, Problem, Validity, unknown
from jepsen_lite.workloads.catalogue import WORKLOADS

# Of the rate that was asked for, while nothing is wrong yet.
OK_SHARE_MIN = 0.1


def judge(directory: RunDirectory) -> list[Finding]:
    """The findings of all checkers; also written to the directory's results."""
    test, history = directory.test(), directory.history()
    findings = [_of_harness(test.get("problems", []), test.get("crash", ""))]
    if test.get("crash") and not history.events:
        findings += map(_not_judged, test["workloads"])
        directory.write_results(findings)
        return findings
    for name in test["workloads"]:
        found = safely(name, lambda name=name: WORKLOADS[name]().check(history))  # type: ignore[misc]
        findings += [replace(each, checker=titled(name, each)) for each in found]
    operations = [each for name in test["workloads"] for each in history.operations(name)]
    findings.append(statistics.check(operations))
    ok_per_s_min = test["options"]["rate"] * OK_SHARE_MIN
    faults, nemeses = directory.faults(), test["nemeses"]
    findings.append(vacuity.check(operations, faults, nemeses, ok_per_s_min))
    findings.append(_of_nemeses(faults, nemeses))
    directory.write_results(findings)
    return findings


def _not_judged(workload: str) -> Finding:
    """Without any operation there is nothing that a checker could have found valid."""
    return unknown(workload, "nothing was judged: no operation was ever invoked")


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
