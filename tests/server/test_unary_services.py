"""The unary calls, as a person with a generic gRPC client makes them."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_node import Door, get, open_door, put
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from raftkv import errors, logs
from raftkv.config import Settings
from raftkv.errors import DamagedData, Outcome, RaftkvError
from raftkv.kv.store import Family
from raftkv.logs import get_logger
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server.grpc_server import ClientServer
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.wire.grpc_status import error_of_call

STALE = api_pb2.READ_LEVEL_STALE


async def error_of(call: Awaitable[Any]) -> tuple[grpc.StatusCode, RaftkvError]:
    """The code and the typed error with which the call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call
    error = error_of_call(ended.value)
    assert error is not None, ended.value
    return ended.value.code(), error


def execute(door: Door, command: kv_pb2.Command, **options: Any) -> Awaitable[Any]:
    call: Awaitable[Any] = door.kv.Execute(api_pb2.ExecuteRequest(command=command), **options)
    return call


async def test_what_was_put_is_read_back(door: Door) -> None:
    put_reply = await execute(door, put("a", b"1"))
    range_reply = await door.kv.Range(api_pb2.RangeRequest(range=get("a")))

    assert put_reply.result.revision == 2
    assert range_reply.result.kvs[0].value == b"1"
    assert range_reply.header.revision == 2


async def test_a_command_that_the_store_refuses_ends_the_call_with_its_reason(door: Door) -> None:
    code, error = await error_of(execute(door, put("a", lease=99)))

    assert code is grpc.StatusCode.NOT_FOUND
    assert isinstance(error, errors.LeaseNotFound)
    assert error.outcome is Outcome.NOT_APPLIED


async def test_a_bad_command_is_refused_before_the_log(door: Door) -> None:
    code, error = await error_of(execute(door, put("")))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "put.key" in error.message
    assert door.node.submitted == []


async def test_a_bad_range_is_refused(door: Door) -> None:
    request = api_pb2.RangeRequest(range=kv_pb2.Range(key=b"a", revision=7))

    code, error = await error_of(door.kv.Range(request))

    assert code is grpc.StatusCode.OUT_OF_RANGE
    assert isinstance(error, errors.RevisionInFuture)


async def test_a_write_that_got_no_answer_in_time_is_reported_as_unknown_by_the_server(
    door: Door,
) -> None:
    door.node.majority = False

    code, error = await error_of(execute(door, put("a"), timeout=0.5))

    assert code is grpc.StatusCode.UNKNOWN
    assert isinstance(error, errors.OutcomeUnknown)


async def test_a_linearizable_range_needs_a_majority_and_a_stale_one_does_not(door: Door) -> None:
    door.node.run(put("a"))
    door.node.majority = False

    code, _ = await error_of(door.kv.Range(api_pb2.RangeRequest(range=get("a")), timeout=0.5))
    stale = await door.kv.Range(api_pb2.RangeRequest(range=get("a"), level=STALE))

    assert code is grpc.StatusCode.UNAVAILABLE
    assert stale.result.count == 1


async def test_over_the_bound_a_call_is_refused_with_retry_info_and_status_still_answers(
    tmp_path: Path,
) -> None:
    async with open_door(tmp_path, submissions_in_flight_max=1) as door:
        door.node.hold = True
        pipeline = door.pipeline()
        await pipeline.send_commands(1, put("a"))
        await door.node.submissions(1)

        code, error = await error_of(execute(door, put("b")))

        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.outcome is Outcome.SAFE_TO_RETRY
        assert error.retry_after_s > 0
        assert (await door.cluster.Status(api_pb2.StatusRequest())).header.node_id == 1


