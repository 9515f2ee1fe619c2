"""Logging in, the tokens of calls and streams, and what a refusal means for calls under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

import raftkv
from raftkv.client.client import Client
from raftkv.client.credentials import credentials_of
from raftkv.errors import (
    ConfigurationError,
    ConnectionFailed,
    DeadlineExceeded,
    NoLeader,
    Outcome,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    RaftkvError,
    Unauthenticated,
)
from tests.client.authenticating_cluster import TTL_S, AuthenticatingCluster

Connected = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
async def cluster() -> AuthenticatingCluster:
    return AuthenticatingCluster("a:1", "b:2", "c:3")


@pytest.fixture
async def connected(cluster: AuthenticatingCluster) -> Connected:
    @asynccontextmanager
    async def client(**how: str) -> AsyncIterator[Client]:
        before = asyncio.all_tasks()
        made = await cluster.connect_as(**(how or {"password": "right"}))
        try:
            yield made
        finally:
            await made.close()
        assert asyncio.all_tasks() == before, "a closed client has no task"

    return client


async def test_one_log_in_serves_calls_and_streams(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        await asyncio.gather(*(client.put(f"k{i}", "v") for i in range(10)))
        await client.member_list()
    assert len(cluster.log_ins) == 1
    assert len(cluster.store.puts) == 10


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_token_is_replaced_before_it_ends_on_the_open_stream(
    cluster: AuthenticatingCluster, connected: Connected, at_once: bool
) -> None:
    cluster.refuse_streams_at_once = at_once
    async with connected() as client:
        for number in range(10):
            await client.put(f"k{number}", "v")
            await asyncio.sleep(TTL_S / 3)
            if not number:
                opened = sum(node.connections for node in cluster.nodes.values())
    # One at the start, then one every two thirds of a token's life.
    assert len(cluster.log_ins) == 6
    assert cluster.stream_tokens == [f"token-{number}" for number in range(2, 7)]
    assert sum(node.connections for node in cluster.nodes.values()) == opened


async def test_what_is_refused_for_an_ended_token_is_sent_again_after_one_log_in(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        await client.put("first", "opens the session")
        cluster.end_tokens()
        await asyncio.gather(client.put("k", "v"), client.put("l", "v"))
        cluster.end_tokens()
        await client.member_list()
        cluster.end_tokens()
        assert (await client.status("b:2")).node_id == 1
    assert cluster.store.puts == [b"first", b"k", b"l"]
    assert len(cluster.log_ins) == 4


async def test_a_single_attempt_survives_an_ended_token(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        await client.put("first", "opens the session")
        cluster.end_tokens()
        await client.put("k", "v", timeout=0)
        cluster.end_tokens()
        await client.member_list(timeout=0)


async def test_a_wrong_password_is_the_error_of_connect(cluster: AuthenticatingCluster) -> None:
    with pytest.raises(Unauthenticated, match="name or password is wrong"):
        await cluster.connect_as(password="wrong")
    assert len(cluster.log_ins) == 1


async def test_without_credentials_the_error_of_connect_is_unauthenticated(
    cluster: AuthenticatingCluster,
) -> None:
    with pytest.raises(Unauthenticated):
        await cluster.connect_as()


async def test_calls_under_way_fail_once_the_password_was_changed(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        await client.put("first", "opens the session")
        cluster.end_tokens()
        cluster.password = "another"
        answers = await asyncio.gather(
            client.put("k", "v"), client.get("k"), client.member_list(), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [Unauthenticated] * 3
        assert len({id(answer) for answer in answers}) == 3
        with pytest.raises(Unauthenticated):
            await client.put("k", "v")
        assert len(cluster.log_ins) == 2, "no log-in right after a refused one"
        cluster.password = "right"
        await asyncio.sleep(1.0)
        await client.put("k", "v")
    assert cluster.store.puts == [b"first", b"k"]


async def test_a_token_that_no_node_accepts_is_replaced_once(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        await client.put("first", "opens the session")
        cluster.refusal_of = lambda token: Unauthenticated("not this one")  # type: ignore[method-assign]
        with pytest.raises(Unauthenticated, match="not this one"):
            await client.put("k", "v")
        with pytest.raises(Unauthenticated, match="not this one"):
            await client.member_list()
        assert len(cluster.log_ins) == 2


async def test_a_refused_log_in_is_not_repeated_before_the_time_that_the_node_names(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        cluster.end_tokens()
        cluster.log_in_refusal = Overloaded("too many attempts", retry_after_s=20.0)
        with pytest.raises(DeadlineExceeded):
            await client.put("k", "v")
        cluster.log_in_refusal = None
        await client.put("k", "v", timeout=30.0)
        first, *later = [log_in.at for log_in in cluster.log_ins[1:]]
        (second,) = later
        assert second - first >= 20.0


async def test_an_outage_at_the_time_of_renewal_fails_no_call_after_it(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        await client.put("first", "opens the session")
        cluster.log_in_refusal = NoLeader("no leader")
        await asyncio.sleep(TTL_S + 1.0)
        cluster.log_in_refusal = None
        await client.put("k", "v")


async def test_a_new_token_that_ends_in_an_outage_before_its_first_use_is_replaced(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    # jepsen-lite seed 804: two refusals with an outage between them were taken for a refused user.
    async with connected() as client:
        await client.put("first", "opens the session")
        cluster.end_tokens()
        valid, outage_until = cluster.refusal_of, cluster.loop.time() + TTL_S + 2.0

        def refusal(token: str) -> RaftkvError | None:
            if token == "token-2" and not valid(token):
                cluster.log_in_refusal = NoLeader("no leader")
                return NoLeader("no leader")
            return valid(token)

        cluster.refusal_of = refusal  # type: ignore[assignment]

        def outage_ends() -> None:
            cluster.log_in_refusal = None
            cluster.refusal_of = valid  # type: ignore[method-assign]

        cluster.loop.call_at(outage_until, outage_ends)
        await client.member_list(timeout=50.0)
        assert len(cluster.log_ins) > 2


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_service_token_is_sent_as_it_is_and_its_refusal_is_final(
    cluster: AuthenticatingCluster, connected: Connected, at_once: bool
) -> None:
    cluster.refuse_streams_at_once = at_once
    token = cluster.new_token()
    async with connected(token=token) as client:
        await client.put("k", "v")
        cluster.end_tokens()
        started = cluster.loop.time()
        for call in (client.put("l", "v"), client.get("k"), client.member_list()):
            with pytest.raises(Unauthenticated):
                await call
        assert cluster.loop.time() - started < 1.0
    assert not cluster.log_ins


async def test_the_password_is_sent_to_no_other_cluster(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        await client.put("first", "opens the session")
        for address in ("a:1", "b:2"):
            cluster.nodes[address].cluster_id = 8
        cluster.end_tokens()
        await client.put("k", "v")
        assert [log_in.node for log_in in cluster.log_ins[1:]] == ["c:3"]


async def test_without_a_node_the_error_of_connect_says_so(cluster: AuthenticatingCluster) -> None:
    for node in cluster.nodes.values():
        node.kill()
    with pytest.raises(ConnectionFailed, match="is the cluster running"):
        await cluster.connect_as(password="right", timeout=1.0)
    assert cluster.loop.time() < 1.1


async def test_a_password_that_no_node_can_check_in_time_is_no_wrong_password(
    cluster: AuthenticatingCluster,
) -> None:
    cluster.log_in_refusal = NoLeader("no leader")
    with pytest.raises(DeadlineExceeded, match="no node could check the password of 'ann'"):
        await cluster.connect_as(password="right", timeout=1.0)


# ---- refusals of batches ---------------------------------------------------------------


async def test_a_call_without_the_right_fails_alone(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        await client.put("first", "opens the session")
        cluster.script.append(PermissionDenied("no write access to l", position=1))
        keys = ("k", "l", "m")
        answers = await asyncio.gather(
            *(client.put(key, "v") for key in keys), return_exceptions=True
        )
        assert isinstance(answers[1], PermissionDenied)
        assert answers[1].outcome is Outcome.NOT_APPLIED
    assert cluster.store.puts == [b"first", b"k", b"m"]


@pytest.mark.parametrize("kind", [PermissionDenied, Unauthenticated])
async def test_a_repeated_batch_that_is_refused_may_have_been_applied(
    cluster: AuthenticatingCluster, kind: type[PermissionDenied | Unauthenticated]
) -> None:
    client = await cluster.connect_as(token=cluster.new_token())
    await client.put("first", "opens the session")
    cluster.script.extend([OutcomeUnknown("the leader changed"), kind("not any more", position=1)])
    answers = await asyncio.gather(
        client.put("k", "v"), client.put("l", "v"), return_exceptions=True
    )
    other, refused = answers
    assert isinstance(refused, kind)
    assert refused.outcome is Outcome.MAYBE_APPLIED
    assert "may have been applied" in refused.message
    assert isinstance(other, OutcomeUnknown)
    await client.close()


async def test_a_withheld_result_is_reported_and_not_asked_for_again(
    cluster: AuthenticatingCluster, connected: Connected
) -> None:
    async with connected() as client:
        await client.put("first", "opens the session")
        withheld = PermissionDenied("no read access")
        withheld.outcome = Outcome.MAYBE_APPLIED
        cluster.script.append(withheld)
        with pytest.raises(PermissionDenied) as caught:
            await client.put("k", "v")
        assert caught.value.outcome is Outcome.MAYBE_APPLIED
        assert len(cluster.writes) == 2


# ---- credentials -----------------------------------------------------------------------


def test_credentials_come_from_arguments_or_from_files_of_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from the file\n")
    user, password_file = {"RAFTKV_USER": "ann"}, {"RAFTKV_PASSWORD_FILE": str(secret)}
    found = credentials_of(None, None, None, {**user, **password_file})
    assert (found.user, found.password) == ("ann", "from the file")
    assert credentials_of("bob", None, None, password_file).password == "from the file"
    assert credentials_of("bob", "given", None, {**user, **password_file}).user == "bob"
    secret.write_text("a-token\n")
    assert credentials_of(None, None, None, {"RAFTKV_TOKEN_FILE": str(secret)}).token == "a-token"
    assert credentials_of("bob", "given", None, {"RAFTKV_TOKEN_FILE": str(secret)}).token == ""
    assert credentials_of(None, None, None, {}) == credentials_of("", "", "", {})


@pytest.mark.parametrize(
    ("given", "environ"),
    [
        ({"user": "ann"}, {}),
        ({"password": "s3cret"}, {}),
        ({"user": "ann", "token": "s3cret"}, {}),
        ({"token": "s3cret with spaces"}, {}),
        ({"user": "bob"}, {"RAFTKV_USER": "ann", "RAFTKV_PASSWORD_FILE": __file__}),
        ({}, {"RAFTKV_USER": "ann", "RAFTKV_TOKEN_FILE": "there"}),
        ({}, {"RAFTKV_TOKEN_FILE": "/nowhere"}),
    ],
)
def test_incomplete_credentials_are_refused_and_not_shown(
    given: dict[str, str], environ: dict[str, str]
) -> None:
    every = {"user": None, "password": None, "token": None, **given}
    with pytest.raises(ConfigurationError) as caught:
        credentials_of(**every, environ=environ)  # type: ignore[arg-type]
    assert "s3cret" not in f"{caught.value} {caught.value.facts}"


def test_secrets_are_in_no_repr_and_a_password_in_an_address_is_refused_unseen() -> None:
    assert "s3cret" not in repr(credentials_of("ann", "s3cret", None, {}))
    assert "s3cret" not in repr(credentials_of(None, None, "s3cret", {}))
    assert "s3cret" not in repr(raftkv.NewToken("1", "s3cret"))
    for endpoint in ("ann:s3cret@a:1", "raftkvs://ann:s3cret@a:1"):
        with pytest.raises(ConfigurationError) as caught:
            raftkv.connect(endpoint)
        assert "s3cret" not in f"{caught.value} {caught.value.facts}"
