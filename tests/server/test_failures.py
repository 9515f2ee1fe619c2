"""The typed error that a server answers for any exception."""

from __future__ import annotations

from raftkv.errors import DamagedData, KeyNotFound, Outcome, OutcomeUnknown, Unavailable
from raftkv.server import failures


def test_a_write_that_ended_in_a_bug_may_have_been_applied() -> None:
    assert isinstance(failures.of_write(KeyError("bug")), OutcomeUnknown)


def test_a_read_that_met_a_bad_disk_is_safe_to_ask_elsewhere() -> None:
    error = failures.of_read(DamagedData("checksum"))

    assert (error.reason, error.outcome) == ("DAMAGED_DATA", Outcome.SAFE_TO_RETRY)


def test_an_error_is_not_changed_by_its_classification() -> None:
    damage = DamagedData("checksum", retry_after_s=1.5, file="000001.log")

    answer = failures.of_read(damage)

    assert damage.outcome is Outcome.NOT_APPLIED
    assert (type(answer), answer.message) == (DamagedData, "checksum")
    assert (answer.retry_after_s, answer.facts) == (1.5, {"file": "000001.log"})


def test_other_errors_of_a_read_are_answered_as_they_are() -> None:
    absent = KeyNotFound("no such key")
    assert failures.of_read(absent) is absent
    assert isinstance(failures.of_read(KeyError("bug")), Unavailable)
