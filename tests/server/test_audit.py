"""Administrative acts and refusals are in the audit log; secrets and values are in no log."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import argon2
import pytest
from fake_node import FakeServer, put
from secured_node import PASSWORD, SecuredNode, secured_node, settings_of
from structlog.testing import capture_logs

from raftkv.errors import Overloaded, PermissionDenied, RaftkvError, Unauthenticated
from raftkv.kv.rights import ROOT
from raftkv.logs import LOG_INTERVAL_S, get_logger
from raftkv.peer.ports import Forward, Submission
from raftkv.raft.entry import EntryKind
from raftkv.raft.messages import AppendEntries
from raftkv.rpc.v1 import api_pb2 as api
from raftkv.rpc.v1 import auth_pb2, kv_pb2, log_pb2
from raftkv.server import audit, passwords
from raftkv.server.audit import Audit, address_of, network_of, target_of
from raftkv.server.authentication import Authenticator
from raftkv.server.root_reset import write_root_reset

ACTS = {
    *(f"Auth.{each}" for each in ("Authenticate", "Enable", "Disable", "RootReset")),
    *(f"Auth.User{each}" for each in ("Add", "Delete", "SetPassword", "GrantRole", "RevokeRole")),
    *(f"Auth.Role{each}" for each in ("Add", "Delete", "Grant", "Revoke")),
    *("Auth.TokenCreate", "Auth.TokenRevoke", "KV.Compact"),
    *(f"Cluster.Member{each}" for each in ("Add", "Promote", "Remove", "Replace", "Update")),
    *("Cluster.MemberJoin", "Cluster.TransferLeader", "Cluster.SetLogLevel"),
    "Cluster.ReloadConfig",
}

VALUE = b"a value that is nobody else's business"
NEW_PASSWORD, RESET_PASSWORD, WRONG = "tr0ub4dor", "found again", "my other password"


@dataclass
class Secrets:
    texts: list[str] = field(
        default_factory=lambda: [PASSWORD, NEW_PASSWORD, RESET_PASSWORD, WRONG]
    )
    raw: list[bytes] = field(default_factory=lambda: [VALUE])

    def found_in(self, text: str) -> list[str]:
        parts = list(self.texts)
        for each in self.raw:
            parts += [each.decode(errors="ignore"), each.hex(), repr(each)[2:-1]]
            parts.append(repr(auth_pb2.SigningKey(secret=each))[len('secret: "') : -len('"\n')])
        return [part for part in parts if len(part) > 3 and part in text]


@pytest.fixture(autouse=True)
def fast_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = argon2.Parameters(argon2.Type.ID, 19, 16, 32, 1, 8, 1)
    monkeypatch.setattr(passwords, "PARAMETERS", cheap)


async def every_act(node: SecuredNode, secrets: Secrets) -> None:
    root = await node.add_root()
    await node.auth("Enable", root)
    reads = auth_pb2.Permission(access=auth_pb2.ACCESS_READ, key=b"a", range_end=b"b")
    await node.auth("UserAdd", root, name="app", password=PASSWORD)
    await node.auth("RoleAdd", root, name="reader")
    await node.auth("RoleGrant", root, role="reader", permission=reads)
    await node.auth("RoleGrant", root, role="reader", admin_right=auth_pb2.ADMIN_RIGHT_SESSIONS)
    await node.auth("UserGrantRole", root, name="app", role="reader")
    app = await node.authenticate("app")
    await node.auth("UserSetPassword", app, name="app", password=NEW_PASSWORD)
    app = await node.authenticate("app", NEW_PASSWORD)
    token = await node.auth("TokenCreate", root, user="app", ttl_ms=60_000)
    secrets.texts += [root, app, token.token, token.token.split("_", 2)[2]]
    for wrong in ("app", WRONG):
        await node.refused("Authenticate", name=wrong, password=WRONG)
    execute = api.ExecuteRequest(command=put("a", VALUE))
    await node.call("KV", "Execute", execute, root)
    for forbidden in (token.token, app, root + "x", ""):
        with pytest.raises(RaftkvError):
            await node.call("KV", "Execute", execute, forbidden)
    compact = kv_pb2.Command(compact=kv_pb2.Compact(revision=2))
    await node.call("KV", "Execute", api.ExecuteRequest(command=compact), root)
    await cluster_acts(node, root)
    await node.auth("TokenRevoke", root, id=token.id)
    await node.auth("RoleRevoke", root, role="reader", permission=reads)
    await node.auth("UserRevokeRole", root, name="app", role="reader")
    await node.auth("RoleDelete", root, name="reader")
    await node.auth("UserDelete", root, name="app")
    await node.auth("Disable", await node.authenticate())


async def cluster_acts(node: SecuredNode, token: str) -> None:
    """What a cluster of one node refuses is an act all the same."""
    addresses = {"peer_address": "127.0.0.1:1", "client_address": "127.0.0.1:2"}
    member = api.Member(node_id=2, **addresses)
    for request in (
        api.MemberAddRequest(member=member),
        api.MemberPromoteRequest(node_id=2),
        api.MemberReplaceRequest(old_id=1, new_id=2),
        api.MemberUpdateRequest(member=member),
        api.MemberJoinRequest(node_id=9, disk_id=9, version_max=9, **addresses),
        api.MemberRemoveRequest(node_id=2),
        api.TransferLeaderRequest(node_id=7),
        api.ReloadConfigRequest(),
        api.SetLogLevelRequest(level="error"),
        api.SetLogLevelRequest(level="debug"),
    ):
        try:
            method = type(request).__name__.removesuffix("Request")
            await node.call("Cluster", method, request, token)
        except RaftkvError:
            continue


async def test_every_act_is_in_the_audit_log_and_no_secret_is_in_any(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftkv.logs.LOG_INTERVAL_S", 0.0)
    monkeypatch.setattr(audit, "REFUSALS_PER_INTERVAL_MAX", 10_000)
    settings = settings_of(tmp_path / "node")
    secrets = Secrets()
    texts: list[str] = []
    with capture_logs() as events:
        async with secured_node(settings) as node:
            await every_act(node, secrets)
            texts += reprs_of_core(node, secrets)
            before = credentials_of_root(node)
        write_root_reset(settings.data_dir, RESET_PASSWORD)
        async with secured_node(settings) as node:
            await node.until(lambda: credentials_of_root(node) != before)
            secrets.texts.append(await node.authenticate(ROOT, RESET_PASSWORD))
    audited = [event for event in events if event["event"] == "audit"]
    assert ACTS - {event["what"] for event in audited} == set()
    refused = {(event["who"], event["reason"]) for event in audited if event["result"] == "refused"}
    assert refused == {
        ("app", "UNAUTHENTICATED"),
        ("", "UNAUTHENTICATED"),
        ("app", "PERMISSION_DENIED"),
    }
    assert all(event["address"] for event in audited)
    texts += [repr(event) for event in events]
    assert len(secrets.texts) > 8
    assert not [found for text in texts for found in secrets.found_in(text)]
    printed = "".join(capfd.readouterr())
    assert not secrets.found_in(printed)


def credentials_of_root(node: SecuredNode) -> int:
    """The revision that set the password of root."""
    root = node.machine.rights.user_named(ROOT)
    assert root is not None
    return root.credentials


def reprs_of_core(node: SecuredNode, secrets: Secrets) -> list[str]:
    """Values that an error, a debugger or a test may print, with the secrets that are in them."""
    inner: Any = node.process._node
    log, rights = inner.core.log, inner.machine.rights
    entries = log.entries(log.first_index, log.last_index + 1, 1 << 20)
    for entry in entries:
        if entry.kind is EntryKind.COMMANDS:
            for each in log_pb2.StampedBatch.FromString(entry.payload).submissions:
                for command in kv_pb2.CommandBatch.FromString(each.commands).commands:
                    change = command.auth
                    secrets.raw += [
                        change.signing_key_rotate.secret,
                        change.token_create.secret_hash,
                    ]
                    secrets.texts += [
                        change.user_add.password_hash,
                        change.user_set_password.password_hash,
                    ]
    secrets.raw += [key.secret for key in rights.signing_keys]
    commands = b"".join(entry.payload for entry in entries)
    submission = Submission(1, 1, commands)
    credential = Authenticator(inner).of_token(secrets.texts[4])
    found = [
        *(node.process._settings, node.process, inner, inner.driver, inner.machine, rights),
        *(entries, submission, Forward(1, 0, (submission,)), credential),
        AppendEntries(1, 2, 1, 0, 0, 0, entries),
        node.process._client_server._auth,
    ]
    return [repr(each) for each in found]


async def test_a_compaction_in_a_batch_is_an_act_of_its_own(server: FakeServer) -> None:
    def compact(revision: int) -> kv_pb2.Command:
        return kv_pb2.Command(compact=kv_pb2.Compact(revision=revision))

    pipeline = server.pipeline()
    with capture_logs() as events:
        await pipeline.send_commands(1, put("a"), put("a"), compact(2), compact(999))
        await pipeline.reply()
    audited = [
        (event["what"], event["revision"], event["result"], event.get("reason"))
        for event in events
        if event["event"] == "audit"
    ]
    assert audited == [
        ("KV.Compact", 2, "done", None),
        ("KV.Compact", 999, "failed", "REVISION_IN_FUTURE"),
    ]


# ---- bounds --------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_refusals_are_bounded_per_address_and_in_all_and_none_is_forgotten() -> None:
    clock = Clock()
    log = Audit(get_logger(), clock)
    with capture_logs() as events:
        for _ in range(5):
            log.refused("", "192.0.2.1", "KV.Range", Unauthenticated("no"))
        for number in range(2, 2_000):
            log.refused("", f"192.0.{number // 250}.{number % 250}", "x", PermissionDenied("no"))
        first = len(events)
        clock.now += LOG_INTERVAL_S
        log.refused("", "192.0.2.1", "KV.Range", Unauthenticated("no"))
    assert first == audit.REFUSALS_PER_INTERVAL_MAX
    assert len(events) == first + 1
    kept = sum(lines.suppressed for lines in log._rate._names.values())
    assert kept + events[-1]["suppressed"] == 5 + 1998 + 1 - len(events)


def test_an_act_that_is_done_is_always_written_and_one_that_fails_is_limited() -> None:
    log = Audit(get_logger(), Clock())
    with capture_logs() as events:
        for _ in range(30):
            log.act("root", "192.0.2.1", "Auth.RoleAdd", name="r")
            log.act("root", "192.0.2.1", "Auth.RoleAdd", Overloaded("full"), name="r")
    assert [event["result"] for event in events].count("done") == 30
    assert [event["result"] for event in events].count("failed") == 1


@pytest.mark.parametrize(
    ("peer", "address", "network"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::1", "2001:db8::"),
        ("ipv6:[::1]:5000", "::1", "::"),
        ("unix:/tmp/socket", "unix:/tmp/socket", "unix:/tmp/socket"),
    ],
)
def test_addresses_of_peers(peer: str, address: str, network: str) -> None:
    assert (address_of(peer), network_of(address)) == (address, network)


def test_what_a_client_sends_can_not_forge_a_line_of_the_log() -> None:
    named = target_of(api.UserAddRequest(name="x\nfake [info] audit" + "x" * 1000, password="p"))
    assert "\n" not in str(named["name"])
    assert len(str(named["name"])) < 300
    assert "password" not in named
    wide = target_of(api.RoleGrantRequest(role="r", admin_right=99))  # type: ignore[arg-type]
    assert wide == {"role": "r", "admin_right": 99}
