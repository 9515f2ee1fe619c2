"""Plots of latency and rate over the whole run, with the faults as bands.

A hundred thousand operations become at most one mark for each distinguishable place,
so the size of a picture depends on its area and not on the run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.history import Kind, Operation
from jepsen_lite.report.format import count, duration
from jepsen_lite.report.record import NS_PER_S, RunRecord
from jepsen_lite.report.svg import Drawing, Scale, decades, round_ticks

WIDTH = 1100
LEFT = 96
RIGHT = 1044
PANEL_HEIGHT = 132
FAULT_ROW_HEIGHT = 16
CELL_PX = 3
FUNCTIONS_MAX = 8
QUANTILES_FROM = 400  # operations; below that the dots show the distribution
BUCKETS = 90
_OUTCOMES = (Kind.OK, Kind.INFO, Kind.FAIL)
# A dot, a triangle, a cross: distinguishable without colour.
_MARKS = {
    Kind.OK: "M{x} {y}h0",
    Kind.INFO: "M{x} {y}m0-3.4l3.2 5.8h-6.4z",
    Kind.FAIL: "M{x} {y}m-2.6-2.6l5.2 5.2m0-5.2l-5.2 5.2",
}


def _time_scale(record: RunRecord) -> Scale:
    began_s, ended_s = record.seconds(record.began_ns), record.seconds(record.ended_ns)
    return Scale(began_s, max(ended_s, began_s + 1e-6), LEFT, RIGHT)


def fault_strip(record: RunRecord) -> Markup | None:
    """One row for each kind of fault, over the whole run."""
    if not record.faults:
        return None
    names = list(dict.fromkeys(fault.name for fault in record.faults))
    height = len(names) * FAULT_ROW_HEIGHT + 6
    drawing = Drawing(WIDTH, height, "plot", f"When the faults were: {', '.join(names)}")
    scale = _time_scale(record)
    for row, name in enumerate(names):
        top = 3 + row * FAULT_ROW_HEIGHT
        drawing.add("text", name, x=LEFT - 8, y=top + 11, class_="axis end")
        drawing.add("path", d=f"M{LEFT} {top + 14.5}H{RIGHT}", class_="grid")
        for fault in (each for each in record.faults if each.name == name):
            began, ended = _ends(fault, record, scale)
            drawing.add(
                "rect",
                tooltip=f"{name} {fault.target} {fault.detail}".strip()
                + ("" if fault.took_effect else " (took no effect)"),
                x=began,
                y=top + 2,
                width=max(ended - began, 2.5),
                height=FAULT_ROW_HEIGHT - 5,
                class_="fault" if fault.took_effect else "fault idle",
            )
    return drawing.markup()


def _ends(fault: FaultRecord, record: RunRecord, scale: Scale) -> tuple[float, float]:
    ended_ns = fault.ended_ns if fault.ended_ns is not None else record.ended_ns
    return scale.at(record.seconds(fault.began_ns)), scale.at(record.seconds(ended_ns))


def _bands(drawing: Drawing, record: RunRecord, scale: Scale, top: float, bottom: float) -> None:
    """The time under any fault; bands that touch are one, or a hundred would be a black page."""
    spans = sorted(_ends(fault, record, scale) for fault in record.faults if fault.took_effect)
    merged: list[tuple[float, float]] = []
    for began, ended in spans:
        if merged and began <= merged[-1][1] + 0.5:
            merged[-1] = (merged[-1][0], max(ended, merged[-1][1]))
        else:
            merged.append((began, ended))
    for began, ended in merged:
        drawing.add(
            "rect",
            x=began,
            y=top,
            width=max(ended - began, 1.0),
            height=bottom - top,
            class_="band",
        )


def _time_axis(drawing: Drawing, scale: Scale, top: float, bottom: float) -> None:
    for second in round_ticks(scale.low, scale.high, 10):
        x = scale.at(second)
        drawing.add("path", d=f"M{x:.1f} {top}V{bottom}", class_="grid")
        drawing.add("text", f"{second:g} s", x=x, y=bottom + 15, class_="axis middle")


def latency_plots(record: RunRecord) -> list[tuple[str, Markup]]:
    """(caption, picture) for each function, all with the same axes."""
    by_function: dict[str, list[Operation]] = defaultdict(list)
    for operation in record.operations:
        if operation.completion is not None:
            by_function[operation.invocation.function].append(operation)
    names = sorted(by_function, key=lambda name: -len(by_function[name]))[:FUNCTIONS_MAX]
    latencies = [_latency_ns(each) for name in names for each in by_function[name]]
    if not latencies:
        return []
    low = 10.0 ** math.floor(math.log10(min(latencies)))
    high = 10.0 ** math.ceil(math.log10(max(latencies) * 1.01))
    up = Scale(low, high, PANEL_HEIGHT - 24.0, 6.0, logarithmic=True)
    return [(name, _latency_panel(record, name, by_function[name], up)) for name in names]


def _latency_ns(operation: Operation) -> int:
    """At least 1 µs: nothing is distinguishable below, and a logarithm needs more than 0."""
    assert operation.completion is not None
    return max(operation.completion.time_ns - operation.invocation.time_ns, 1_000)


def _latency_panel(
    record: RunRecord, name: str, operations: Sequence[Operation], up: Scale
) -> Markup:
    drawing = Drawing(WIDTH, PANEL_HEIGHT, "plot", _latency_summary(name, operations))
    across = _time_scale(record)
    top, bottom = up.high_px, up.low_px
    _bands(drawing, record, across, top, bottom)
    _time_axis(drawing, across, top, bottom)
    for tick in decades(up.low, up.high):
        y = up.at(tick)
        drawing.add("path", d=f"M{LEFT} {y:.1f}H{RIGHT}", class_="grid")
        if y > top + 4 or tick == up.high:
            drawing.add("text", duration(tick), x=LEFT - 8, y=y + 4, class_="axis end")
    for kind in _OUTCOMES:
        cells = {
            (
                round(across.at(record.seconds(each.invocation.time_ns)) / CELL_PX),
                round(up.at(_latency_ns(each)) / CELL_PX),
            )
            for each in operations
            if each.kind is kind
        }
        marks = "".join(_MARKS[kind].format(x=x * CELL_PX, y=y * CELL_PX) for x, y in sorted(cells))
        if marks:
            drawing.add("path", d=marks, class_=f"marks {kind}")
    ok = [each for each in operations if each.kind is Kind.OK]
    if len(ok) >= QUANTILES_FROM:
        _quantile_lines(drawing, ok, across, up)
    return drawing.markup()


def _quantile_lines(drawing: Drawing, ok: Iterable[Operation], across: Scale, up: Scale) -> None:
    buckets: dict[int, list[int]] = defaultdict(list)
    for each in ok:
        buckets[_bucket(each.invocation.time_ns, across)].append(_latency_ns(each))
    labels: list[float] = []
    for percent in (50, 99):
        points = [
            (_middle_px(bucket), up.at(quantile(found, percent)))
            for bucket, found in sorted(buckets.items())
        ]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        drawing.add("path", d=path, class_="quantile under")
        drawing.add("path", d=path, class_=f"quantile p{percent}")
        y = points[-1][1]
        y = min([y, *(other - 13 for other in labels)])  # the 99th is never below the median
        drawing.add("text", f"p{percent}", x=RIGHT + 6, y=y + 4, class_="axis strong")
        labels.append(y)


def quantile(latencies_ns: Sequence[int], percent: int) -> int:
    """The smallest that at least `percent` of them do not exceed."""
    ordered = sorted(latencies_ns)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def _latency_summary(name: str, operations: Sequence[Operation]) -> str:
    ok = [_latency_ns(each) for each in operations if each.kind is Kind.OK]
    title = f"Latency of {name}, {count(len(operations), 'operation')}"
    if not ok:
        return f"{title}, none succeeded"
    return (
        f"{title}: median {duration(quantile(ok, 50))}, 99th percentile"
        f" {duration(quantile(ok, 99))}, longest {duration(max(ok))}"
    )


def rate_plot(record: RunRecord) -> Markup | None:
    """Answers per second by outcome."""
    completions = [each for each in record.operations if each.completion is not None]
    if not completions:
        return None
    across = _time_scale(record)
    rates = {kind: list(_rates(completions, kind, across)) for kind in _OUTCOMES}
    peak = max(max(each) for each in rates.values())
    up = Scale(0.0, peak * 1.05, PANEL_HEIGHT - 24.0, 6.0)
    drawing = Drawing(
        WIDTH, PANEL_HEIGHT, "plot", f"Answers per second by outcome, at most {peak:,.0f}"
    )
    _bands(drawing, record, across, up.high_px, up.low_px)
    _time_axis(drawing, across, up.high_px, up.low_px)
    for tick in round_ticks(up.low, up.high, 4):
        y = up.at(tick)
        drawing.add("path", d=f"M{LEFT} {y:.1f}H{RIGHT}", class_="grid")
        drawing.add("text", f"{tick:,g}/s", x=LEFT - 8, y=y + 4, class_="axis end")
    for kind in _OUTCOMES:
        if any(rates[kind]):
            points = (
                f"{_middle_px(bucket):.1f} {up.at(rate):.1f}"
                for bucket, rate in enumerate(rates[kind])
            )
            drawing.add("path", d="M" + "L".join(points), class_=f"rate {kind}")
    return drawing.markup()


def _rates(completions: Iterable[Operation], kind: Kind, across: Scale) -> Iterator[float]:
    counts = [0] * BUCKETS
    for each in completions:
        if each.kind is kind and each.completion is not None:
            counts[_bucket(each.completion.time_ns, across)] += 1
    bucket_s = (across.high - across.low) / BUCKETS
    return (found / bucket_s for found in counts)


def _bucket(time_ns: int, across: Scale) -> int:
    """Which of BUCKETS equal parts of the run."""
    share = (time_ns / NS_PER_S - across.low) / (across.high - across.low)
    return min(max(int(share * BUCKETS), 0), BUCKETS - 1)


def _middle_px(bucket: int) -> float:
    return LEFT + (bucket + 0.5) / BUCKETS * (RIGHT - LEFT)
