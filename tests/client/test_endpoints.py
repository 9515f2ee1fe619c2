"""The choice of the node: circuit breakers, the leader, failures and recoveries."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from raftkv.client.client import Client
from raftkv.client.connection.endpoints import Endpoints, EndpointSelector, parse_endpoints
from raftkv.client.connection.throttle import BreakerState, CircuitBreaker
from raftkv.client.settings import ClientSettings
from raftkv.errors import ConfigurationError, ConnectionFailed, DeadlineExceeded, WrongCluster
from tests.client.conftest import Connect
from tests.client.scripted import ScriptedCluster, ScriptedLink, ScriptedNode


def test_a_breaker_opens_after_failures_in_a_row_and_cools_down_to_one_probe() -> None:
    breaker = CircuitBreaker(3, 1.0)
    for _ in range(2):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(0.0)
    assert breaker.state(0.0) is BreakerState.CLOSED
    breaker.failed(0.0)
    assert breaker.state(0.5) is BreakerState.OPEN
    assert not breaker.allows(0.5)
    assert breaker.allows(1.0)
    assert breaker.begin(1.0)
    assert not breaker.allows(1.0)
    breaker.failed(1.1)
    assert not breaker.allows(2.0)
    assert breaker.begin(2.2)
    breaker.succeeded()
    assert breaker.state(2.2) is BreakerState.CLOSED


@pytest.fixture
def endpoints(cluster: ScriptedCluster) -> Endpoints:
    return Endpoints(("a:1", "b:2"), cluster.link, ClientSettings(), Random(1))


async def test_a_row_of_failures_is_over_all_endpoints_and_ends_with_an_answer(
    endpoints: Endpoints,
) -> None:
    selector = EndpointSelector(endpoints, ClientSettings(), Random(1))
    a, b = endpoints.all
    for _ in range(2):
        assert not selector.failed(a)
        assert selector.failed(b), "as many as there are endpoints"
        assert selector.failed(a)
        selector.answered()


async def test_the_next_probe_is_when_an_endpoint_may_be_tried_for_both_of_its_reasons(
    endpoints: Endpoints,
) -> None:
    settings = ClientSettings()
    a, b = endpoints.all
    for endpoint in (a, b):
        for _ in range(settings.breaker_failures_max):
            endpoints.failed(endpoint, 100.0)
    assert endpoints.next_probe_at() == 100.0 + settings.breaker_cool_down_s
    for endpoint, ask_again_at in ((a, 107.0), (b, 105.0)):
        endpoint.foreign, endpoint.ask_again_at = True, ask_again_at
    assert endpoints.next_probe_at() == 105.0
    b.foreign = False  # it has answered for the own cluster since
    assert endpoints.next_probe_at() == 100.0 + settings.breaker_cool_down_s


async def test_an_open_breaker_is_probed_by_one_call(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect(breaker_cool_down_s=0.5)
    await client.put("first", "opens the session")
    for node in cluster.nodes.values():
        node.kill()
    puts = [asyncio.ensure_future(client.put(f"k{i}", "v")) for i in range(100)]
    await asyncio.sleep(2.0)
    for node in cluster.nodes.values():
        node.up = True
    before = len(cluster.writes)
    await asyncio.gather(*puts)
    probe, *rest = cluster.writes[before:]
    assert len(probe.batch.commands) == 1
    assert sum(len(seen.batch.commands) for seen in rest) == 99


async def test_attempts_at_dead_nodes_are_bounded(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect(breaker_failures_max=3, breaker_cool_down_s=1.0)
    await client.put("first", "opens the session")
    for node in cluster.nodes.values():
        node.kill()
        node.connections = 0
    with pytest.raises(DeadlineExceeded):
        await client.put("k", "v", timeout=10.0)
    for node in cluster.nodes.values():
        assert node.connections <= 3 + 10


async def test_batches_go_to_the_leader(client: Client, cluster: ScriptedCluster) -> None:
    await client.put("k", "v")
    assert cluster.writes[-1].node == "a:1"


async def test_a_new_leader_is_found_when_a_reply_has_its_term(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    cluster.leader, cluster.term = "c:3", 2
    await client.put("l", "v")
    await asyncio.sleep(0.1)
    await client.put("m", "v")
    assert [seen.node for seen in cluster.writes] == ["a:1", "a:1", "c:3"]


async def test_a_silent_node_is_left_within_silence_s_max(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "opens the session")
    cluster.nodes["a:1"].mute = True
    await client.put("k", "v", timeout=5.0)
    assert cluster.loop.time() < 2.2


async def test_a_silent_node_is_noticed_despite_short_timeouts(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "opens the session")
    cluster.nodes["a:1"].mute = True
    results = [await outcome(client, i) for i in range(20)]
    assert results[-1]


async def outcome(client: Client, i: int) -> bool:
    try:
        await client.put(f"k{i}", "v", timeout=0.3)
    except Exception:  # noqa: BLE001 - whatever it is, it failed
        return False
    return True


async def test_advertised_members_are_used_when_the_given_endpoints_fail(
    cluster: ScriptedCluster, connect: Connect
) -> None:
    client = await connect()
    members = await client.member_list()
    assert members[0].client_address == "a:1"
    assert client.endpoints == ("a:1", "b:2", "c:3")


async def test_a_client_that_is_closed_has_closed_its_link_to_every_node(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    async def close(link: ScriptedLink) -> None:
        closed.append(link._node.address)

    monkeypatch.setattr(ScriptedLink, "close", close)
    client = await connect()
    await client.put("k", "v")
    assert not closed
    await client.close()
    assert sorted(closed) == ["a:1", "b:2", "c:3"]


async def test_connecting_to_a_dead_cluster_fails_at_the_timeout(
    cluster: ScriptedCluster, connect: Connect
) -> None:
    for node in cluster.nodes.values():
        node.kill()
    with pytest.raises(ConnectionFailed, match="is the cluster running"):
        await connect(1.0)
    assert cluster.loop.time() == pytest.approx(1.0, abs=0.3)


async def test_connecting_waits_for_a_cluster_that_is_starting(
    cluster: ScriptedCluster, connect: Connect
) -> None:
    for node in cluster.nodes.values():
        node.kill()
    cluster.loop.call_later(0.7, setattr, cluster.nodes["b:2"], "up", True)
    client = await connect(5.0)
    await client.put("k", "v")
    assert cluster.loop.time() < 2.0


async def test_connecting_works_over_a_slow_network(
    cluster: ScriptedCluster, connect: Connect
) -> None:
    for node in cluster.nodes.values():
        node.answer_s = 0.6
    client = await connect(5.0)
    await client.put("k", "v")
    assert cluster.loop.time() < 2.0


async def test_connecting_gives_the_others_time_to_show_that_they_are_another_cluster(
    cluster: ScriptedCluster, connect: Connect
) -> None:
    other = cluster.nodes["b:2"]
    other.cluster_id, other.answer_s = 8, 0.2
    with pytest.raises(WrongCluster, match="do not belong to one cluster"):
        await connect(5.0)
    other.answer_s = 0.9
    await connect(5.0)


async def test_status_of_all_includes_the_errors_of_silent_nodes(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.nodes["b:2"].kill()
    answers = await client.status_all()
    assert isinstance(answers["b:2"], ConnectionFailed)
    assert (await client.status("a:1")).term == 1


@pytest.mark.parametrize("text", ["", "localhost", "localhost:", ":7411", "h:0", "h:70000", "h:x"])
def test_an_endpoint_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_endpoints(text)


def test_endpoints_are_a_list_or_separated_by_commas() -> None:
    assert parse_endpoints("a:1, b:2,a:1") == parse_endpoints(["a:1", "b:2"]) == ("a:1", "b:2")


async def test_a_client_in_use_survives_the_replacement_of_all_given_nodes(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    # Found by the simulator, seed 2274: members were only asked for on a new term, and a cluster
    # can replace all its nodes but the leader without one.
    client = await connect(look_around_s=2.0)
    await client.put("k", "first")
    await asyncio.sleep(0.5)
    old = list(cluster.nodes.values())
    cluster.nodes["d:4"] = ScriptedNode(cluster, "d:4")
    cluster.members = ["d:4"]
    for number in range(3):
        await client.put("k", str(number))
        await asyncio.sleep(1.1)
    cluster.leader = "d:4"
    for node in old:
        node.kill()
    await client.put("k", "last", timeout=3.0)
    assert cluster.writes[-1].node == "d:4"


def test_an_endpoint_with_a_scheme_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="has a scheme; write host:port alone"):
        parse_endpoints("127.0.0.1:7412,http://127.0.0.1:7411")


@pytest.mark.parametrize(
    ("endpoint", "fix"),
    [
        ("::1:7411", r"write \[::1\]:7411"),
        ("::1", r"before a port: write \[::1\]:7411"),
        ("[::1]", r"before a port: write \[::1\]:7411"),
        ("fe80::1%eth0:7411", r"write \[fe80::1%eth0\]:7411"),
        ("2001:db8::abcd", r"write \[2001:db8::abcd\]:7411"),
        ("[localhost]:7411", "write it like 127.0.0.1:7411"),
        ("[::1:7411", "write it like 127.0.0.1:7411"),
        ("localhost", "write it like 127.0.0.1:7411"),
        ("localhost:٣", "write it like 127.0.0.1:7411"),
        ("a b:7411", "write it like 127.0.0.1:7411"),
    ],
)
def test_an_invalid_address_is_refused_with_the_valid_form(endpoint: str, fix: str) -> None:
    with pytest.raises(ConfigurationError, match="host:port.*" + fix):
        parse_endpoints(f"127.0.0.1:7411,{endpoint}")


def test_an_ipv6_address_in_brackets_is_an_endpoint() -> None:
    assert parse_endpoints("[::1]:7411, [fe80::1%eth0]:7411") == (
        "[::1]:7411",
        "[fe80::1%eth0]:7411",
    )
