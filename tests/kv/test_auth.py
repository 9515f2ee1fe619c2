"""Users, roles and tokens in the state machine: the commands, and what they allow at apply."""

from __future__ import annotations

import pytest

from raftkv.errors import Outcome
from raftkv.kv.rights import ROOT, Access
from raftkv.raft.entry import Entry, EntryKind
from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.rpc.v1 import log_pb2
from raftkv.versions import AUTHENTICATED

from .harness import Driver, batch, delete, grant, put, renew, revoke


class SecuredDriver(Driver):
    """A machine of the cluster version AUTHENTICATED, which applies what users have sent."""

    def __init__(self) -> None:
        super().__init__(version=AUTHENTICATED)

    def submit(
        self, commands: pb.CommandBatch, user: str = "", revision: int | None = None
    ) -> pb.BatchResult:
        """Apply a batch of a user, checked at `revision` (None: at an older one)."""
        author = self.machine.rights.user_named(user)
        stamped = log_pb2.StampedBatch(time_ms=self.time_ms)
        stamped.submissions.add(
            origin=7,
            number=1,
            commands=commands.SerializeToString(),
            user=author.id if author else 0,
            auth_revision=-1 if revision is None else revision,
        )
        index = self.machine.applied_index + 1
        each = Entry(1, index, EntryKind.COMMANDS, stamped.SerializeToString())
        (applied,) = self.apply(each)
        return pb.BatchResult.FromString(applied.result)

    def run(self, command: pb.Command, user: str = "") -> pb.Result:
        (result,) = self.submit(batch(command), user).results
        return result

    def change(self, user: str = "", **command: object) -> pb.Result:
        return self.run(pb.Command(auth=auth.AuthCommand(**command)), user)

    def add_user(self, name: str, *roles: str) -> None:
        assert not self.change(ROOT, user_add=auth.UserAdd(name=name)).HasField("failure")
        for role in roles:
            granted = self.change(ROOT, user_grant_role=auth.UserGrantRole(name=name, role=role))
            assert not granted.HasField("failure")

    def add_role(self, name: str, *permissions: auth.Permission) -> None:
        assert not self.change(ROOT, role_add=auth.RoleAdd(name=name)).HasField("failure")
        for permission in permissions:
            granted = self.change(ROOT, role_grant=auth.RoleGrant(role=name, permission=permission))
            assert not granted.HasField("failure")


def permission(access: Access, key: bytes, range_end: bytes = b"") -> auth.Permission:
    return auth.Permission(access=access.value, key=key, range_end=range_end)


@pytest.fixture
def secured() -> SecuredDriver:
    """Authentication is enabled; `app` reads and writes [a, b), `ops` may do nothing."""
    db = SecuredDriver()
    db.add_user(ROOT, ROOT)
    db.add_role("app", permission(Access.READWRITE, b"a", b"b"))
    db.add_user("app", "app")
    db.add_user("ops")
    assert not db.change(ROOT, enable=auth.AuthEnable()).HasField("failure")
    return db


def test_rights_are_those_at_apply_if_they_have_changed_since_they_were_checked(
    secured: SecuredDriver,
) -> None:
    revision = secured.machine.rights.revision
    allowed = secured.submit(batch(put(b"a1")), "app", revision)
    assert not allowed.results[0].HasField("failure")
    secured.change(ROOT, user_revoke_role=auth.UserRevokeRole(name="app", role="app"))
    denied = secured.submit(batch(put(b"a2")), "app", revision)
    assert denied.results[0].failure.reason == "PERMISSION_DENIED"
    assert denied.results[0].failure.outcome == Outcome.NOT_APPLIED.value
    assert secured.get(b"a2") is None


