"""Whole nodes found a cluster: they wait for each other, and report for which node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from fake_node import PATIENCE_S
from grpc_health.v1 import health_pb2, health_pb2_grpc
from test_process import free_addresses, kv_of, running, settings_of

from raftkv.config import Settings
from raftkv.errors import (
    AddressInUse,
    ConfigurationError,
    DamagedData,
    DirectoryMismatch,
    NotServing,
    OutOfService,
)
from raftkv.peer.secret import new_secret
from raftkv.peer.server import PeerServer
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.server import standby
from raftkv.server.grpc_server import ClientServer
from raftkv.server.process import NodeProcess
from raftkv.storage.directory import read_identity
from raftkv.storage.identity import Stage
from raftkv.wire.grpc_status import error_of_call

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def three(tmp_path: Path, **changes: object) -> dict[int, Settings]:
    addresses = free_addresses(6)
    members = {id: Address(addresses[id - 1], addresses[id + 2]) for id in (1, 2, 3)}
    return {
        id: Settings(
            node_id=id,
            data_dir=tmp_path / f"{id}",
            initial_members=members,
            tick_ms=10,
            disk_reserve_bytes=0,
            http_listen="off",
            **changes,
        )
        for id in members
    }


class Starting:
    """A node process that is starting."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process = NodeProcess(settings)
        self.task = asyncio.create_task(self.process.start())

    async def started(self) -> NodeProcess:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(self.task)
        return self.process

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        if not self.task.cancelled() and self.task.exception() is None:
            await self.process.stop()


@asynccontextmanager
async def starting(settings: Iterable[Settings]) -> AsyncIterator[dict[int, Starting]]:
    begun = {each.node_id: Starting(each) for each in settings}
    try:
        yield begun
    finally:
        for each in begun.values():
            await each.close()


async def status_of(settings: Settings) -> api_pb2.StatusReply:
    async with grpc.aio.insecure_channel(settings.client_listen) as channel:
        cluster = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        return await cluster.Status(
            api_pb2.StatusRequest(), wait_for_ready=True, timeout=PATIENCE_S
        )


async def until_waiting_for(settings: Settings, *says: str) -> api_pb2.StatusReply:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            status = await status_of(settings)
            if all(each in status.not_serving for each in says):
                return status
            await asyncio.sleep(0.01)


async def until_led(settings: Settings) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (await status_of(settings)).leader_id:
                return
            await asyncio.sleep(0.01)


async def is_free(settings: Settings) -> bool:
    """Whether another process could start here."""
    for address in (settings.client_listen, settings.peer_listen):
        host, port = address.split(":")
        try:
            (await asyncio.start_server(lambda *_: None, host, int(port))).close()
        except OSError:
            return False
    return True


async def put_get(settings: Settings, key: str) -> bytes:
    await until_led(settings)
    async with kv_of(settings) as kv:
        command = kv_pb2.Command(put=kv_pb2.Put(key=key.encode(), value=b"v"))
        request = api_pb2.ExecuteRequest(command=command)
        await kv.Execute(request, timeout=PATIENCE_S, wait_for_ready=True)
        read = api_pb2.RangeRequest(range=kv_pb2.Range(key=key.encode()))
        reply = await kv.Range(read, timeout=PATIENCE_S)
    return reply.result.kvs[0].value


