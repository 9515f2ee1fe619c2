"""Passwords, tokens and certificates at a real node: who a caller is, and what its proof allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import argon2
import grpc
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fake_node import PATIENCE_S
from secured_node import PASSWORD, SecuredNode, secured_node, settings_of

from raftkv.errors import (
    InvalidRequest,
    PermissionDenied,
    RaftkvError,
    Unauthenticated,
    Unavailable,
)
from raftkv.kv.rights import ROOT
from raftkv.rpc.v1 import api_pb2 as api
from raftkv.rpc.v1 import auth_pb2, kv_pb2
from raftkv.server import passwords
from raftkv.server.authentication import Authenticator, CredentialKind, TokenTimes
from raftkv.server.root_reset import write_root_reset
from raftkv.server.services import auth


@pytest.fixture(autouse=True)
def fast_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = argon2.Parameters(argon2.Type.ID, 19, 16, 32, 1, 8, 1)
    monkeypatch.setattr(passwords, "PARAMETERS", cheap)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SecuredNode]:
    async with secured_node(settings_of(tmp_path / "node")) as made:
        yield made


def authenticator_of(node: SecuredNode) -> Authenticator:
    return Authenticator(node.process._node)


async def test_a_session_token_stands_for_its_user(node: SecuredNode) -> None:
    token = await node.add_root()
    checks = authenticator_of(node)
    credential = checks.of_token(token)
    assert checks.user_of(credential) == node.machine.rights.ids[ROOT]
    assert (credential.kind, checks.name_of(credential)) == (CredentialKind.SESSION_TOKEN, ROOT)
    assert (await node.auth("Status", token)).user == ROOT


async def test_a_token_ends_with_the_password_and_with_the_user(node: SecuredNode) -> None:
    root = await node.add_root()
    await node.auth("UserAdd", root, name="app", password=PASSWORD)
    first = await node.authenticate("app")
    await node.auth("UserSetPassword", first, name="app", password="another")
    with pytest.raises(Unauthenticated, match="another password"):
        await node.auth("Status", first)
    second = await node.authenticate("app", "another")
    service = (await node.auth("TokenCreate", root, user="app")).token
    await node.auth("UserDelete", root, name="app")
    for token in (second, service):
        with pytest.raises(Unauthenticated):
            await node.auth("Status", token)


async def test_a_session_token_expires(node: SecuredNode) -> None:
    node.process._client_server._auth._authenticator.times = TokenTimes(session_ttl_ms=300)
    token = await node.add_root()
    checks = authenticator_of(node)
    credential = checks.of_token(token)
    issued_ms = node.machine.time_ms
    await node.until(lambda: node.process._node.auth_time_ms >= credential.expires_ms)
    with pytest.raises(Unauthenticated, match="expired"):
        checks.user_of(credential)
    assert node.machine.time_ms == issued_ms, "cluster time stands still on an idle cluster"


async def test_a_forged_token_is_refused(node: SecuredNode) -> None:
    token = await node.add_root()
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    kid = {"kid": header["kid"]}
    start, body, signature = token.split(".")
    elsewhere = {"kid": "0" * 16 + header["kid"][16:]}
    secret = node.machine.rights.signing_keys[0].secret
    forged = [
        jwt.encode(claims, b"s" * 32, algorithm="HS256", headers=kid),
        jwt.encode(claims, None, algorithm="none", headers=kid),
        jwt.encode(claims, secret * 2, algorithm="HS512", headers=kid),
        jwt.encode(claims, secret, algorithm="HS256", headers=elsewhere),
        jwt.encode({"user": 1}, secret, algorithm="HS256", headers=kid),
        jwt.encode(claims, secret, algorithm="HS256"),
        f"{start}.{body}x.{signature}",
        "rkv_00_x",
        "rkv_",
        "rkv_zz_x",
        "garbage",
        "x" * 5000,
    ]
    for each in forged:
        with pytest.raises(Unauthenticated):
            await node.auth("Status", each)


async def test_a_node_that_is_behind_a_token_does_not_call_it_invalid(node: SecuredNode) -> None:
    token = await node.add_root()
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    secret = node.machine.rights.signing_keys[0].secret
    ahead = {"revision": claims["revision"] + 1, "credentials": claims["revision"] + 1}
    later_key = {"kid": header["kid"][:17] + "2"}
    # Cluster time stood still without a leader, this node's clock did not, and a later entry has
    # set cluster time again.
    after_an_outage = {
        "applied_index": claims["applied_index"] + 10,
        "expires_ms": claims["issued_ms"],
    }
    for each in (
        jwt.encode(
            {**claims, **after_an_outage},
            secret,
            algorithm="HS256",
            headers={"kid": header["kid"]},
        ),
        jwt.encode({**claims, **ahead}, secret, algorithm="HS256", headers={"kid": header["kid"]}),
        jwt.encode(claims, b"k" * 32, algorithm="HS256", headers=later_key),
    ):
        with pytest.raises(Unavailable, match="not applied yet"):
            await node.auth("Status", each)


async def test_a_session_token_ends_with_the_key_that_signed_it(node: SecuredNode) -> None:
    token = await node.add_root()
    checks = authenticator_of(node)
    credential = checks.of_token(token)
    for replaced in (1, 2):
        checks.user_of(credential)
        rotate = auth_pb2.SigningKeyRotate(secret=b"k" * 32, replaced=replaced)
        command = kv_pb2.Command(auth=auth_pb2.AuthCommand(signing_key_rotate=rotate))
        batch = kv_pb2.CommandBatch(commands=[command]).SerializeToString()
        await node.process._node.submit(batch, asyncio.get_running_loop().time() + PATIENCE_S)
    with pytest.raises(Unauthenticated, match="key"):
        checks.user_of(credential)
    with pytest.raises(Unauthenticated, match="key"):
        authenticator_of(node).of_token(token)
    again = authenticator_of(node).of_token(await node.authenticate())
    assert again.key is not None
    assert again.key.id == 2, "the newest key does not sign until every node has applied it"


async def test_service_tokens(node: SecuredNode) -> None:
    root = await node.add_root()
    await node.auth("UserAdd", root, name="ci")
    made = await node.auth("TokenCreate", root, user="ci", ttl_ms=3_600_000)
    assert (await node.auth("Status", made.token)).user == "ci"
    (listed,) = (await node.auth("TokenList", root)).tokens
    assert (listed.id, listed.user) == (made.id, "ci")
    assert 0 < listed.left_ms <= 3_600_000
    for wrong in (made.token[:-1], made.token + "x"):
        with pytest.raises(Unauthenticated):
            await node.auth("Status", wrong)
    checks = authenticator_of(node)
    credential = checks.of_token(made.token)
    await node.auth("TokenRevoke", root, id=made.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        checks.user_of(credential)
    short = await node.auth("TokenCreate", root, user="ci", ttl_ms=1)
    await node.until(lambda: node.process._node.auth_time_ms > node.machine.time_ms + 1)
    with pytest.raises(Unauthenticated, match="expired"):
        await node.auth("Status", short.token)
    assert not (await node.auth("TokenList", root)).tokens
    with pytest.raises(InvalidRequest):
        await node.auth("TokenCreate", root, user="ci", ttl_ms=2**63 - 1)


class CertificateContext:
    """The context of a call over TLS, as gRPC gives it: the certificate has been verified."""

    def __init__(self, name: str, **metadata: str) -> None:
        self._certificate = certificate_of(name) if name else b""
        self._metadata = tuple(metadata.items())

    def peer(self) -> str:
        return "ipv4:192.0.2.1:50000"

    def time_remaining(self) -> None:
        return None

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._certificate]} if self._certificate else {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    async def abort(self, code: Any, details: str, metadata: Any = ()) -> None:
        raise grpc.aio.AbortError(details)


def certificate_of(name: str) -> bytes:
    """A certificate with this common name; whoever has verified it has trusted its issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


