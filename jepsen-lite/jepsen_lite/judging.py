"""From what a run left in its directory to what is to be said of it. Runs again on old runs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from jepsen_lite.store import RunDirectory
from jepsen_lite.verdicts import Finding, Problem, Validity
from jepsen_lite.workloads.catalogue import WORKLOADS


def judge(directory: RunDirectory) -> list[Finding]:
    """What every checker says; written to the directory's results as well."""
    test, history = directory.test(), directory.history()
    findings = [_of_harness(test.get("problems", []))]
    for name in test["workloads"]:
        findings += _safely(name, lambda name=name: WORKLOADS[name]().check(history))  # type: ignore[misc]
    directory.write_results(findings)
    return findings


def _of_harness(problems: Sequence[str]) -> Finding:
    """What went wrong beside the history: a node that did not come back, an error of our own."""
    validity = Validity.INVALID if problems else Validity.VALID
    return Finding("recovery", validity, tuple(map(Problem, problems)))


def _safely(checker: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A checker that breaks has proved nothing, and must not hide what the others say."""
    try:
        return check()
    except Exception:  # noqa: BLE001 - a bug in a checker is a verdict of its own
        text = f"the checker itself failed:\n{traceback.format_exc()}"
        return [Finding(checker, Validity.UNKNOWN, (Problem(text),))]
