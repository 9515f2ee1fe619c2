"""The part that both servers of trials share: requests as JSON lines, a fork for each trial.

A server imports the code once. It is started with a `ServerOrder` and answers one `TrialRequest`
after another, until its standard input ends. Its standard output carries only answers.
"""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from jepsen_lite.mutation.candidates import Target
from jepsen_lite.mutation.code_import import change_on_import
from jepsen_lite.mutation.plant import LiveFunctions
from jepsen_lite.mutation.reached import ReachedStatements
from jepsen_lite.mutation.trial import ChildReport, run_forked


@dataclass(frozen=True, slots=True)
class MutatedModule:
    """A module's path, and its whole source with the mutation."""

    path: str
    source: str


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """What a server does: trials, or one run of everything that records what it reaches.

    `at_import` is a mutation that is in place from the start.
    """

    target: Target
    steps: tuple[str, ...]
    """The test files to collect; of a simulator that records, the seeds to run."""
    at_import: MutatedModule | None = None
    records: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> ServerOrder:
        fields = json.loads(text)
        target = fields["target"]
        early = fields["at_import"]
        return cls(
            Target(
                Path(target["root"]),
                tuple(target["code"]),
                tuple(target["excluded"]),
                tuple(target["tests"]),
            ),
            tuple(fields["steps"]),
            MutatedModule(**early) if early else None,
            fields["records"],
        )


Step = tuple[str, float]
"""A test or a seed, and the seconds within which it must end."""


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """One trial: the steps in order, and the mutation that is planted; None: the code as it is."""

    steps: tuple[Step, ...]
    mutation: MutatedModule | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrialRequest:
        fields = json.loads(text)
        mutation = fields["mutation"]
        steps = tuple((name, limit_s) for name, limit_s in fields["steps"])
        return cls(steps, MutatedModule(**mutation) if mutation else None)


class TrialServer:
    """Reads the order from standard input, and prepares the process for it."""

    def __init__(self) -> None:
        self._requests: IO[str] = os.fdopen(os.dup(0), "r")
        self._answers: IO[str] = os.fdopen(os.dup(1), "w")
        with open(os.devnull, "r+b") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        # Also when it is terminated, the trial under way has to end first.
        signal.signal(signal.SIGTERM, _exit)
        self.order = ServerOrder.from_json(self._requests.readline())
        self.reached = ReachedStatements(self.order.target) if self.order.records else None
        early = self.order.at_import
        if early is not None:
            change_on_import(
                {early.path: lambda _, filename: compile(early.source, filename, "exec")}
            )

    def answer(self, **fields: object) -> None:
        """One line of standard output."""
        self._answers.write(json.dumps(fields) + "\n")
        self._answers.flush()

    def serve(self, work: Callable[[Sequence[Step], ChildReport], None]) -> None:
        """Carry out each request in a child of its own, which calls `work` with its steps."""
        live = LiveFunctions(self.order.target.root)
        gc.freeze()
        self.answer(ready=True)
        for line in self._requests:
            request = TrialRequest.from_json(line)

            def trial(report: ChildReport, request: TrialRequest = request) -> None:
                if request.mutation is not None:
                    self._plant(live, request.mutation)
                work(request.steps, report)

            self.answer(**run_forked(trial).to_json())

    def _plant(self, live: LiveFunctions, mutation: MutatedModule) -> None:
        file = self.order.target.root / mutation.path
        live.plant(file, file.read_bytes(), mutation.source.encode())

    def record(self, steps: Iterable[tuple[str, float]]) -> None:
        """Answer with what each step reached; `steps` carries out one at a time, and yields its
        name and how long it took.
        """
        assert self.reached is not None
        self.answer(numbers=self.reached.numbers)
        self.reached.forget()
        for name, seconds in steps:
            self.answer(step=name, seconds=seconds, reached=self.reached.reached())
            self.reached.forget()
        self.answer(ended=True)


def _exit(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)
