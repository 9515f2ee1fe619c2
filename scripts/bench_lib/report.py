"""Results for people: tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench_lib.results import Measurement, Results
from bench_lib.summary import Cell, cells, final_lines, workload_name

# Kernel threads that serve the measured systems are among the others: some are always busy.
OTHER_CORES_MAX = 0.4


def show(results: Results, console: Console) -> None:
    """Everything that was found; the last lines are the figures that count."""
    if results.throughput:
        console.print(_measurements("Throughput", results.throughput))
    if results.growth:
        console.print(
            _measurements("Growth: puts beside and over the keys of a store", results.growth)
        )
    if results.security:
        console.print(_measurements("Security: what protects the cluster", results.security))
    for line in results.etcdctl_check_perf:
        console.print(f"[dim]{line}[/dim]", highlight=False)
    _say_errors(results, console)
    _say_noise(results, console)
    for line in final_lines(results):
        console.print(line, highlight=False, soft_wrap=True)


def progress_line(measurement: Measurement) -> str:
    return (
        f"{measurement.system:>6}  {workload_name(measurement)}: {measurement.per_second:,.0f}/s,"
        f" p50 {measurement.p50_ms:.2f} ms, p99 {measurement.p99_ms:.2f} ms"
        f"  ({measurement.client})"
    )


def _measurements(title: str, measurements: Sequence[Measurement]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = (
        "Medians over rounds; ± is half the distance between the best and the worst round. CPU"
        " is seconds per 1,000 operations: of all three nodes, and of the load generator. RSS is"
        " the largest node's. Others: cores that the rest of the machine kept busy,"
        " a measure of the noise."
    )
    table.add_column("workload", no_wrap=True)
    table.add_column("system", no_wrap=True)
    for heading in (
        "ops/s",
        "±",
        "p50 ms",
        "p99 ms",
        "nodes CPU",
        "client CPU",
        "RSS MB",
        "others",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    previous = ""
    ordered = sorted(
        cells(measurements),
        key=lambda cell: (cell.first.operation != "put", cell.first.tasks, cell.first.keys),
    )
    for cell in ordered:
        name = workload_name(cell.first)
        if previous and name != previous:
            table.add_section()
        table.add_row(name if name != previous else "", *_figures(cell))
        previous = name
    return table


def _figures(cell: Cell) -> list[str]:
    return [
        cell.first.system,
        f"{cell.per_second:,.0f}",
        f"{cell.spread:.0%}",
        f"{cell.p50_ms:.2f}",
        f"{cell.p99_ms:.2f}",
        f"{cell.server_cpu_s_per_1000:.3f}",
        f"{cell.client_cpu_s_per_1000:.3f}",
        f"{cell.server_rss_bytes / 1e6:.0f}",
        f"{cell.other_cores:.2f}",
    ]


def _say_noise(results: Results, console: Console) -> None:
    measured = [*results.throughput, *results.growth, *results.security]
    noisy = [each for each in measured if each.other_cores > OTHER_CORES_MAX]
    if noisy:
        console.print(
            f"[bold red]Don't quote these figures:[/bold red] in {len(noisy)} of {len(measured)}"
            f" measurements other programs kept up to {max(e.other_cores for e in noisy):.1f}"
            " cores busy, and hardly as many for each system. Run it on a quiet machine.",
            highlight=False,
        )


def _say_errors(results: Results, console: Console) -> None:
    for cell in cells([*results.throughput, *results.growth, *results.security]):
        if cell.errors:
            kinds = {kind: n for each in cell.rounds for kind, n in each.errors.items()}
            console.print(
                f"[bold red]{cell.first.system}, {workload_name(cell.first)}:"
                f" {cell.errors} operations failed[/bold red] ({', '.join(kinds)})"
            )
