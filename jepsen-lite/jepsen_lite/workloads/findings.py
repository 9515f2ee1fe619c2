"""How a workload's own check becomes a finding."""

from __future__ import annotations

from collections.abc import Sequence

from jepsen_lite.verdicts import Finding, Problem, Validity


def finding_of(checker: str, problems: Sequence[str]) -> Finding:
    """Invalid if there are problems."""
    validity = Validity.INVALID if problems else Validity.VALID
    return Finding(checker, validity, tuple(map(Problem, problems)))