async def test_founders_wait_for_each_other_report_it_and_start_with_the_last(
    tmp_path: Path,
) -> None:
    nodes = three(tmp_path)
    async with starting([nodes[1], nodes[2]]) as begun:
        status = await until_waiting_for(nodes[1], "all first nodes", "node 3: ")
        assert "node 2" not in status.not_serving
        assert (status.header.node_id, status.header.incarnation) == (1, 0)
        async with grpc.aio.insecure_channel(nodes[2].client_listen) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", "raftkv"):
                asked = health_pb2.HealthCheckRequest(service=service)
                assert (await health.Check(asked)).status == NOT_SERVING
            kv = api_pb2_grpc.KVStub(channel)  # type: ignore[no-untyped-call]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await kv.Range(api_pb2.RangeRequest(range=kv_pb2.Range(key=b"k")))
            error = error_of_call(refused.value)
            assert isinstance(error, NotServing)
            assert "node 2 serves nothing" in error.message
            assert "node 3: " in error.message
        begun[3] = Starting(nodes[3])
        for each in begun.values():
            await each.started()
        incarnations = {(await status_of(each)).header.incarnation for each in nodes.values()}
        assert len(incarnations) == 1
        assert incarnations != {0}
        assert await put_get(nodes[3], "k") == b"v"
        assert {(await status_of(each)).not_serving for each in nodes.values()} == {""}
    for each in nodes.values():
        identity = read_identity(each.data_dir)
        assert identity is not None
        assert identity.stage is Stage.MEMBER
        assert identity.incarnation in incarnations


async def test_founders_with_one_secret_found_a_cluster(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(new_secret())
    secret.chmod(0o600)
    nodes = three(tmp_path, cluster_secret_file=str(secret))
    async with starting(nodes.values()) as begun:
        for each in begun.values():
            await each.started()
        assert await put_get(nodes[2], "k") == b"v"


async def test_a_founder_with_another_secret_is_reported_as_the_reason_of_the_wait(
    tmp_path: Path,
) -> None:
    nodes = three(tmp_path)
    for id in nodes:
        secret = tmp_path / f"secret-{id}"
        secret.write_text("x" * 32 if id < 3 else "y" * 32)
        secret.chmod(0o600)
        nodes[id] = replace(nodes[id], cluster_secret_file=str(secret))
    async with starting(nodes.values()):
        await until_waiting_for(nodes[1], "node 3: ", "another cluster secret")
        await until_waiting_for(nodes[3], "node 1: ", "node 2: ")


async def test_a_cancelled_start_leaves_nothing_open(tmp_path: Path) -> None:
    nodes = three(tmp_path)
    async with starting([nodes[1]]) as begun:
        await until_waiting_for(nodes[1], "node 2: ", "node 3: ")
        await begun[1].close()
        assert await is_free(nodes[1])
        disk_id = read_identity(nodes[1].data_dir)
        for id in nodes:
            begun[id] = Starting(nodes[id])
        for each in begun.values():
            await each.started()
        identity = read_identity(nodes[1].data_dir)
        assert disk_id is not None
        assert identity is not None
        assert identity.disk_id == disk_id.disk_id


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.01, 0.03, 0.1])
async def test_a_start_can_be_cancelled_at_any_time(tmp_path: Path, after_s: float) -> None:
    settings = settings_of(tmp_path / "node")
    begun = Starting(settings)
    await asyncio.sleep(after_s)
    await begun.close()
    async with asyncio.timeout(PATIENCE_S):
        while not await is_free(settings):  # noqa: ASYNC110 - there is no event for a free port
            await asyncio.sleep(0.01)
    async with running(settings):
        assert await put_get(settings, "k") == b"v"


@pytest.mark.parametrize("port", [ClientServer, standby.StandbyServer, PeerServer])
async def test_a_start_that_is_cancelled_as_a_port_opens_closes_the_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: type
) -> None:
    opening, start, stop = asyncio.Event(), port.start, port.stop
    stopped: list[object] = []

    async def noted(self: object, *arguments: object) -> None:
        await stop(self, *arguments)
        stopped.append(self)

    async def give_up(self: object, address: str) -> int:
        opening.set()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # it takes effect where gRPC begins to listen
        port: int = await start(self, address)
        return port

    monkeypatch.setattr(port, "start", give_up)
    monkeypatch.setattr(port, "stop", noted)
    nodes = three(tmp_path)
    settings = nodes[1] if port is standby.StandbyServer else settings_of(tmp_path / "node")
    begun = Starting(settings)
    await opening.wait()
    await begun.close()
    assert len(stopped) == 1, "gRPC's own finalizer closes the port, some time"
    assert await is_free(settings)


