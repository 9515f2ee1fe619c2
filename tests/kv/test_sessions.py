"""Sessions: a retried batch returns its first result and is not run again."""

from __future__ import annotations

import pytest

from raftkv.kv import machine, sessions
from raftkv.kv.store import Family
from raftkv.raft.entry import Entry, EntryKind
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.rpc.v1 import log_pb2

from .harness import Driver, batch, entry, grant, put, revoke, rows


@pytest.fixture
def session(db: Driver) -> int:
    return db.grant(5_000)


def append(
    db: Driver, session: int, sequence: int, acknowledged: int = 0, value: bytes = b""
) -> pb.BatchResult:
    return db.send(
        batch(put(b"log", value), session=session, sequence=sequence, acknowledged=acknowledged)
    )


def test_without_a_session_a_batch_runs_every_time(db: Driver) -> None:
    for _ in range(2):
        db.send(batch(put(b"k")))
    assert db.get(b"k").version == 2


def test_a_retried_batch_returns_the_first_result(db: Driver, session: int) -> None:
    first = append(db, session, 1)
    db.do(put(b"log"))
    assert append(db, session, 1) == first
    assert db.get(b"log").version == 2


def test_a_failed_result_is_kept_as_well(db: Driver, session: int) -> None:
    refused = batch(put(b"k", ignore_value=True), session=session, sequence=1)
    first = db.send(refused)
    db.do(put(b"k"))
    assert db.send(refused) == first
    assert first.results[0].failure.reason == "KEY_NOT_FOUND"


def test_sequences_may_arrive_and_be_retried_in_any_order(db: Driver, session: int) -> None:
    first = {sequence: append(db, session, sequence) for sequence in (3, 1, 5, 2)}
    for sequence in (2, 5, 3, 1):
        assert append(db, session, sequence) == first[sequence]
    assert db.get(b"log").version == 4
    assert append(db, session, 4).results[0].revision == 6


def test_sessions_do_not_share_their_sequences(db: Driver, session: int) -> None:
    other = db.grant(5_000)
    append(db, session, 1)
    append(db, other, 1)
    assert db.get(b"log").version == 2


def test_acknowledged_results_are_dropped_from_memory_and_disk(db: Driver, session: int) -> None:
    for sequence in (1, 2, 3):
        append(db, session, sequence)
    append(db, session, 4, acknowledged=2)
    assert len(rows(db.store, Family.SESSIONS)) == 2
    assert append(db, session, 3).results[0].revision == 4


@pytest.mark.parametrize("restart", [False, True])
def test_an_acknowledged_batch_that_arrives_again_is_not_run_again(
    db: Driver, session: int, restart: bool
) -> None:
    for sequence, acknowledged in ((1, 0), (2, 0), (4, 3)):
        append(db, session, sequence, acknowledged)
    if restart:
        db.restart()
    for late in (1, 2, 3):
        failure = append(db, session, late).failure
        assert failure.reason == "OUTCOME_UNKNOWN"
        assert failure.outcome == pb.OUTCOME_MAYBE_APPLIED
    assert db.get(b"log").version == 3


def test_a_late_acknowledgement_does_not_lower_the_acknowledged_sequence(
    db: Driver, session: int
) -> None:
    append(db, session, 1)
    append(db, session, 3, acknowledged=1)
    append(db, session, 2, acknowledged=0)
    db.restart()
    assert append(db, session, 1).failure.reason == "OUTCOME_UNKNOWN"
    assert append(db, session, 2).results[0].revision == 4


def test_the_cost_of_an_acknowledgement_is_that_of_the_results_it_drops(
    db: Driver, session: int
) -> None:
    append(db, session, 5)
    append(db, session, 1 << 62, acknowledged=(1 << 62) - 1)
    assert len(rows(db.store, Family.SESSIONS)) == 1


