"""Results as one picture: throughput, latency, failover and growth side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from bench_lib.load import new_histogram
from bench_lib.results import Measurement, Results
from bench_lib.summary import OURS, THEIRS, Cell, cells, workload_name

COLOURS = {OURS: "#2563eb", THEIRS: "#d97706"}
INK, FAINT = "#1f2937", "#9ca3af"
WIDTH = 0.36
STYLE: Any = {
    "font.size": 10.5,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e5e7eb",
    "axes.axisbelow": True,
    "legend.frameon": False,
}

Panel = Callable[[Any], None]


def draw(results: Results, path: Path) -> None:
    """Write the picture; draws only what was measured."""
    panels = _panels(results)
    if not panels:
        return
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            rows, columns, figsize=(7.2 * columns, 4.4 * rows + 0.9), squeeze=False
        )
        for axes, panel in zip(grid.flat, panels, strict=False):
            panel(axes)
        for axes in list(grid.flat)[len(panels) :]:
            axes.axis("off")
        figure.suptitle(
            "raftkv and etcd: 3 nodes each, one machine, every write synced",
            x=0.02,
            ha="left",
            fontsize=15,
            fontweight="bold",
        )
        figure.text(0.02, 0.012, _machine(results), fontsize=9, color="#6b7280")
        figure.tight_layout(rect=(0.01, 0.03, 0.99, 0.97), h_pad=2.6, w_pad=3.0)
        figure.savefig(path, dpi=150, facecolor="white")
        plt.close(figure)


def _shared(measurements: Sequence[Measurement]) -> Sequence[Measurement]:
    """Without the lone caller, whose cost per operation would dwarf all others."""
    return [each for each in measurements if each.tasks > 1] or measurements


def _panels(results: Results) -> list[Panel]:
    panels: list[Panel] = []
    if results.throughput:
        panels += [
            lambda axes: _bars(
                axes,
                results.throughput,
                "Operations per second",
                lambda cell: cell.per_second,
                "{:,.0f}",
            ),
            lambda axes: _bars(
                axes,
                _shared(results.throughput),
                "Nodes' CPU seconds per 1,000 ops",
                lambda cell: cell.server_cpu_s_per_1000,
                "{:.3f}",
            ),
            lambda axes: _latencies(axes, results.throughput),
        ]
    if results.failover:
        panels.append(lambda axes: _failovers(axes, results))
    if results.growth:
        panels.append(
            lambda axes: _bars(
                axes,
                results.growth,
                "Puts per second as the store grows",
                lambda cell: cell.per_second,
                "{:,.0f}",
            )
        )
    if results.restart:
        panels.append(lambda axes: _restarts(axes, results))
    return panels


def _systems(names: Sequence[str]) -> list[str]:
    return [system for system in (OURS, THEIRS) if system in names]


def _bars(
    axes: Any,
    measurements: Sequence[Measurement],
    title: str,
    figure: Callable[[Cell], float],
    label: str,
) -> None:
    measured = cells(measurements)
    systems = _systems([cell.first.system for cell in measured])
    names = list(dict.fromkeys(workload_name(cell.first) for cell in measured))
    for position, system in enumerate(systems):
        offset = (position - (len(systems) - 1) / 2) * (WIDTH + 0.03)
        own = {workload_name(c.first): figure(c) for c in measured if c.first.system == system}
        heights = [own.get(name, 0.0) for name in names]
        bars = axes.bar(
            [at + offset for at in range(len(names))],
            heights,
            WIDTH,
            label=system,
            color=COLOURS[system],
        )
        axes.bar_label(bars, [label.format(each) for each in heights], padding=3, fontsize=9)
    axes.set_xticks(
        range(len(names)),
        [name.replace(" at ", "\n").replace(" into ", " into\n") for name in names],
    )
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda y, _: f"{y:,g}"))
    axes.margins(y=0.14)
    axes.set_title(title)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=2)


def _latencies(axes: Any, measurements: Sequence[Measurement]) -> None:
    """p50 as a dot, a line from p1 to p99: all rounds together, time on a logarithmic axis."""
    measured = cells(measurements)
    systems = _systems([cell.first.system for cell in measured])
    names = list(dict.fromkeys(workload_name(cell.first) for cell in measured))
    for cell in measured:
        position = systems.index(cell.first.system)
        row = names.index(workload_name(cell.first)) + (position - (len(systems) - 1) / 2) * 0.3
        histogram = new_histogram()
        for each in cell.rounds:
            histogram.add(HdrHistogram.decode(each.histogram))
        low, mid, high = (histogram.get_value_at_percentile(p) / 1000 for p in (1, 50, 99))
        colour = COLOURS[cell.first.system]
        axes.plot([low, high], [row, row], color=colour, lw=5, alpha=0.35, solid_capstyle="round")
        axes.plot([mid], [row], "o", color=colour, ms=8)
        axes.annotate(
            _short(mid),
            (mid, row),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
        axes.annotate(
            _short(high),
            (high, row),
            xytext=(7, -3),
            textcoords="offset points",
            fontsize=8.5,
            color="#6b7280",
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.grid(axis="x", color="#e5e7eb")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.1)
    axes.set_xlabel("milliseconds; dot: p50, line: p1 to p99")
    axes.set_title("Latency at the caller")


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def _failovers(axes: Any, results: Results) -> None:
    systems = _systems([each.system for each in results.failover])
    for system in systems:
        times = sorted(each.write_s for each in results.failover if each.system == system)
        shares = [(number + 1) / len(times) * 100 for number in range(len(times))]
        axes.step(
            [0.0, *times],
            [0.0, *shares],
            where="post",
            lw=2.5,
            color=COLOURS[system],
            label=f"{system}: worst {times[-1]:.2f} s",
        )
    axes.set_xlim(left=0)
    axes.set_ylim(0, 103)
    axes.set_xlabel("seconds from SIGKILL of the leader to the next acknowledged write")
    axes.set_ylabel("% of kills")
    axes.set_title("Failover")
    axes.legend(loc="lower right")


def _restarts(axes: Any, results: Results) -> None:
    systems = _systems([each.system for each in results.restart])
    for at, system in enumerate(systems):
        own = [each for each in results.restart if each.system == system]
        rss_mb = max(each.rss_bytes_settled for each in own) / 1e6
        times = [each.ready_s for each in own]
        bar = axes.barh(at, sorted(times)[len(times) // 2], 0.5, color=COLOURS[system])
        axes.bar_label(bar, [f"{sorted(times)[len(times) // 2]:.1f} s, {rss_mb:.0f} MB"], padding=6)
    axes.set_yticks(range(len(systems)), systems)
    axes.invert_yaxis()
    axes.set_ylim(len(systems) - 0.4, -0.6)
    axes.grid(axis="x", color="#e5e7eb")
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.35)
    axes.set_xlabel("seconds until it serves a linearizable read; resident memory then")
    axes.set_title(f"Restart of a killed node, {results.restart[0].keys:,} keys")


def _machine(results: Results) -> str:
    return "   ·   ".join(f"{name} {value}" for name, value in results.machine.items())