@pytest.mark.parametrize(
    "command",
    [
        put(b"b"),
        delete(b"a", b"c"),
        delete(b"a", b"\0"),
        pb.Command(compact=pb.Compact(revision=1)),
        pb.Command(acquire=pb.Acquire(name=b"b", ttl_ms=1000)),
        pb.Command(put=pb.Put(key=b"a"), fences=[pb.Fence(name=b"lock", token=1)]),
        pb.Command(auth=auth.AuthCommand(role_add=auth.RoleAdd(name="mine"))),
        pb.Command(transaction=pb.Transaction(failure=[pb.Operation(range=pb.Range(key=b"c"))])),
    ],
)
def test_a_command_needs_rights_on_all_that_it_touches(
    secured: SecuredDriver, command: pb.Command
) -> None:
    assert secured.run(command, "app").failure.reason == "PERMISSION_DENIED"
    assert secured.run(command).failure.reason == "UNAUTHENTICATED"


def test_a_lease_belongs_to_the_user_to_whom_it_was_granted(secured: SecuredDriver) -> None:
    lease = secured.run(grant(5000), "app").lease.lease
    secured.restart()
    for command in (renew(lease), revoke(lease)):
        assert secured.run(command, "ops").failure.reason == "PERMISSION_DENIED"
    assert secured.submit(batch(put(b"a"), session=lease, sequence=1), "ops").failure.reason == (
        "PERMISSION_DENIED"
    )
    assert not secured.run(put(b"a", lease=lease), "app").HasField("failure")
    assert not secured.run(renew(lease), "app").HasField("failure")
    assert not secured.run(revoke(lease), ROOT).HasField("failure")


def test_a_renewal_that_is_refused_for_one_lease_renews_none(secured: SecuredDriver) -> None:
    own = secured.run(grant(5000), "app").lease.lease
    other = secured.run(grant(5000), ROOT).lease.lease
    secured.time_ms += 1000
    renewal = pb.Command(lease_keep_alive=pb.LeaseKeepAlive(leases=[own, other]))
    assert secured.run(renewal, "app").failure.reason == "PERMISSION_DENIED"
    assert secured.machine.lease_time_to_live(own) == (4000, 5000)
    assert not secured.run(renewal, ROOT).HasField("failure")
    assert secured.machine.lease_time_to_live(own) == (5000, 5000)


def test_a_result_is_withheld_from_a_user_who_has_lost_the_rights(secured: SecuredDriver) -> None:
    session = secured.run(grant(5000), "app").lease.lease
    sent = batch(put(b"a", prev_kv=True), session=session, sequence=1)
    named = pb.Command(put=pb.Put(key=b"a", prev_kv=True), idempotency_key=b"i")
    first = secured.submit(sent, "app")
    once = secured.run(named, "app")
    assert secured.submit(sent, "app") == first
    assert secured.run(named, "app") == once
    secured.change(ROOT, user_revoke_role=auth.UserRevokeRole(name="app", role="app"))
    for failure in (secured.submit(sent, "app").failure, secured.run(named, "app").failure):
        assert failure.reason == "PERMISSION_DENIED"
        assert failure.outcome == Outcome.MAYBE_APPLIED.value


def test_each_user_has_idempotency_keys_of_his_own(secured: SecuredDriver) -> None:
    secured.add_user("other", "app")
    named = pb.Command(put=pb.Put(key=b"a"), idempotency_key=b"i")
    secured.run(named, "app")
    secured.run(named, "other")
    assert secured.get(b"a").version == 2


def test_a_new_user_of_an_old_name_has_nothing_of_the_old_one(secured: SecuredDriver) -> None:
    lease = secured.run(grant(5000), "app").lease.lease
    secured.change(ROOT, user_delete=auth.UserDelete(name="app"))
    secured.add_user("app", "app")
    assert secured.run(renew(lease), "app").failure.reason == "PERMISSION_DENIED"


def test_authentication_is_enabled_by_root_only(secured: SecuredDriver) -> None:
    assert secured.change("app", disable=auth.AuthDisable()).failure.reason == "PERMISSION_DENIED"
    assert not secured.change(ROOT, disable=auth.AuthDisable()).HasField("failure")
    assert secured.change(enable=auth.AuthEnable()).failure.reason == "PERMISSION_DENIED"
    assert not secured.run(put(b"z")).HasField("failure")


