"""The outcome that the history records of a failed operation is what its error proves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, cast

import pytest

from jepsen_lite.clients.protocol import KvClient, NotDone, OperationError
from jepsen_lite.clients.raftkv_errors import operation_error
from jepsen_lite.history import History, Kind
from jepsen_lite.recorder import Recorder
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session
from raftkv.errors import DeadlineExceeded, NoLeader, OutcomeUnknown, TooLarge

CLIENT = cast(KvClient, None)
WRITE, READ = Invocation("write", "k", "v"), Invocation("read", "k")


class Scripted:
    """Returns or raises what the test gave it."""

    name = "scripted"
    reads = frozenset({"read"})

    def __init__(self, act: Callable[[Session], Any]) -> None:
        self._act = act

    def next(self, rng: Random, worker: int) -> Invocation:
        return READ

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        return self._act(session)

    def final(self) -> Sequence[Invocation]:
        return []

    def check(self, history: History) -> list[Finding]:
        return []


def raising(error: BaseException) -> Scripted:
    def act(session: Session) -> Any:
        raise error

    return Scripted(act)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (operation_error(OutcomeUnknown("sent")), Kind.INFO),
        (operation_error(DeadlineExceeded("not sent")), Kind.FAIL),
        (operation_error(NoLeader("none")), Kind.FAIL),
        (operation_error(TooLarge("too large")), Kind.FAIL),
        (NotDone("I would rather not"), Kind.FAIL),
    ],
)
async def test_only_an_operation_that_certainly_did_not_happen_is_failed(
    error: OperationError, kind: Kind
) -> None:
    history = History()
    recorder = Recorder(history, lambda: 5)
    ended = await recorder.perform(CLIENT, 0, raising(error), WRITE, 1.0)
    assert (ended.kind, ended.reason) == (kind, error.reason)
    assert [event.kind for event in history.events] == [Kind.INVOKE, kind]


async def test_a_read_that_failed_has_changed_nothing() -> None:
    recorder = Recorder(History(), lambda: 5)
    lost = operation_error(OutcomeUnknown("?"))
    ended = await recorder.perform(CLIENT, 0, raising(lost), READ, 1.0)
    assert ended.kind is Kind.FAIL


async def test_a_bug_leaves_the_outcome_unknown_and_is_raised() -> None:
    history = History()
    recorder = Recorder(history, lambda: 5)
    with pytest.raises(KeyError):
        await recorder.perform(CLIENT, 0, raising(KeyError("oops")), WRITE, 1.0)
    assert history.events[-1].kind is Kind.INFO


async def test_a_process_whose_outcome_is_unknown_never_comes_back() -> None:
    history = History()
    recorder = Recorder(history, lambda: 5)
    fine = Scripted(lambda session: None)
    await recorder.perform(CLIENT, 0, fine, WRITE, 1.0)
    await recorder.perform(CLIENT, 0, raising(operation_error(OutcomeUnknown("?"))), WRITE, 1.0)
    await recorder.perform(CLIENT, 0, fine, WRITE, 1.0)
    first, second, third = (each.invocation.process for each in history.operations("scripted"))
    assert first == second != third


async def test_a_fact_is_recorded_between_the_events_of_the_operation_under_way() -> None:
    history = History()
    recorder = Recorder(history, lambda: 5)
    learning = Scripted(lambda session: session.record_fact(Invocation("lost", "k")))
    await recorder.perform(CLIENT, 0, learning, WRITE, 1.0)
    functions = [(event.function, event.kind) for event in history.events]
    assert functions == [
        ("write", Kind.INVOKE),
        ("lost", Kind.INVOKE),
        ("lost", Kind.OK),
        ("write", Kind.OK),
    ]
    assert all(each.kind is Kind.OK for each in history.operations("scripted"))
