"""Planted bugs in rights at apply, and in who owns a session."""

from __future__ import annotations

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.errors import PermissionDenied
from raftkv.kv.commands import CommandRunner
from raftkv.kv.leases import Leases

ROW = "rights are withdrawn meanwhile"


@mutant(ROW, "rights", caught_by="^rights: |differs from the model")
def rights_only_at_the_door() -> list[Patch]:
    """What a node has checked is applied, also if rights have changed before it is applied."""
    begin_submission = CommandRunner.begin_submission

    def begin(self: CommandRunner, user: int, _: int) -> None:
        begin_submission(self, user, self.rights.revision)

    return [(CommandRunner, "begin_submission", begin)]


@mutant(ROW, "rights", caught_by="^rights: |differs from the model")
def rights_of_the_revision_before_are_good_enough() -> list[Patch]:
    """A submission is not checked again at apply if it was checked one revision before."""
    begin_submission = CommandRunner.begin_submission

    def begin(self: CommandRunner, user: int, auth_revision: int) -> None:
        present = self.rights.revision
        one_behind = auth_revision == present - 1
        begin_submission(self, user, present if one_behind else auth_revision)

    return [(CommandRunner, "begin_submission", begin)]


@mutant(
    "a session belongs to a user",
    "rights",
    caught_by="differs from the model",
)
def session_of_another_user_accepted() -> list[Patch]:
    """A batch is run in any session that is living; leases are protected by themselves."""
    is_open, require = Leases.is_open, Leases.require

    def always(_: Leases, lease: int) -> bool:
        return True

    def require_own(self: Leases, lease: int, advice: str = "; grant a new one") -> None:
        require(self, lease, advice)
        if not is_open(self, lease):
            raise PermissionDenied(f"lease {lease} belongs to another user", lease=lease)

    return [(Leases, "is_open", always), (Leases, "require", require_own)]


MUTANTS = (
    rights_only_at_the_door,
    rights_of_the_revision_before_are_good_enough,
    session_of_another_user_accepted,
)