def test_the_last_root_is_kept_while_authentication_is_enabled(secured: SecuredDriver) -> None:
    for command in (
        auth.AuthCommand(user_delete=auth.UserDelete(name=ROOT)),
        auth.AuthCommand(user_revoke_role=auth.UserRevokeRole(name=ROOT, role=ROOT)),
    ):
        assert secured.run(pb.Command(auth=command), ROOT).failure.reason == "REFUSED"


def test_an_administrator_of_users_does_not_become_root(secured: SecuredDriver) -> None:
    secured.add_role("admin")
    right = auth.RoleGrant(role="admin", admin_right=auth.ADMIN_RIGHT_AUTH)
    secured.change(ROOT, role_grant=right)
    secured.add_user("admin", "admin")
    assert not secured.change("admin", role_add=auth.RoleAdd(name="r")).HasField("failure")
    secret = b"s" * 32
    for command in (
        auth.AuthCommand(user_grant_role=auth.UserGrantRole(name="admin", role=ROOT)),
        auth.AuthCommand(user_set_password=auth.UserSetPassword(name=ROOT, password_hash="x")),
        auth.AuthCommand(token_create=auth.TokenCreate(user=ROOT, id=b"1", secret_hash=secret)),
        auth.AuthCommand(signing_key_rotate=auth.SigningKeyRotate(secret=secret)),
    ):
        failure = secured.run(pb.Command(auth=command), "admin").failure
        assert failure.reason in ("PERMISSION_DENIED", "REFUSED")


def test_the_rights_are_the_same_after_a_restart(secured: SecuredDriver) -> None:
    secured.change(signing_key_rotate=auth.SigningKeyRotate(secret=b"k" * 32))
    secured.change(
        ROOT, token_create=auth.TokenCreate(user="app", id=b"t", secret_hash=b"h" * 32, ttl_ms=9)
    )
    before = secured.machine.rights
    secured.restart()
    assert secured.machine.rights == before


def test_only_a_node_resets_root_and_the_same_reset_has_an_effect_once(
    secured: SecuredDriver,
) -> None:
    def reset(user: str = "") -> pb.Result:
        command = auth.AuthCommand(root_reset=auth.RootReset(password_hash="new"))
        return secured.run(pb.Command(auth=command, idempotency_key=b"reset"), user)

    assert reset("app").failure.reason == "PERMISSION_DENIED"
    assert reset(ROOT).failure.reason == "REFUSED"
    before = secured.machine.rights.user_named(ROOT)
    secured.change(ROOT, disable=auth.AuthDisable())
    secured.change(ROOT, user_delete=auth.UserDelete(name=ROOT))
    assert not reset().HasField("failure")
    added = secured.machine.rights.user_named(ROOT)
    assert (added.password_hash, list(added.roles)) == ("new", [ROOT])
    assert added.id != before.id
    secured.change(ROOT, user_set_password=auth.UserSetPassword(name=ROOT, password_hash="newer"))
    assert not reset().HasField("failure")
    assert secured.machine.rights.user_named(ROOT).password_hash == "newer"
    secured.restart()
    assert secured.machine.rights.user_named(ROOT).password_hash == "newer"


def test_a_reset_gives_root_its_role_back_while_authentication_is_enabled(
    secured: SecuredDriver,
) -> None:
    secured.add_user("other", ROOT)
    secured.change("other", user_revoke_role=auth.UserRevokeRole(name=ROOT, role=ROOT))
    result = secured.change(root_reset=auth.RootReset(password_hash="new"))
    assert not result.HasField("failure")
    assert list(secured.machine.rights.user_named(ROOT).roles) == [ROOT]
    assert secured.machine.rights.enabled


def test_a_token_ends_at_a_time_that_can_be_told(secured: SecuredDriver) -> None:
    token = auth.TokenCreate(user="app", id=b"t", secret_hash=b"h" * 32, ttl_ms=(1 << 63) - 1)
    assert secured.change(ROOT, token_create=token).failure.reason == "INVALID_REQUEST"
