"""Draws what an operator does beside other faults, right and wrong, and greetings that must be
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from jepsen_lite.faults.kinds import (
    LEADER,
    AddressChange,
    Isolate,
    Kill,
    LearnerRemoval,
    MemberChange,
    Schedule,
    Stranger,
    Transfer,
)
from jepsen_lite.sim.checks.invariants import DEAD_S
from jepsen_lite.sim.injection.strangers import IMPOSTORS

SECONDS_MIN = 8.0
CUT_S = 1.5
DOWN_S = 9.0
"""For so long a node is down that the operator has forgotten about."""


def draw_operator(rng: Random, nodes: Sequence[str], seconds: float) -> Schedule:
    """Addresses change, once while the leader can't hand its leadership over; a learner comes and
    goes; impostors call. Nothing in a short run.
    """
    if seconds < SECONDS_MIN:
        return ()
    moments = [rng.uniform(1.0, seconds - 3.0) for _ in range(3)]
    cut_off, moved = rng.sample(list(nodes), 2)
    beside_s = moments[0]
    return (
        Isolate(beside_s, CUT_S, cut_off, True, True, clients_too=False),
        Transfer(beside_s + 0.05, 0.0, cut_off),
        AddressChange(beside_s + 0.1, 0.0, moved),
        AddressChange(moments[1], 0.0, rng.choice(nodes)),
        LearnerRemoval(moments[2], 0.0),
        *(
            Stranger(rng.uniform(1.0, seconds), 0.0, rng.choice((LEADER, *nodes)), greeting)
            for greeting in IMPOSTORS
        ),
    )


def draw_careless_removal(rng: Random, nodes: Sequence[str], seconds: float) -> Schedule:
    """An operator removes a node while another one is down for long: of three, the two that would
    be left could commit nothing. Nothing in a short run.
    """
    latest_s = seconds - DOWN_S
    if latest_s < 0.5:
        return ()
    down, removed = rng.sample(list(nodes), 2)
    at_s = rng.uniform(0.5, latest_s)
    asked_s = at_s + rng.uniform(DEAD_S, DEAD_S + 1.0)
    return (
        Kill(at_s, DOWN_S, (down,), power=True),
        MemberChange(asked_s, 0.0, rng.choice((LEADER, removed)), add=False, add_first=False),
    )
