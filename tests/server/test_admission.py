"""Bounds on what is under way."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.errors import Overloaded, ShuttingDown
from raftkv.server.admission import Admission


async def test_one_client_over_its_bound_leaves_room_for_the_others() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=2, bytes_max=1000)
    greedy, modest = admission.client(), admission.client()
    greedy.enter(1)
    greedy.enter(1)

    with pytest.raises(Overloaded, match="of this client") as refused:
        greedy.enter(1)

    assert refused.value.retry_after_s > 0
    modest.enter(1)


async def test_all_clients_together_are_bounded_too() -> None:
    admission = Admission(requests_max=3, requests_per_client_max=2, bytes_max=1000)
    for client in (admission.client(), admission.client(), admission.client()):
        client.enter(1)

    with pytest.raises(Overloaded, match="on this node"):
        admission.client().enter(1)


async def test_bytes_in_flight_are_bounded() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=10, bytes_max=1000)
    client = admission.client()
    client.enter(900)

    with pytest.raises(Overloaded, match="bytes in flight"):
        client.enter(200)

    client.leave(900)
    client.enter(200)


async def test_a_request_larger_than_the_bound_runs_when_it_is_alone() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=10, bytes_max=1000)

    admission.client().enter(5000)


async def test_a_refused_request_is_not_counted() -> None:
    admission = Admission(requests_max=1, requests_per_client_max=1, bytes_max=1000)
    client = admission.client()
    client.enter(1)
    with pytest.raises(Overloaded):
        client.enter(1)

    client.leave(1)

    assert (admission.requests, admission.bytes, client.requests) == (0, 0, 0)


async def test_once_closed_nothing_comes_in_and_what_is_in_may_finish() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=10, bytes_max=1000)
    client = admission.client()
    client.enter(1)
    admission.close()

    with pytest.raises(ShuttingDown):
        client.enter(1)

    idle = asyncio.ensure_future(admission.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    client.leave(1)
    await idle