async def test_an_emptied_founder_is_refused_by_started_founders(tmp_path: Path) -> None:
    nodes = three(tmp_path)
    async with starting(nodes.values()) as begun:
        for each in begun.values():
            await each.started()
        await begun[3].close()
        nodes[3] = replace(nodes[3], data_dir=tmp_path / "new")
        begun[3] = Starting(nodes[3])
        with pytest.raises(DamagedData, match="member replace 3 NEW"):
            await begun[3].started()
        assert await is_free(nodes[3])
        assert await put_get(nodes[1], "k") == b"v"


async def test_settings_may_change_until_the_first_membership_is_stored(tmp_path: Path) -> None:
    nodes = three(tmp_path)
    async with starting([nodes[1]]) as begun:
        await until_waiting_for(nodes[1], "node 2: ")
        await begun[1].close()
        elsewhere = replace(nodes[1], initial_members={2: nodes[2].advertised})
        with pytest.raises(ConfigurationError, match="a list with this node, 1, in it"):
            await NodeProcess(elsewhere).start()
        alone = replace(nodes[1], initial_members={1: nodes[1].advertised})
        async with running(alone):
            assert await put_get(alone, "k") == b"v"


async def test_a_founder_that_is_set_to_join_asks_the_cluster_to_join(tmp_path: Path) -> None:
    nodes = three(tmp_path)
    async with starting([nodes[1]]) as begun:
        await until_waiting_for(nodes[1], "node 2: ")
        await begun[1].close()
    (nobody,) = free_addresses(1)
    joins = replace(nodes[1], initial_members={}, join=nobody)
    with pytest.raises(Exception, match=nobody):
        await NodeProcess(joins).start()
    identity = read_identity(nodes[1].data_dir)
    assert identity is not None
    assert identity.stage is Stage.FOUNDING


# ---- restarts ---------------------------------------------------------------------------


def hints(settings: Settings) -> Mapping[str, Settings]:
    other, peer = free_addresses(2)
    stranger = {7: Address(peer, other)}
    return {
        "missing": replace(settings, initial_members={}),
        "other": replace(settings, initial_members=stranger),
        "more": replace(settings, initial_members={**settings.initial_members, **stranger}),
    }


@pytest.mark.parametrize("changed", ["missing", "other", "more"])
async def test_initial_members_are_only_hints_once_the_node_is_a_member(
    tmp_path: Path, changed: str
) -> None:
    settings = settings_of(tmp_path / "node")
    async with running(settings):
        await put_get(settings, "k")
        before = await status_of(settings)
    restarted = hints(settings)[changed]
    async with running(restarted):
        assert await put_get(restarted, "k") == b"v"
        after = await status_of(restarted)
    assert after.header.incarnation == before.header.incarnation
    assert [member.node_id for member in after.members] == [1]


async def test_a_wrong_node_id_or_cluster_name_is_refused(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "node")
    async with running(settings):
        pass
    with pytest.raises(DirectoryMismatch, match="belongs to node 1, not to node 2"):
        await NodeProcess(settings_of(tmp_path / "node", node_id=2)).start()
    with pytest.raises(DirectoryMismatch, match="cluster 'raftkv', not to 'another'"):
        await NodeProcess(settings_of(tmp_path / "node", cluster_name="another")).start()


async def test_all_nodes_of_a_cluster_restart_on_new_addresses_at_once(tmp_path: Path) -> None:
    nodes = three(tmp_path)
    async with starting(nodes.values()) as begun:
        for each in begun.values():
            await each.started()
        await put_get(nodes[1], "k")
    moved = three(tmp_path)
    async with starting(moved.values()) as begun:
        for each in begun.values():
            await each.started()
        assert await put_get(moved[2], "k") == b"v"
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status = await status_of(moved[3])
                known = {m.node_id: m.peer_address for m in status.members}
                if known == {id: each.peer_advertise for id, each in moved.items()}:
                    break
                await asyncio.sleep(0.05)