def test_an_unknown_session_is_refused_as_a_whole_and_nothing_runs(db: Driver) -> None:
    refused = db.send(batch(put(b"a"), put(b"b"), session=99, sequence=1))
    assert refused.failure.reason == "SESSION_EXPIRED"
    assert refused.failure.outcome == pb.OUTCOME_NOT_APPLIED
    assert len(refused.results) == 0
    assert db.machine.revision == 1


def test_an_expired_session_is_refused_even_for_what_it_had_run(db: Driver, session: int) -> None:
    append(db, session, 1)
    db.time_ms = 5_000
    assert append(db, session, 1).failure.reason == "SESSION_EXPIRED"
    assert append(db, session, 2).failure.reason == "SESSION_EXPIRED"
    assert rows(db.store, Family.SESSIONS) == []


def test_a_batch_that_ends_its_own_session_runs_to_its_end_and_leaves_no_memory(
    db: Driver, session: int
) -> None:
    append(db, session, 1)
    last = db.send(batch(revoke(session), put(b"k"), session=session, sequence=2))
    assert [result.HasField("failure") for result in last.results] == [False, False]
    assert rows(db.store, Family.SESSIONS) == []
    assert append(db, session, 2).failure.reason == "SESSION_EXPIRED"


def test_a_batch_that_ends_its_session_and_grants_its_id_again_runs_once(
    db: Driver, session: int
) -> None:
    again = batch(
        revoke(session),
        grant(5_000, session),
        put(b"k"),
        session=session,
        sequence=7,
        acknowledged=6,
    )
    first = db.send(again)
    db.restart()
    assert db.send(again) == first
    assert db.get(b"k").version == 1
    assert not append(db, session, 1).HasField("failure"), "a new session counts from the start"


def test_the_results_of_sessions_survive_a_restart(db: Driver, session: int) -> None:
    first = {sequence: append(db, session, sequence) for sequence in (2, 1)}
    db.restart()
    for sequence in (1, 2):
        assert append(db, session, sequence) == first[sequence]
    assert db.get(b"log").version == 2


def test_a_retry_within_the_same_entry_or_run_is_recognised(db: Driver, session: int) -> None:
    again = batch(put(b"log"), session=session, sequence=1)
    index = db.machine.applied_index
    applied = db.machine.apply([entry(index + 1, 0, again, again), entry(index + 2, 0, again)])
    assert len({each.result for each in applied}) == 1
    assert db.get(b"log").version == 1


@pytest.mark.parametrize(("sequence", "acknowledged"), [(0, 0), (3, 3), (3, 9)])
def test_a_batch_that_acknowledges_itself_is_refused(
    db: Driver, session: int, sequence: int, acknowledged: int
) -> None:
    assert append(db, session, sequence, acknowledged).failure.reason == "INVALID_REQUEST"
    assert db.machine.revision == 1


def test_a_session_without_acknowledgements_is_refused_until_it_acknowledges(
    db: Driver, session: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sessions, machine):
        monkeypatch.setattr(module, "SESSION_RESULTS_MAX", 3)
    for sequence in (1, 2, 3):
        append(db, session, sequence)
    refused = append(db, session, 4).failure
    assert (refused.reason, refused.outcome) == ("OVERLOADED", pb.OUTCOME_SAFE_TO_RETRY)
    assert append(db, session, 3).results[0].revision == 4, "a retry needs no room"
    assert append(db, session, 4, acknowledged=1).results[0].revision == 5
    assert append(db, session, 5, acknowledged=1).failure.reason == "OVERLOADED"


def test_bytes_that_are_no_batch_are_refused_and_never_raise(db: Driver) -> None:
    stamped = log_pb2.StampedBatch(submissions=[log_pb2.Submission(commands=b"\xff\xff")])
    (applied,) = db.machine.apply([Entry(1, 1, EntryKind.COMMANDS, stamped.SerializeToString())])
    assert pb.BatchResult.FromString(applied.result).failure.reason == "INVALID_REQUEST"