async def test_a_certificate_stands_for_the_user_that_it_names(node: SecuredNode) -> None:
    token = await node.add_root()
    checks = authenticator_of(node)
    context: Any = CertificateContext(ROOT)
    credential = checks.of_call(context)
    assert checks.user_of(credential) == node.machine.rights.ids[ROOT]
    assert checks.name_of(credential) == ROOT
    stranger: Any = CertificateContext("stranger")
    assert checks.user_of(checks.of_call(stranger)) == 0
    anonymous: Any = CertificateContext("")
    assert checks.user_of(checks.of_call(anonymous)) == 0
    # A token goes before the certificate of the connection, which may be that of a proxy.
    both: Any = CertificateContext("stranger", authorization=f"Bearer {token}")
    assert checks.name_of(checks.of_call(both)) == ROOT
    basic: Any = CertificateContext(ROOT, authorization="Basic cm9vdDpyb290")
    with pytest.raises(Unauthenticated, match="Bearer"):
        checks.of_call(basic)


async def test_a_certificate_gives_a_session_token_of_its_user(node: SecuredNode) -> None:
    await node.add_root()
    service = node.process._client_server._auth
    request = api.AuthenticateRequest()
    of_root: Any = CertificateContext(ROOT)
    reply = await service.Authenticate(request, of_root)
    await node.auth("Enable", reply.token)
    for named in (CertificateContext("stranger"), CertificateContext("")):
        context: Any = named
        with pytest.raises(grpc.aio.AbortError):
            await service.Authenticate(request, context)
    other: Any = CertificateContext(ROOT)
    with pytest.raises(grpc.aio.AbortError, match="not that of the user"):
        await service.Authenticate(api.AuthenticateRequest(name="app"), other)


