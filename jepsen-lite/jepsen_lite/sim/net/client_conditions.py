"""What the connections of clients do, besides what the network does to everything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientConditions:
    """`delay_s_max`: each connection has a delay of its own, up to this, so that what was sent on
    one may overtake what was sent before on another.

    `slow_answers` is the share of answers that take up to `slow_answer_s_max` longer: those to all
    clients, or to `slow_clients` only. `lingering`: what a client has sent on a connection arrives
    although the client has closed it meanwhile.
    """

    delay_s_max: float = 0.0
    slow_answers: float = 0.0
    slow_answer_s_max: float = 0.0
    slow_clients: tuple[str, ...] = ()
    lingering: bool = False
