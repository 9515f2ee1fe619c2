"""A unary call that failed without a connection is never carried out."""

from __future__ import annotations

from typing import Any

from jepsen_lite.faults.kinds import NetworkConditions
from jepsen_lite.sim.net.client_links import SimulatedClientNetwork
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.process import Process
from jepsen_lite.sim.world import World
from raftkv.errors import ConnectionFailed, OutcomeUnknown

ADDRESS = "node-1:7411"


class Door:
    """Records the requests and never answers."""

    def __init__(self, world: World) -> None:
        self.process = Process(world, "node-1")  # type: ignore[abstract]
        self.asked: list[str] = []

    def client_server(self, address: str) -> Any:
        return self

    def call(self, _client: str, method: str, *_: object) -> None:
        self.asked.append(method)


def outcome_within(timeout_s: float, *, way_s: float) -> tuple[list[BaseException], list[str]]:
    """The errors of a client whose way to the node takes so long, and what the node was asked."""
    world, errors = World(1), []
    network, door = SimulatedNetwork(world, NetworkConditions()), Door(world)
    network.slow([("client", "node-1")], way_s)
    process = Process(world, "client")  # type: ignore[abstract]
    links = SimulatedClientNetwork(world, network, door, process, "client")

    async def call() -> None:
        try:
            await links.link(ADDRESS).call("Status", b"", timeout_s)
        except (ConnectionFailed, OutcomeUnknown) as error:
            errors.append(error)

    process.enter(lambda: process.create_task(call()))
    world.run_until(60.0)
    return errors, door.asked


def test_a_call_that_was_given_up_while_connecting_is_never_carried_out() -> None:
    (error,), asked = outcome_within(1.0, way_s=10.0)
    assert isinstance(error, ConnectionFailed)
    assert asked == []


def test_a_call_that_has_left_and_is_not_answered_may_have_been_carried_out() -> None:
    (error,), asked = outcome_within(1.0, way_s=0.1)
    assert isinstance(error, OutcomeUnknown)
    assert asked == ["Status"]
