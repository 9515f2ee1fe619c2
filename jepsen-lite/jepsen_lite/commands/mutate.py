"""`jepsen-lite mutate`: which small changes of the code would nobody notice?"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from jepsen_lite.commands.past_runs import STORE, StoreOption
from jepsen_lite.commands.sim import COLUMNS, parse_seeds

if TYPE_CHECKING:
    from jepsen_lite.mutation.candidates import Candidate, Target
    from jepsen_lite.mutation.results import MutationResult, ResultsFile

CODE = ("raftkv/raft", "raftkv/kv", "raftkv/node", "raftkv/client")
GENERATED = ("raftkv/client/sync/",)
TEST_FOLDERS = tuple(
    f"tests/{name}" for name in ("raft", "kv", "storage", "peer", "node", "server", "client")
)
CHECKOUT = Path(__file__).resolve().parents[3]
RESULTS = Path("jepsen-lite/mutations.jsonl")


@dataclass(frozen=True, slots=True)
class _Effort:
    """How far to go for each mutation, and in how many processes."""

    seeds: range | None
    tests_s: float
    jobs: int


def mutate(
    sample: Annotated[int, typer.Option(min=1, help="how many mutations to try")] = 150,
    seed: Annotated[int, typer.Option(help="draws the sample")] = 1,
    seeds: Annotated[
        str, typer.Option(help="of the default simulator, for what the tests do not notice")
    ] = "1..100",
    results: Annotated[Path, typer.Option(help="file to which each verdict is added")] = RESULTS,
    jobs: Annotated[int, typer.Option(min=1, help="mutations at once")] = 1,
    list_: Annotated[
        bool, typer.Option("--list", help="show the sample and what is known of it; try nothing")
    ] = False,
    tests_s: Annotated[
        float, typer.Option("--test-seconds", help="seconds of tests at most, per mutation")
    ] = math.inf,
    tests_only: Annotated[bool, typer.Option("--tests-only", help="no simulator")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="try again the survivors that are not explained")
    ] = False,
    explain: Annotated[
        tuple[str, str] | None,
        typer.Option(help="ID and TEXT: note why this survivor changes nothing that is promised"),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="write the survivors there")] = None,
    store: StoreOption = STORE,
) -> None:
    """Change the code in one small place at a time, and see whether the tests that reach the place
    or the default simulator notice. The checkout is not changed.
    """
    # Imported late: `jepsen-lite --help` must not load the whole store.
    from jepsen_lite.mutation import candidates
    from jepsen_lite.mutation.results import ResultsFile, describe_score, survivors_page

    if not (CHECKOUT / "tests").is_dir():
        raise typer.BadParameter("this needs a checkout of raftkv with its tests")
    target = candidates.Target(CHECKOUT, CODE, GENERATED, TEST_FOLDERS)
    known = ResultsFile(results)
    if explain is not None:
        known.explain(*explain)
        return
    every = candidates.enumerate_candidates(target)
    drawn = candidates.sample(every, sample, seed)
    typer.echo(f"{len(drawn)} of {len(every)} mutations, drawn by seed {seed}:")
    for each in drawn:
        typer.echo(f"  {each.id}")
    if not list_:
        chosen = None if tests_only else parse_seeds(seeds)
        due = [each for each in drawn if _is_due(known, each, tests_only=tests_only, again=again)]
        effort = _Effort(chosen, tests_s, jobs)
        for result in _hunted(target, due, effort, store / "mutation-map.json.gz"):
            known.add(result)
            typer.echo(f"{result.verdict:20} {result.id}  {result.by}  ({result.wall_s} s)")
    found = [each for each in (_known(known, candidate) for candidate in drawn) if each]
    for result in found:
        if not result.verdict.killed:
            typer.echo(f"\n{result.verdict}: {result.id}\n{result.diff}")
            if result.id in known.notes:
                typer.echo(f"explained: {known.notes[result.id]}")
    typer.echo(f"\n{describe_score(found, known.notes)}")
    if report is not None:
        report.write_text(survivors_page(found, known.notes))


def _known(known: ResultsFile, candidate: Candidate) -> MutationResult | None:
    return known.of(candidate.id, candidate.diff((CHECKOUT / candidate.path).read_bytes()))


def _is_due(known: ResultsFile, candidate: Candidate, *, tests_only: bool, again: bool) -> bool:
    from jepsen_lite.mutation.results import MutationVerdict

    result = _known(known, candidate)
    if result is None:
        return True
    if again and not result.verdict.killed and candidate.id not in known.notes:
        return True
    return result.verdict is MutationVerdict.SURVIVED_TESTS and not tests_only


def _hunted(
    target: Target, due: list[Candidate], effort: _Effort, map_file: Path
) -> Iterator[MutationResult]:
    """The results, as they come."""
    from jepsen_lite.mutation.hunter import MutationHunter
    from jepsen_lite.mutation.reach_map import ReachMap
    from jepsen_lite.mutation.server_process import copied

    if not due:
        return
    # A line that goes to a file must not be taken to the terminal where the bar is.
    with (
        _ended_by_sigterm(),
        copied(target) as tree,
        Progress(
            *COLUMNS,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        ) as progress,
    ):
        reach = ReachMap(tree, map_file)
        mapped = progress.add_task("steps without a mutation", total=None)
        reach.map_tests(lambda _: progress.advance(mapped))
        if effort.seeds is not None:
            reach.map_seeds(effort.seeds, lambda _: progress.advance(mapped))
        progress.remove_task(mapped)
        bar = progress.add_task("mutations", total=len(due))
        commit = _commit(target.root)
        hunters = [
            MutationHunter(tree, reach, effort.seeds, commit, effort.tests_s)
            for _ in range(effort.jobs)
        ]
        idle: SimpleQueue[MutationHunter] = SimpleQueue()
        for hunter in hunters:
            idle.put(hunter)

        def hunt(candidate: Candidate) -> MutationResult:
            hunter = idle.get()
            try:
                return hunter.hunt(candidate)
            finally:
                idle.put(hunter)

        pool = ThreadPoolExecutor(effort.jobs)
        try:
            for ended in as_completed([pool.submit(hunt, each) for each in due]):
                yield ended.result()
                progress.advance(bar)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for hunter in hunters:
                hunter.close()
            pool.shutdown()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: servers end, and the copied tree is removed."""

    def end(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _commit(root: Path) -> str:
    described = ("git", "describe", "--always", "--dirty", "--exclude=*")
    return subprocess.run(described, cwd=root, capture_output=True, text=True).stdout.strip()
