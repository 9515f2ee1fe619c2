"""Statistics of a run: counts, latencies, rates, and the longest gaps without a success."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from jepsen_lite.history import Kind, Operation, began_ns, ended_ns
from jepsen_lite.verdicts import Finding, finding

_QUANTILES = (0.5, 0.95, 0.99, 1.0)
_GAPS_LISTED_MAX = 5


def check(operations: Sequence[Operation]) -> Finding:
    """Always valid: counts by function and kind, latencies in ms, rates per second, gaps in s."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    latencies_ns: defaultdict[str, list[float]] = defaultdict(list)
    ends_ns: list[float] = []
    for each in operations:
        function = each.invocation.function
        counts[function][each.kind.value] += 1
        if each.kind is Kind.OK:
            latencies_ns[function].append(ended_ns(each) - began_ns(each))
            ends_ns.append(ended_ns(each))
    began = min((began_ns(each) for each in operations), default=0)
    statistics: dict[str, Any] = {
        "counts": {function: dict(of_kind) for function, of_kind in sorted(counts.items())},
        "latency_ms": {
            function: _quantiles_ms(values) for function, values in sorted(latencies_ns.items())
        },
        "ok_per_s": rate_per_s(len(ends_ns), max(ends_ns, default=began) - began),
        "longest_gaps_s": _gaps_s([began, *sorted(ends_ns)]),
    }
    return finding("statistics", [], statistics)


def rate_per_s(count: int, duration_ns: float) -> float:
    """Zero where no time has passed."""
    return round(count / duration_ns * 1e9, 3) if duration_ns > 0 else 0.0


def _quantiles_ms(values_ns: Sequence[float]) -> dict[str, float]:
    """Nearest rank: a latency that really occurred."""
    ordered = sorted(values_ns)
    return {
        f"p{quantile * 100:g}": ordered[max(0, _rank(quantile, len(ordered)) - 1)] / 1e6
        for quantile in _QUANTILES
    }


def _rank(quantile: float, count: int) -> int:
    # In whole hundredths: 0.95 * 20 is a little more than 19 as a float.
    return -(-round(quantile * 100) * count // 100)


def _gaps_s(moments_ns: Sequence[float]) -> list[dict[str, float]]:
    """The longest times without a success: from when, and for how long."""
    gaps = [(after - before, before) for before, after in itertools.pairwise(moments_ns)]
    return [
        {"from": before / 1e9, "length": length / 1e9}
        for length, before in sorted(gaps, reverse=True)[:_GAPS_LISTED_MAX]
    ]