async def test_unchanged_rights_are_not_evaluated_again(node: SecuredNode) -> None:
    token = await node.add_root()
    checks = authenticator_of(node)
    credential = checks.of_token(token)
    checked: list[object] = []
    checks._check = lambda *arguments: checked.append(arguments) or 7  # type: ignore[method-assign, func-returns-value]
    assert checks.of_token(token) is credential
    assert checks.user_of(credential) == node.machine.rights.ids[ROOT]
    assert checked == []
    await node.auth("RoleAdd", name="r")
    assert checks.user_of(credential) == 7
    assert len(checked) == 1


async def test_authentication_is_switched_by_root_who_has_just_authenticated(
    node: SecuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = await node.add_root()
    await node.auth("UserAdd", name="app", password=PASSWORD)
    app = await node.authenticate("app")
    service = (await node.auth("TokenCreate", user=ROOT)).token
    for method in ("Enable", "Disable"):
        assert isinstance(await node.refused(method), Unauthenticated)
        assert isinstance(await node.refused(method, service), Unauthenticated)
        assert isinstance(await node.refused(method, app), PermissionDenied)
    with monkeypatch.context() as later:
        later.setattr(auth, "JUST_AUTHENTICATED_MS", -1)
        assert isinstance(await node.refused("Enable", root), Unauthenticated)
    await node.auth("Enable", root)
    assert (await node.auth("Status", root)).enabled
    assert isinstance(await node.refused("Disable", app), PermissionDenied)
    await node.auth("Disable", root)
    assert not (await node.auth("Status")).enabled


async def test_only_administrators_see_and_change_users(node: SecuredNode) -> None:
    root = await node.add_root()
    await node.auth("Enable", root)
    await node.auth("UserAdd", root, name="app", password=PASSWORD)
    await node.auth("RoleAdd", root, name="reader")
    read = auth_pb2.Permission(access=auth_pb2.ACCESS_READ, key=b"a", range_end=b"b")
    await node.auth("RoleGrant", root, role="reader", permission=read)
    await node.auth("UserGrantRole", root, name="app", role="reader")
    app = await node.authenticate("app")
    every: dict[str, dict[str, Any]] = {
        "UserAdd": {"name": "x"},
        "UserGet": {"name": ROOT},
        "UserList": {},
        "UserDelete": {"name": "app"},
        "UserSetPassword": {"name": ROOT, "password": "x"},
        "UserGrantRole": {"name": "app", "role": ROOT},
        "UserRevokeRole": {"name": "app", "role": "reader"},
        "RoleAdd": {"name": "x"},
        "RoleGet": {"name": "other"},
        "RoleList": {},
        "RoleDelete": {"name": "reader"},
        "RoleGrant": {"role": "reader", "permission": read},
        "RoleRevoke": {"role": "reader", "permission": read},
        "TokenCreate": {"user": "app"},
        "TokenList": {},
        "TokenRevoke": {"id": "00"},
    }
    for method, fields in every.items():
        assert isinstance(await node.refused(method, **fields), Unauthenticated), method
        assert isinstance(await node.refused(method, app, **fields), PermissionDenied), method
    own = (await node.auth("UserGet", app, name="app")).user
    assert (own.name, list(own.roles), own.has_password) == ("app", ["reader"], True)
    assert (await node.auth("RoleGet", app, name="reader")).role.permissions[0] == read
    users = (await node.auth("UserList", root)).users
    assert [user.name for user in users] == ["app", ROOT]
    assert list((await node.auth("RoleList", root)).roles) == ["reader", ROOT]
    assert "argon2" not in str(users)
    await node.auth("UserSetPassword", app, name="app", password="mine")
    await node.authenticate("app", "mine")


async def test_a_session_token_is_issued_in_the_time_of_the_cluster(node: SecuredNode) -> None:
    await node.add_root()
    before_ms = node.machine.time_ms
    await node.until(lambda: node.process._node.auth_time_ms > before_ms + 21)
    credential = authenticator_of(node).of_token(await node.authenticate())
    assert credential.claims is not None
    assert node.machine.time_ms > before_ms + 20, "the leader has stamped an entry"
    assert credential.claims.issued_ms - node.machine.time_ms < 20


async def test_commands_on_users_are_taken_from_nodes_only(node: SecuredNode) -> None:
    reset = auth_pb2.AuthCommand(root_reset=auth_pb2.RootReset(password_hash="x"))
    request = api.ExecuteRequest(command=kv_pb2.Command(auth=reset))
    with pytest.raises(InvalidRequest, match="service Auth"):
        await node.call("KV", "Execute", request)


# ---- failed attempts -----------------------------------------------------------------


async def test_an_unknown_user_takes_as_long_as_a_wrong_password(
    node: SecuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.add_root()
    await node.auth("UserAdd", name="certificate-only")
    verified: list[str] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, hash: str, password: str) -> bool:
        verified.append(hash)
        return verify(self, hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    messages = set()
    for name in (ROOT, "unknown", "certificate-only", "not a name"):
        error = await node.refused("Authenticate", name=name, password="wrong")
        messages.add((type(error), error.message))
        assert error.retry_after_s > 0
    assert len(verified) == 4
    assert len({str(argon2.extract_parameters(each)) for each in verified}) == 1
    assert len(messages) == 1


async def test_failures_delay_the_same_user_name_only(node: SecuredNode) -> None:
    await node.add_root()
    await node.auth("UserAdd", name="app", password=PASSWORD)
    for _ in range(2):
        await node.refused("Authenticate", name=ROOT, password="wrong")
    early = await node.refused("Authenticate", name=ROOT, password=PASSWORD)
    assert isinstance(early, Unauthenticated)
    assert 0 < early.retry_after_s <= passwords.DELAY_S_MIN
    await node.authenticate("app")


# ---- the password of root is lost ----------------------------------------------------


async def test_a_lost_root_password_is_replaced_from_the_disk_of_a_node(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "node")
    async with secured_node(settings) as node:
        await node.auth("Enable", await node.add_root())
    file = write_root_reset(settings.data_dir, "found again")
    content = file.read_bytes()
    assert b"found again" not in content
    async with secured_node(settings) as node:
        await node.until(lambda: not file.exists())
        root = await node.authenticate(ROOT, "found again")
        assert isinstance(
            await node.refused("Authenticate", name=ROOT, password=PASSWORD), RaftkvError
        )
        await node.auth("UserSetPassword", root, name=ROOT, password="newest")
    # A crash after the reset was applied, and before its file was removed.
    file.write_bytes(content)
    async with secured_node(settings) as node:
        await node.until(lambda: not file.exists())
        await node.authenticate(ROOT, "newest")
