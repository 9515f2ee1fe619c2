"""Bounds on requests and bytes in flight."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.errors import Overloaded, ShuttingDown
from raftkv.server.admission import Admission, ClientShare


async def test_one_client_over_its_bound_leaves_room_for_the_others() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=2, bytes_max=1000)
    greedy, modest = admission.client("greedy"), admission.client("modest")
    greedy.enter(1)
    greedy.enter(1)

    with pytest.raises(Overloaded, match="of this client") as refused:
        greedy.enter(1)

    assert refused.value.retry_after_s > 0
    modest.enter(1)


async def test_all_clients_together_are_bounded_too() -> None:
    admission = Admission(requests_max=3, requests_per_client_max=2, bytes_max=1000)
    for client in (admission.client("a"), admission.client("b"), admission.client("c")):
        client.enter(1)

    with pytest.raises(Overloaded, match="on this node"):
        admission.client("one").enter(1)


async def test_bytes_in_flight_are_bounded() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=10, bytes_max=1000)
    client = admission.client("one")
    client.enter(900)

    with pytest.raises(Overloaded, match="bytes in flight"):
        client.enter(200)

    client.leave(900)
    client.enter(200)


async def test_a_request_larger_than_the_bound_runs_when_it_is_alone() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=10, bytes_max=1000)

    admission.client("one").enter(5000)


async def test_a_refused_request_is_not_counted() -> None:
    admission = Admission(requests_max=1, requests_per_client_max=1, bytes_max=1000)
    client = admission.client("one")
    client.enter(1)
    with pytest.raises(Overloaded):
        client.enter(1)

    client.leave(1)

    assert (admission.requests, admission.bytes, client.requests) == (0, 0, 0)


async def test_a_closed_admission_refuses_new_requests_and_lets_others_finish() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=10, bytes_max=1000)
    client = admission.client("one")
    client.enter(1)
    admission.close()

    with pytest.raises(ShuttingDown):
        client.enter(1)

    idle = asyncio.ensure_future(admission.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    client.leave(1)
    await idle


async def test_a_connection_is_one_client_whatever_streams_and_calls_it_has() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=2, bytes_max=1000)
    stream, call = admission.client("ipv4:127.0.0.1:1"), admission.client("ipv4:127.0.0.1:1")
    other = admission.client("ipv4:127.0.0.1:2")
    assert stream.number == call.number != other.number
    stream.enter(1)
    call.enter(1)
    with pytest.raises(Overloaded, match="of this client"):
        admission.client("ipv4:127.0.0.1:1").enter(1)


def _enter_until_refused(share: ClientShare) -> None:
    while True:
        share.enter(1)


async def test_a_client_has_no_more_requests_in_flight_than_are_left_free() -> None:
    admission = Admission(requests_max=1000, requests_per_client_max=1000, bytes_max=1000)
    held = [admission.client(f"client {number}") for number in range(8)]
    for share in held:
        with pytest.raises(Overloaded, match="of this client"):
            _enter_until_refused(share)
    admission.client("newcomer").enter(1)


async def test_the_share_of_a_client_without_calls_is_dropped() -> None:
    admission = Admission(requests_max=10, requests_per_client_max=2, bytes_max=1000)
    share = admission.client("gone")
    share.enter(5)
    share.leave(5)
    del share
    assert not admission._shares


async def test_a_client_has_no_more_bytes_in_flight_than_are_left_free() -> None:
    admission = Admission(requests_max=1000, requests_per_client_max=1000, bytes_max=1000)
    greedy = admission.client("greedy")
    for _ in range(5):
        greedy.enter(100)
    with pytest.raises(Overloaded, match="bytes in flight of this client"):
        greedy.enter(100)
    admission.client("newcomer").enter(400)
