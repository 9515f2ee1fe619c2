"""A lock has one holder at a time, and each holder's token is higher than that of the one before.

Expects operations of one workload; the key is the lock's name, the process is its user:
- "acquire": returns {"token": int}, and {"place": int} too where the place in the queue is known;
- "renew" (optional): its success keeps the hold alive, its value is nothing;
- "release", "lost": the hold ends when they are invoked. "lost" is what a worker records at the
  moment when it learns that it can no longer trust its hold;
- "remove" (optional): another client has the store end the hold whose token is the first part of
  its value. From its invocation on others may rightly hold the lock, whatever the holder observed.

A process that acquired with unknown outcome may hold the lock or not, so it is no evidence. And a
process that ends with any unknown outcome never returns: what it held until then
another process may release.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jepsen_lite.history import NEVER_NS, Kind, Operation, asked, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "lock"


@dataclass(frozen=True, slots=True)
class Hold:
    """The time in which the caller may believe that it alone holds the lock."""

    acquired: Operation
    until_ns: float

    @property
    def from_ns(self) -> float:
        return ended_ns(self.acquired)

    @property
    def token(self) -> int:
        token: int = returned(self.acquired)["token"]
        return token


def check(
    operations: Sequence[Operation],
    lease_ns: int | None = None,
    fifo: bool = False,
    acquire: str = "acquire",
    release: str = "release",
) -> Finding:
    """With `lease_ns`, a hold ends by itself so long after the beginning of the call that won or
    last renewed it. With `fifo`, locks are granted in the order of their places.
    """
    by_lock = holds_by_name(operations, lease_ns, acquire, release)
    removed_ns: dict[int, float] = {}
    for each in asked(operations, "remove"):
        token = each.invocation.value[0]
        removed_ns[token] = min(began_ns(each), removed_ns.get(token, NEVER_NS))
    problems: list[Problem] = []
    count = 0
    for name, known in by_lock.items():
        holds = [_until(hold, removed_ns.get(hold.token, NEVER_NS)) for hold in known]
        count += len(holds)
        problems += _overlaps(name, holds)
        problems += _tokens(name, holds)
        if fifo:
            problems += _overtaken(name, holds)
    statistics = {"locks": len(by_lock), "holds": count}
    if not count:
        return unknown(_NAME, "no lock was ever held", statistics)
    return finding(_NAME, problems, statistics)


def holds_by_name(
    operations: Sequence[Operation], lease_ns: int | None, acquire: str, release: str
) -> dict[str, list[Hold]]:
    """The certain holds of each lock in their order, as their holders know of them."""
    by_lock: defaultdict[str, list[Operation]] = defaultdict(list)
    last_seen_ns: dict[int, float] = {}
    for each in operations:
        if each.kind is Kind.INFO:
            last_seen_ns[each.invocation.process] = began_ns(each)
        if each.invocation.function in (acquire, "renew", release, "lost"):
            by_lock[each.invocation.key].append(each)
    found = {}
    for name, of_lock in by_lock.items():
        holds = [
            _until(hold, last_seen_ns.get(hold.acquired.invocation.process, NEVER_NS))
            for hold in holds_of(of_lock, lease_ns, acquire)
        ]
        found[name] = sorted(holds, key=lambda hold: hold.from_ns)
    return found


def holds_of(
    operations: Sequence[Operation], lease_ns: int | None, acquire: str = "acquire"
) -> Iterator[Hold]:
    """The certain holds of one lock, by process."""
    by_process: defaultdict[int, list[Operation]] = defaultdict(list)
    for each in operations:
        by_process[each.invocation.process].append(each)
    for of_process in by_process.values():
        held: Operation | None = None
        until_ns: float = NEVER_NS
        for each in sorted(of_process, key=began_ns):
            function = each.invocation.function
            if function == acquire and each.kind is Kind.OK:
                if held is not None:
                    yield Hold(held, min(until_ns, began_ns(each)))
                held, until_ns = each, _lease_end(each, lease_ns)
            elif function == "renew" and each.kind is Kind.OK and began_ns(each) <= until_ns:
                until_ns = _lease_end(each, lease_ns)
            elif function not in (acquire, "renew") and held is not None:
                yield Hold(held, min(until_ns, began_ns(each)))
                held = None
        if held is not None:
            yield Hold(held, until_ns)


def _until(hold: Hold, end_ns: float) -> Hold:
    return Hold(hold.acquired, min(hold.until_ns, end_ns))


def _lease_end(call: Operation, lease_ns: int | None) -> float:
    return NEVER_NS if lease_ns is None else began_ns(call) + lease_ns


def _overlaps(name: str, holds: Sequence[Hold]) -> list[Problem]:
    problems: list[Problem] = []
    longest: Hold | None = None
    for hold in holds:
        if longest is not None and hold.from_ns < min(longest.until_ns, hold.until_ns):
            until = (
                "and never gave it up"
                if longest.until_ns == NEVER_NS
                else f"until {longest.until_ns / 1e9:.6f} s"
            )
            text = (
                f"{name}: {who(hold.acquired)} got the lock {at(hold.from_ns)}, while"
                f" {who(longest.acquired)} held it since {longest.from_ns / 1e9:.6f} s {until}"
            )
            problems.append(problem(text, longest.acquired, hold.acquired))
        if longest is None or hold.until_ns > longest.until_ns:
            longest = hold
    return problems


def _tokens(name: str, holds: Sequence[Hold]) -> list[Problem]:
    """A holder that asked after another had acquired has the higher token; all tokens differ."""
    problems: list[Problem] = []
    owner: dict[int, Hold] = {}
    highest: Hold | None = None
    granted = iter(holds)
    earlier = next(granted, None)
    for hold in sorted(holds, key=lambda hold: began_ns(hold.acquired)):
        while earlier is not None and earlier.from_ns < began_ns(hold.acquired):
            if highest is None or earlier.token > highest.token:
                highest = earlier
            earlier = next(granted, None)
        other = owner.setdefault(hold.token, hold)
        if other is not hold:
            text = (
                f"{name}: {who(hold.acquired)} and {who(other.acquired)} both got token"
                f" {hold.token}"
            )
            problems.append(problem(text, other.acquired, hold.acquired))
        elif highest is not None and highest.token > hold.token:
            text = (
                f"{name}: {who(hold.acquired)} asked {at(began_ns(hold.acquired))} and got token"
                f" {hold.token}, after {who(highest.acquired)} had got token {highest.token}"
            )
            problems.append(problem(text, highest.acquired, hold.acquired))
    return problems


def _overtaken(name: str, holds: Sequence[Hold]) -> list[Problem]:
    return [
        problem(
            f"{name}: {who(after.acquired)} with place {returned(after.acquired)['place']} got the"
            f" lock after {who(first.acquired)} with place {returned(first.acquired)['place']}",
            first.acquired,
            after.acquired,
        )
        for first, after in itertools.pairwise(holds)
        # Of two simultaneous holders neither is known to be first; that is reported as an overlap.
        if first.until_ns <= after.from_ns
        and returned(first.acquired)["place"] > returned(after.acquired)["place"]
    ]
