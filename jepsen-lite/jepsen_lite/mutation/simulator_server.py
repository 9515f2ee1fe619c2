"""A server of trials by the default simulator: each step of a trial is one seed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from jepsen_lite.mutation.trial import ChildReport
from jepsen_lite.mutation.trial_server import Step, TrialServer


def main() -> None:
    server = TrialServer()
    # Imported late: the server decides first how the modules are imported.
    from jepsen_lite.sim.node_logs import configure
    from jepsen_lite.sim.plan import SWARM
    from jepsen_lite.sim.run import Outcome, run
    from jepsen_lite.sim.swarm import draw

    configure(show=False)

    def outcome(seed: str) -> Outcome:
        # Without replicas in other processes, which would have the code without the mutation.
        return run(draw(SWARM, int(seed), (), None, None))

    def trial(steps: Sequence[Step], report: ChildReport) -> None:
        for seed, limit_s in steps:
            report.begins(seed, limit_s)
            problems = outcome(seed).problems
            if problems:
                report.failed(" ".join(problems[0].split())[:500])
                return

    def recorded() -> Iterator[tuple[str, float]]:
        for seed in server.order.steps:
            began_s = time.perf_counter()
            outcome(seed)
            yield seed, time.perf_counter() - began_s

    if server.order.records:
        server.record(recorded())
    else:
        server.serve(trial)


if __name__ == "__main__":
    main()
