"""An election has one leader per token, and observers see all leaders in the order of tokens.

Expects operations of one workload, the key being the election's name:
- "campaign": value the candidate; returns {"token": int} when it leads;
- "resign", "lost": the process leads no longer, from the invocation on;
- "observe": returns all that one observer saw, in order, each as [token, leader], or [null, null]
  for a vacancy.
That no two lead at once is `lock.check(..., acquire="campaign", release="resign")`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

from jepsen_lite.history import Operation, answered, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "election"


def check(operations: Sequence[Operation]) -> Finding:
    """Judge each election by the answers to candidates and by what observers saw."""
    by_election: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        by_election[each.invocation.key].append(each)
    problems: list[Problem] = []
    terms = seen = 0
    for name, of_election in by_election.items():
        campaigns = list(answered(of_election, "campaign"))
        observers = list(answered(of_election, "observe"))
        terms += len(campaigns)
        seen += sum(len(returned(each)) for each in observers)
        problems += _one_leader(name, campaigns, observers)
        for observer in observers:
            problems += [
                problem(f"{name}: {who(observer)} {text}", observer)
                for text in _out_of_order(returned(observer))
            ]
            problems += _skipped(name, campaigns, observer)
    statistics = {"elections": len(by_election), "terms": terms, "observed": seen}
    if not terms:
        return unknown(_NAME, "no candidate was ever elected", statistics)
    return finding(_NAME, problems, statistics)


def _one_leader(
    name: str, campaigns: Sequence[Operation], observers: Sequence[Operation]
) -> list[Problem]:
    """All observations of a token name the same leader."""
    claims = [(returned(each)["token"], each.invocation.value, each) for each in campaigns]
    claims += [
        (token, leader, observer)
        for observer in observers
        for token, leader in returned(observer)
        if leader is not None
    ]
    first: dict[int, tuple[str, Operation]] = {}
    problems: list[Problem] = []
    for token, leader, source in claims:
        other, by = first.setdefault(token, (leader, source))
        if other != leader:
            text = (
                f"{name}: token {token} belongs to {leader} as {who(source)} observed, and to"
                f" {other} as {who(by)} observed"
            )
            problems.append(problem(text, by, source))
    return problems


def _out_of_order(seen: Sequence[tuple[int | None, str | None]]) -> Iterator[str]:
    tokens = [token for token, _ in seen if token is not None]
    for before, after in itertools.pairwise(tokens):
        if after < before:
            yield f"saw the leader of token {after} after the one of token {before}"
    for (_, before_leader), (_, after_leader) in itertools.pairwise(seen):
        if before_leader is None and after_leader is None:
            yield "saw two vacancies with no leader between them"


def _skipped(name: str, campaigns: Sequence[Operation], observer: Operation) -> list[Problem]:
    """A leader elected between two observed leaders must have been observed too."""
    tokens = {token for token, _ in returned(observer) if token is not None}
    return [
        problem(
            f"{name}: {who(observer)} saw leaders before and after"
            f" {campaign.invocation.value}, who observed {at(ended_ns(campaign))} that it leads"
            f" with token {returned(campaign)['token']}, but not that one",
            campaign,
            observer,
        )
        for campaign in campaigns
        if tokens
        and min(tokens) < returned(campaign)["token"] < max(tokens)
        and returned(campaign)["token"] not in tokens
    ]
