"""Settings that change in a running node, each with its effect on later requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_node import FakeServer, open_server, put
from test_access import call, error_of
from test_lock_waits import join, stub, wait_request
from test_watch_service import WatchCall
from users import Users

from raftkv.config import LIVE_SETTINGS, Settings
from raftkv.errors import ConfigurationError, InvalidRequest, Overloaded
from raftkv.logs import get_level, get_logger, set_level
from raftkv.rpc.v1 import api_pb2
from raftkv.server.access import REFLECTION
from raftkv.server.reload import SettingsReload
from raftkv.server.watch import service

RELOAD = api_pb2.ReloadConfigRequest()

# Each has a test of its effect below.
TESTED = {
    *("open_health", "open_reflection", "log_level", "requests_per_client_max"),
    *("watches_max", "watches_per_stream_max", "watch_buffer_bytes_max"),
    *("request_timeout_ms_default", "request_timeout_ms_max"),
}


class Sources:
    """What the file, environment and flags of a node say."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def read(self) -> Settings:
        return Settings(**self.values)


def reload_of(server: FakeServer, sources: Sources) -> SettingsReload:
    reload = SettingsReload(sources.read(), sources.read, server.client_server.apply, get_logger())
    server.client_server.offer_reload(reload.reload)
    return reload


async def reloaded(server: FakeServer, **changes: Any) -> api_pb2.ReloadConfigReply:
    """The reply of the RPC after these settings have changed in the sources."""
    sources = Sources()
    reload_of(server, sources)
    sources.values |= changes
    reply: api_pb2.ReloadConfigReply = await server.cluster.ReloadConfig(RELOAD)
    return reply


def test_every_live_setting_is_in_the_tests_of_this_file() -> None:
    assert set(LIVE_SETTINGS) == TESTED


async def test_the_answer_names_what_has_changed_and_what_needs_a_restart(
    tmp_path: Path,
) -> None:
    async with open_server(tmp_path) as server:
        sources = Sources()
        reload = reload_of(server, sources)
        sources.values |= {"watches_max": 5, "tick_ms": 60, "node_id": 2}
        done = await reload.reload()
        assert [(each.name, each.before, each.after) for each in done.changed] == [
            ("watches_max", "100000", "5")
        ]
        restart = {each.name: (each.before, each.after) for each in done.needs_restart}
        assert restart["tick_ms"] == ("50", "60")
        assert restart["client_listen"] == ("127.0.0.1:7411", "127.0.0.1:7412")
        again = await reload.reload()
        assert not again.changed
        assert {each.name for each in again.needs_restart} == set(restart)
        sources.values = {"watches_max": 5}
        assert not (await reload.reload()).needs_restart


async def test_an_invalid_setting_changes_nothing_and_the_caller_learns_it(
    tmp_path: Path,
) -> None:
    async with open_server(tmp_path) as server:
        sources = Sources()
        reload = reload_of(server, sources)
        sources.values |= {"watches_max": 5, "request_timeout_ms_max": 1}
        error = await error_of(server.cluster.ReloadConfig(RELOAD))
        assert isinstance(error, InvalidRequest)
        assert "request_timeout_ms_max is 1, but must be" in error.message
        del sources.values["request_timeout_ms_max"]
        assert [each.name for each in (await reload.reload()).changed] == ["watches_max"]


async def test_a_node_whose_settings_have_no_sources_says_so(tmp_path: Path) -> None:
    async with open_server(tmp_path) as server:
        error = await error_of(server.cluster.ReloadConfig(RELOAD))
        assert isinstance(error, InvalidRequest)
        assert "come from the program" in error.message


async def test_the_log_level_changes_only_if_its_setting_does(tmp_path: Path) -> None:
    before = get_level()
    try:
        async with open_server(tmp_path) as server:
            sources = Sources()
            reload = reload_of(server, sources)
            set_level("warning")  # as `raftkv log-level` does
            sources.values["watches_max"] = 5
            await reload.reload()
            assert get_level() == "warning"
            sources.values["log_level"] = "error"
            await reload.reload()
            assert get_level() == "error"
    finally:
        set_level(before)


async def test_health_and_reflection_are_closed_and_opened(tmp_path: Path) -> None:
    async with open_server(tmp_path) as server:
        Users(server.node)
        await call(server.channel, "/grpc.health.v1.Health/Check")
        server.client_server.apply(Settings(open_health=False, open_reflection=True))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call(server.channel, "/grpc.health.v1.Health/Check")
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await call(server.channel, f"/{REFLECTION}/ServerReflectionInfo")


@pytest.mark.parametrize(
    ("changes", "timeout_s"),
    [
        ({"request_timeout_ms_default": 50}, None),
        ({"request_timeout_ms_default": 50, "request_timeout_ms_max": 100}, 30.0),
    ],
)
async def test_requests_have_the_new_default_and_longest_timeout(
    tmp_path: Path, changes: dict[str, Any], timeout_s: float | None
) -> None:
    async with open_server(tmp_path) as server:
        await reloaded(server, **changes)
        join(server)
        async with asyncio.timeout(4):  # less than the default before
            with pytest.raises(grpc.aio.AioRpcError):
                await stub(server).Wait(wait_request(join(server)), timeout=timeout_s)


async def test_a_client_has_no_more_requests_in_flight_than_the_new_bound(
    tmp_path: Path,
) -> None:
    async with open_server(tmp_path) as server:
        await reloaded(server, requests_per_client_max=1)
        server.node.hold = True
        request = api_pb2.ExecuteRequest(command=put("a", b"1"))
        first = asyncio.ensure_future(server.kv.Execute(request))
        admission = server.client_server._admission
        while not admission.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert isinstance(await error_of(server.kv.Execute(request)), Overloaded)
        server.node.release()
        await first


@pytest.mark.parametrize(
    ("changes", "watches"), [({"watches_max": 1}, 1), ({"watches_per_stream_max": 2}, 2)]
)
async def test_a_new_stream_has_the_new_bound_of_watches(
    tmp_path: Path, changes: dict[str, Any], watches: int
) -> None:
    async with open_server(tmp_path) as server:
        await reloaded(server, **changes)
        stream = WatchCall(server)
        for number in range(1, watches + 2):
            await stream.create(number, b"k")
        ended: list[int] = []
        while not ended:
            for news in (await stream.reply()).news:
                ended += news.watch_ids if news.HasField("ended") else ()
        assert ended == [watches + 1]


async def test_a_new_stream_has_the_new_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    made = service.ResponseStream

    def noted(write: Any, header: Any, bytes_max: int, **fields: Any) -> Any:
        sizes.append(bytes_max)
        return made(write, header, bytes_max, **fields)

    monkeypatch.setattr(service, "ResponseStream", noted)
    async with open_server(tmp_path) as server:
        await reloaded(server, watch_buffer_bytes_max=1 << 10)
        stream = WatchCall(server)
        await stream.create(1, b"k")
        await stream.reply()
        assert sizes == [1 << 10]


async def test_sources_that_cannot_be_read_leave_the_node_as_it_is() -> None:
    def broken() -> Settings:
        raise ConfigurationError("it can't be read")

    applied: list[Settings] = []
    reload = SettingsReload(Settings(), broken, applied.append, get_logger())
    with pytest.raises(ConfigurationError):
        await reload.reload()
    assert not applied
