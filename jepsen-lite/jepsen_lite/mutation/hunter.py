"""Tries mutations: first by the tests that reach them, then by the default simulator."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import replace

from jepsen_lite.mutation.candidates import Candidate, Target
from jepsen_lite.mutation.reach_map import MappedStep, ReachMap
from jepsen_lite.mutation.results import MutationResult, MutationVerdict
from jepsen_lite.mutation.server_process import SIMULATOR, TESTS, ServerDied, ServerProcess
from jepsen_lite.mutation.trial import KILLED, SURVIVED, TIMEOUT, UNPLANTABLE, TrialEnd
from jepsen_lite.mutation.trial_server import MutatedModule, ServerOrder, Step, TrialRequest

LIMIT_S, LIMIT_TIMES = 20.0, 10.0
"""A step may take so long, and so many times as long as without the mutation."""


class MutationHunter:
    """Tries one mutation after another, with servers of its own."""

    def __init__(
        self,
        target: Target,
        reach: ReachMap,
        seeds: range | None,
        commit: str,
        tests_s: float = math.inf,
    ) -> None:
        self._target, self._reach, self._seeds, self._commit = target, reach, seeds, commit
        self._tests_s = tests_s
        self._stack = ExitStack()
        self._servers: dict[str, ServerProcess] = {}

    def close(self) -> None:
        """End the servers."""
        self._stack.close()
        self._servers.clear()

    def hunt(self, candidate: Candidate) -> MutationResult:
        """Find what notices the mutation, if anything does."""
        began_s = time.perf_counter()
        source = (self._target.root / candidate.path).read_bytes()
        mutation = MutatedModule(candidate.path, candidate.mutated(source).decode())
        tests = self._reach.tests_of(candidate, self._tests_s)
        seeds: list[MappedStep] = []
        by_test = self._tried(TESTS, candidate, mutation, tests)
        by_seed = TrialEnd(SURVIVED, "", "", 0)
        if by_test.verdict == SURVIVED and self._seeds is not None:
            seeds = self._reach.seeds_of(candidate, self._seeds)
            by_seed = self._tried(SIMULATOR, candidate, mutation, seeds)
        end = by_test if by_test.verdict != SURVIVED else by_seed
        return MutationResult(
            candidate.id,
            candidate.diff(source),
            self._verdict(by_test, by_seed, reached=bool(tests or seeds)),
            end.step if end is by_test or not end.step else f"seed {end.step}",
            end.detail,
            by_test.steps,
            by_seed.steps,
            round(time.perf_counter() - began_s, 1),
            self._commit,
        )

    def _verdict(self, by_test: TrialEnd, by_seed: TrialEnd, *, reached: bool) -> MutationVerdict:
        if TIMEOUT in (by_test.verdict, by_seed.verdict):
            return MutationVerdict.TIMEOUT
        if by_test.verdict == KILLED:
            return MutationVerdict.TEST
        if by_seed.verdict == KILLED:
            return MutationVerdict.SEED
        if self._seeds is None:
            return MutationVerdict.SURVIVED_TESTS
        return MutationVerdict.SURVIVED if reached else MutationVerdict.UNREACHED

    def _tried(
        self, module: str, candidate: Candidate, mutation: MutatedModule, steps: list[MappedStep]
    ) -> TrialEnd:
        """What the steps noticed. A step that fails without the mutation too notices nothing."""
        carried_out = 0
        while steps:
            end = self._trial(module, candidate, mutation, list(map(_limited, steps)))
            carried_out += end.steps
            end = replace(end, steps=carried_out)
            failed = [step for step in steps if step.name == end.step]
            if end.verdict == SURVIVED or not failed:
                return end
            clean = TrialRequest(tuple(map(_limited, failed)))
            if self._server(module).request(clean).verdict == SURVIVED:
                return end
            steps = steps[steps.index(failed[0]) + 1 :]
        return TrialEnd(SURVIVED, "", "", carried_out)

    def _trial(
        self, module: str, candidate: Candidate, mutation: MutatedModule, steps: list[Step]
    ) -> TrialEnd:
        if not candidate.at_import:
            end = self._server(module).request(TrialRequest(tuple(steps), mutation))
            if end.verdict != UNPLANTABLE:
                return end
        files = sorted({name.partition("::")[0] for name, _ in steps})
        order = ServerOrder(self._target, tuple(files), at_import=mutation)
        try:
            with ServerProcess(module, order) as server:
                return server.request(TrialRequest(tuple(steps)))
        except ServerDied as error:
            return TrialEnd(KILLED, "", f"it can't be imported: {str(error)[-300:]}", 0)

    def _server(self, module: str) -> ServerProcess:
        if module not in self._servers:
            order = ServerOrder(self._target, self._target.tests)
            self._servers[module] = self._stack.enter_context(ServerProcess(module, order))
        return self._servers[module]


def _limited(step: MappedStep) -> Step:
    return step.name, LIMIT_S + LIMIT_TIMES * step.seconds
