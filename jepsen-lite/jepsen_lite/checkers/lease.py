"""A lease is alive for its time to live, and not longer, by the cluster's own time.

Expects operations of one workload, the key being the lease's name, each name granted once:
- "grant": value {"ttl_ns": int};
- "renew": OK if it lives on, returns nothing that matters;
- "revoke": the lease may end at any time from its invocation on;
- "look": returns whether the lease lived, true or false.
Only clients' clocks are known: a lease was granted or renewed between the beginning and the end of
the call. `drift` is by what share the servers' clocks may run faster or slower than that clock.

What is promised: it lives for a lifetime of real time at least, and of cluster time at most. An
outage has no share in the second: a lease outlives it, however long it takes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

from jepsen_lite.history import Operation, answered, asked, before, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "lease"


def check(
    operations: Sequence[Operation], time: ClusterTime, late_ns: int, drift: float = 0.0
) -> Finding:
    """`late_ns` is how much less cluster time may have passed than `time` says."""
    granted = {each.invocation.key for each in answered(operations, "grant")}
    looks = sum(each.invocation.key in granted for each in answered(operations, "look"))
    leases = {each.invocation.key for each in operations}
    statistics = {"leases": len(leases), "looks": looks}
    if not looks:
        return unknown(_NAME, "no granted lease was read", statistics)
    return finding(_NAME, problems_of(operations, time, late_ns, drift), statistics)


def problems_of(
    operations: Sequence[Operation], time: ClusterTime, late_ns: int, drift: float = 0.0
) -> list[Problem]:
    """All looks that contradict the life of their lease."""
    by_lease: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        by_lease[each.invocation.key].append(each)
    problems: list[Problem] = []
    for name, of_lease in by_lease.items():
        for grant in answered(of_lease, "grant"):
            problems += _judge(name, of_lease, grant, time, late_ns, drift)
    return problems


def _judge(
    name: str,
    operations: Sequence[Operation],
    grant: Operation,
    time: ClusterTime,
    late_ns: int,
    drift: float,
) -> list[Problem]:
    ttl_ns = grant.invocation.value["ttl_ns"]
    alive = sorted(answered(operations, "grant", "renew"), key=began_ns)
    problems: list[Problem] = []
    gone: Operation | None = None
    for look in sorted(answered(operations, "look"), key=began_ns):
        if returned(look):
            allowed_ns = ttl_ns * (1 + drift) + late_ns
            problems += _too_late(name, operations, look, time, allowed_ns)
            if gone is not None and before(gone, look):
                text = f"{name}: {who(look)} saw the lease again {at(began_ns(look))}"
                problems.append(problem(f"{text}, after it had been gone", gone, look))
        else:
            problems += _too_early(name, operations, alive, look, ttl_ns * (1 - drift))
            if gone is None or ended_ns(look) < ended_ns(gone):
                gone = look
    return problems


def _too_early(
    name: str,
    operations: Sequence[Operation],
    alive: Sequence[Operation],
    look: Operation,
    ttl_ns: float,
) -> list[Problem]:
    """It was renewed after the renewal began, so it lives a lifetime from then on at least."""
    if any(began_ns(revoke) <= ended_ns(look) for revoke in asked(operations, "revoke")):
        return []
    last = next((each for each in reversed(alive) if before(each, look)), None)
    if last is None or ended_ns(look) >= began_ns(last) + ttl_ns:
        return []
    left_ms = (began_ns(last) + ttl_ns - ended_ns(look)) / 1e6
    text = (
        f"{name}: {who(look)} found the lease gone {at(ended_ns(look))}, at least"
        f" {left_ms:.3f} ms too early: {who(last)}'s {last.invocation.function} had begun"
        f" {at(began_ns(last))}"
    )
    return [problem(text, last, look)]


def _too_late(
    name: str,
    operations: Sequence[Operation],
    look: Operation,
    time: ClusterTime,
    allowed_ns: float,
) -> list[Problem]:
    """It was renewed before the renewal ended, so it ends a lifetime after that at the latest.

    A renewal of unknown outcome has no end: it may arrive at any later time.
    """
    renewals = asked(operations, "grant", "renew")
    begun = [each for each in renewals if began_ns(each) <= ended_ns(look)]
    last = max(begun, key=ended_ns)
    late_ns = time.passed_ns(ended_ns(last), began_ns(look)) - allowed_ns
    if late_ns <= 0:
        return []
    text = (
        f"{name}: {who(look)} found the lease alive {at(began_ns(look))}, {late_ns / 1e6:.3f} ms of"
        f" cluster time after it had to be gone: {who(last)}'s {last.invocation.function} was over"
        f" {at(ended_ns(last))}"
    )
    return [problem(text, last, look)]


class ClusterTime:
    """A lower bound of the cluster time that has passed, proved by acknowledged writes.

    Cluster time is the leader's clock: it stamps every entry of the log, and a new leader continues
    from the last stamp. So cluster time stands still while no node leads, and what has passed since
    the last entry is lost with a leader. A write that was acknowledged was stamped between its
    beginning and its end, and between two stamps of one leader cluster time runs like its clock.

    `writes` were acknowledged. Those that follow each other within `election_ns`, which is less
    than any election takes, have one leader.

    Leadership may change hands sooner where it is given away or where a voter has just started:
    each such change may have lost less than `election_ns` of what is counted here.
    """

    def __init__(self, writes: Iterable[Operation], election_ns: int) -> None:
        chain: list[Operation] = []
        spans: list[tuple[float, float]] = []
        for write in sorted(writes, key=ended_ns):
            if chain and began_ns(write) <= ended_ns(chain[-1]):
                continue  # either may have been stamped first
            if chain and ended_ns(write) - began_ns(chain[-1]) <= election_ns:
                spans[-1] = (spans[-1][0], began_ns(write))
            else:
                spans.append((ended_ns(write), ended_ns(write)))
            chain.append(write)
        self._chain = chain
        self._ended = [ended_ns(write) for write in chain]
        self._spans = spans

    def passed_ns(self, since_ns: float, seen_ns: float) -> float:
        """What has passed at least since `since_ns`, in a state that is read at `seen_ns`."""
        over = bisect_left(self._ended, seen_ns)
        if not over:
            return 0
        until_ns = began_ns(self._chain[over - 1])
        overlaps = (min(end, until_ns) - max(begin, since_ns) for begin, end in self._spans)
        return sum(max(0, overlap) for overlap in overlaps)
