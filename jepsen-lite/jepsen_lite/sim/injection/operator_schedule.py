"""Draws what an operator does beside other faults, and greetings that must be refused."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from jepsen_lite.faults.kinds import (
    LEADER,
    AddressChange,
    Isolate,
    LearnerRemoval,
    Schedule,
    Stranger,
    Transfer,
)
from jepsen_lite.sim.injection.strangers import IMPOSTORS

SECONDS_MIN = 8.0
CUT_S = 1.5


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