async def test_damaged_data_is_not_served_and_stops_the_node(tmp_path: Path) -> None:
    class DamagedStore(MemoryStateStore):
        def get(self, family: Family, key: bytes) -> bytes | None:
            if family is Family.CURRENT:
                raise DamagedData("checksum mismatch")
            return super().get(family, key)

    async with open_door(tmp_path, DamagedStore()) as door:
        code, error = await error_of(door.kv.Range(api_pb2.RangeRequest(range=get("a"))))

        assert code is grpc.StatusCode.DATA_LOSS
        assert error.outcome is Outcome.SAFE_TO_RETRY
        assert isinstance(door.broken[0], DamagedData)


async def test_a_calls_event_carries_the_request_id_of_its_caller(door: Door) -> None:
    previous = logs.set_level("debug")
    try:
        with capture_logs(processors=[merge_contextvars]) as events:
            await execute(door, put("a"), metadata=(("x-request-id", "order-17"),))
    finally:
        logs.set_level(previous)

    (event,) = [event for event in events if event["event"] == "call"]
    assert (event["request_id"], event["kind"], event["failure"]) == (
        "order-17",
        "kv.execute",
        None,
    )


async def test_a_lease_says_how_long_it_lives_and_what_hangs_on_it(door: Door) -> None:
    grant = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(lease=5, ttl_ms=9000))
    door.node.run(grant, put("a", lease=5), put("b", lease=5))

    reply = await door.lease.TimeToLive(api_pb2.LeaseTimeToLiveRequest(lease=5, keys=True))

    assert (reply.lease, reply.granted_ttl_ms, list(reply.keys)) == (5, 9000, [b"a", b"b"])
    assert 0 < reply.ttl_ms <= 9000
    assert list((await door.lease.List(api_pb2.LeaseListRequest())).leases) == [5]


async def test_a_lease_that_does_not_exist_has_minus_one_left(door: Door) -> None:
    reply = await door.lease.TimeToLive(api_pb2.LeaseTimeToLiveRequest(lease=5))

    assert reply.ttl_ms == -1


async def test_status_answers_without_a_majority(door: Door) -> None:
    door.node.majority = False

    status = await door.cluster.Status(api_pb2.StatusRequest())

    assert (status.role, status.leader_id) == (api_pb2.ROLE_LEADER, 1)
    assert (status.header.term, status.header.cluster_id) == (3, 0xC0FFEE)
    assert [(member.node_id, member.learner) for member in status.members] == [(1, False)]
    assert status.peers[0].reachability == api_pb2.REACHABILITY_SUSPECT
    assert (status.peers[0].match_index, status.peers[0].last_contact_ms) == (40, 1500)
    assert status.version
    assert min(status.memory_bytes, status.disk_free_bytes) > 0


async def test_the_member_list_is_linearizable(door: Door) -> None:
    door.node.majority = False

    code, _ = await error_of(door.cluster.MemberList(api_pb2.MemberListRequest(), timeout=0.5))

    assert code is grpc.StatusCode.UNAVAILABLE


async def test_leadership_is_given_to_whom_the_operator_names(door: Door) -> None:
    reply = await door.cluster.TransferLeader(api_pb2.TransferLeaderRequest(node_id=2))

    assert (door.node.leader_given_to, reply.leader_id) == ([2], 2)


async def test_the_log_level_changes_while_running(door: Door) -> None:
    before = logs.get_level()
    try:
        reply = await door.cluster.SetLogLevel(api_pb2.SetLogLevelRequest(level="error"))
        assert (reply.previous, logs.get_level()) == (before, "error")
    finally:
        logs.set_level(before)


async def test_an_unknown_log_level_is_refused_with_those_there_are(door: Door) -> None:
    request = api_pb2.SetLogLevelRequest(level="loud")

    code, error = await error_of(door.cluster.SetLogLevel(request))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "debug, info, warning, error" in error.message


async def test_a_port_that_is_taken_is_reported_with_its_address(
    door: Door, tmp_path: Path
) -> None:
    taken = f"127.0.0.1:{door.port}"
    second = ClientServer(door.node, Settings(data_dir=tmp_path), get_logger(), door.broken.append)

    with pytest.raises(errors.AddressInUse, match=taken):
        await second.start(taken)