async def test_a_start_with_an_unreadable_secret_changes_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "node", cluster_secret_file=str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="cluster_secret_file"):
        await NodeProcess(settings).start()
    assert not settings.data_dir.exists()


# ---- out of service ---------------------------------------------------------------------

REASON = "nodes 2 and 3 both lead one term: compare both"


async def until_out_of_service(settings: Settings) -> api_pb2.StatusReply:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                status = await status_of(settings)
                if REASON in status.not_serving:
                    return status
            except grpc.aio.AioRpcError:
                pass  # the port is being handed over
            await asyncio.sleep(0.01)


async def test_a_node_out_of_service_reports_the_reason_also_after_a_restart(
    tmp_path: Path,
) -> None:
    settings = settings_of(tmp_path / "node")
    async with running(settings) as process:
        await put_get(settings, "k")
        stopped = asyncio.create_task(process.wait_stopped())
        process._node.driver.finish(OutOfService(REASON))
        status = await until_out_of_service(settings)
        assert status.not_serving == f"it is out of service: {REASON}"
        assert status.header.incarnation
        async with kv_of(settings) as kv:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await kv.Range(api_pb2.RangeRequest(range=kv_pb2.Range(key=b"k")))
        assert isinstance(error_of_call(refused.value), NotServing)
        host, port = settings.peer_listen.split(":")
        with pytest.raises(ConnectionRefusedError):  # it takes no part
            await asyncio.open_connection(host, int(port))
        assert not stopped.done()
    assert await stopped is None
    assert await is_free(settings)
    async with running(settings) as again:
        assert REASON in (await status_of(settings)).not_serving
        assert not again._stopped.done()


@pytest.mark.parametrize("turns", [0, 1, 5, 50])
async def test_a_stop_while_a_node_leaves_service_leaves_nothing_open(
    tmp_path: Path, turns: int
) -> None:
    settings = settings_of(tmp_path / "node")
    process = NodeProcess(settings)
    await process.start()
    process._node.driver.finish(OutOfService(REASON))
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await process.stop()
    assert await is_free(settings)
    identity = read_identity(settings.data_dir)
    assert identity is not None
    assert identity.out_of_service == REASON
    async with running(settings):
        assert REASON in (await status_of(settings)).not_serving


async def test_a_node_that_leaves_service_while_it_stops_has_stored_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path / "node")
    process = NodeProcess(settings)
    await process.start()
    drain = process._client_server.drain

    async def drain_and_leave(grace_s: float) -> None:
        process._node.driver.finish(OutOfService(REASON))
        await drain(grace_s)

    monkeypatch.setattr(process._client_server, "drain", drain_and_leave)
    async with asyncio.timeout(PATIENCE_S):
        await process.stop()
    assert await is_free(settings)
    identity = read_identity(settings.data_dir)
    assert identity is not None
    assert identity.out_of_service == REASON


async def test_a_node_that_can_not_store_why_it_left_service_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path / "node")
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with running(settings) as process:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("raftkv.storage.directory.write_durably", full)
        process._node.driver.finish(OutOfService(REASON))
        async with asyncio.timeout(PATIENCE_S):
            reason = await process.wait_stopped()
        assert isinstance(reason, OutOfService)
        assert reason.message == REASON


async def test_a_node_whose_client_port_is_taken_when_it_enters_standby_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path / "node")
    async with running(settings) as process:

        async def taken(_: object, address: str) -> int:
            raise AddressInUse(f"the client port can't listen on {address}")

        monkeypatch.setattr(standby.StandbyServer, "start", taken)
        process._node.driver.finish(OutOfService(REASON))
        async with asyncio.timeout(PATIENCE_S):
            reason = await process.wait_stopped()
        assert reason is not None
        assert settings.client_listen in str(reason)
