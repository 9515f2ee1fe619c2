"""Each of the nine guarantees of a watch is guarded by its own known-bad history."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jepsen_lite.checkers import watch
from jepsen_lite.history import Kind, Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import FAIL, OK, assert_valid, operation, texts

LOG: list[dict[str, Any]] = [
    {"revision": 2, "kind": "put", "key": "w/a", "value": "1"},
    {"revision": 3, "kind": "put", "key": "w/a", "value": "2"},
    {"revision": 3, "kind": "put", "key": "w/b", "value": "1"},
    {"revision": 4, "kind": "delete", "key": "w/a", "value": None},
    {"revision": 5, "kind": "put", "key": "other", "value": "1"},
    {"revision": 6, "kind": "put", "key": "w/a", "value": "3"},
]
PREVIOUS = {(3, "w/a"): "1", (4, "w/a"): "2"}
CREATED = {(2, "w/a"), (3, "w/b"), (6, "w/a"), (5, "other")}


def event(at: int, **changed: Any) -> dict[str, Any]:
    change = LOG[at]
    name = change["revision"], change["key"]
    return {**change, "previous": PREVIOUS.get(name), "created": name in CREATED, **changed}


def batch(*events: dict[str, Any]) -> dict[str, Any]:
    return {"revision": max(each["revision"] for each in events), "events": list(events)}


def bookmark(revision: int) -> dict[str, Any]:
    return {"revision": revision, "events": []}


def gone(up_to: int) -> dict[str, Any]:
    return {**bookmark(up_to), "compacted": True}


def watcher(
    *batches: dict[str, Any],
    began: int = 0,
    first: int = 1,
    kinds: tuple[str, ...] = (),
    name: str = "watcher",
    until: int | None = None,
    kind: Kind = OK,
) -> Operation:
    asked: dict[str, Any] = {"prefix": "w/", "from": first}
    asked["kinds"] = list(kinds) or ["put", "delete"]
    if until is not None:
        asked["until"] = until
    return operation(1, began, began + 1, "watch", asked, list(batches), kind, name)


def wrote(revision: int, **changes: str | None) -> Operation:
    returned = {
        "changes": {f"w/{key}": value for key, value in changes.items()},
        "revision": revision,
    }
    return operation(2, 0, 1, "put", None, returned)


WHOLE = [batch(event(0)), batch(event(1), event(2)), batch(event(3)), batch(event(5))]
WITNESS = watcher(*WHOLE, began=20, name="witness", until=6)


@pytest.mark.parametrize(
    "watchers",
    [
        [watcher(*WHOLE)],
        [watcher(*WHOLE[:2], bookmark(3)), watcher(*WHOLE[2:], began=5, first=4)],
        [watcher(batch(event(3)), kinds=("delete",), first=3)],
        [watcher(*WHOLE[:2])],
        [watcher(batch(event(0), event(1), event(2)), bookmark(3), WHOLE[2], bookmark(5))],
    ],
)
def test_a_watch_that_keeps_its_guarantees_is_valid(watchers: list[Operation]) -> None:
    assert_valid(watch.check([*watchers, WITNESS]))


@pytest.mark.parametrize(
    ("guarantee", "watchers"),
    [
        ("ordered: revision 2", [watcher(WHOLE[1], WHOLE[0], *WHOLE[2:])]),
        ("unique: w/a at revision 2", [watcher(WHOLE[0], *WHOLE)]),
        (
            "atomic: the changes of revision 3",
            [watcher(WHOLE[0], batch(event(1)), batch(event(2)), *WHOLE[2:])],
        ),
        ("reliable: the delete of w/a at revision 4", [watcher(*WHOLE[:2], WHOLE[3])]),
        ("reliable: the delete of w/a at revision 4", [watcher(*WHOLE[:2], bookmark(5))]),
        ("never happened", [watcher(batch(event(0, value="9")))]),
        (
            "resumable: the delete of w/a at revision 4",
            [watcher(*WHOLE[:2]), watcher(WHOLE[3], began=5, first=4)],
        ),
        ("bookmarkable: w/a at revision 4", [watcher(*WHOLE[:2], bookmark(4), *WHOLE[2:])]),
        ("previous value: w/a at revision 4", [watcher(*WHOLE[:2], batch(event(3, previous="1")))]),
        ("creation flag: w/a at revision 6", [watcher(*WHOLE[:3], batch(event(5, created=False)))]),
        ("filtering: the put of other", [watcher(*WHOLE[:3], batch(event(4)))]),
        ("filtering: the put of w/a", [watcher(*WHOLE, kinds=("delete",))]),
        ("filtering: the put of w/a", [watcher(*WHOLE, first=3)]),
    ],
)
def test_each_guarantee_that_is_broken_is_named(guarantee: str, watchers: list[Operation]) -> None:
    assert guarantee in texts(watch.check([*watchers, WITNESS]))


def test_without_an_acknowledged_end_watchers_are_compared_with_each_other() -> None:
    other = watcher(*WHOLE[:2], WHOLE[3], name="other")
    assert_valid(watch.check([watcher(*WHOLE)]))
    assert "other: reliable: the delete of w/a" in texts(watch.check([watcher(*WHOLE), other]))


ACKNOWLEDGED = [wrote(2, a="1"), wrote(3, a="2", b="1"), wrote(4, a=None), wrote(6, a="3")]


def test_writers_and_watchers_that_agree_are_valid() -> None:
    nothing_to_delete = wrote(90)
    assert_valid(watch.check([*ACKNOWLEDGED, nothing_to_delete, WITNESS]))


@pytest.mark.parametrize(
    ("expected", "history"),
    [
        (
            "witness: reliable: the delete of w/a at revision 4 was never delivered",
            [watcher(*WHOLE[:2], WHOLE[3], name="witness", until=6)],
        ),
        (
            "reliable: the put of w/b at revision 3 was never delivered",
            [watcher(WHOLE[0], batch(event(1)), *WHOLE[2:], until=6)],
        ),
        (
            "watcher: reliable: the put of w/a at revision 6 was delivered and never happened so",
            [watcher(*WHOLE[:3], batch(event(5, value="2")), until=6)],
        ),
        (
            "revision 6 was acknowledged, and no watcher observed more than 4",
            [watcher(*WHOLE[:3], until=6)],
        ),
        (
            "revision 6 was acknowledged, and no watcher observed more than 0",
            [watcher(until=6, kind=FAIL)],
        ),
    ],
)
def test_an_acknowledged_change_that_was_never_delivered_is_found(
    expected: str, history: list[Operation]
) -> None:
    """Even if all watchers miss it."""
    assert expected in texts(watch.check([*ACKNOWLEDGED, *history]))


def test_a_run_without_its_last_watches_does_not_prove_a_missing_event() -> None:
    finding = watch.check([*ACKNOWLEDGED, watcher(*WHOLE[:3])])
    assert finding.validity is Validity.UNKNOWN
    assert "no watcher observed more than 4" in finding.problems[0].text


def test_a_run_whose_writers_did_not_note_revisions_can_still_be_judged() -> None:
    older = operation(2, 0, 1, "put", "1", "1", key="w/a")
    assert_valid(watch.check([older, watcher(*WHOLE)]))
    assert "reliable" in texts(watch.check([older, watcher(*WHOLE[:2], bookmark(5)), WITNESS]))


EARLY = watcher(*WHOLE, name="early")
FROM_3 = watcher(gone(2), *WHOLE[1:], name="witness", until=6)


@pytest.mark.parametrize(
    "history",
    [
        [watcher(gone(2), *WHOLE[1:])],
        [watcher(WHOLE[0], gone(3), *WHOLE[2:])],
        [watcher(WHOLE[0], bookmark(2), gone(5), WHOLE[3])],
        [watcher(WHOLE[0]), watcher(gone(3), *WHOLE[2:], began=5, first=3)],
        [watcher(gone(2), batch(event(1, previous=None), event(2)), *WHOLE[2:]), EARLY],
        [watcher(gone(3), batch(event(3, previous=None)), WHOLE[3])],
    ],
)
def test_compacted_history_need_not_be_delivered(history: list[Operation]) -> None:
    assert_valid(watch.check([*ACKNOWLEDGED, *history, FROM_3]))


@pytest.mark.parametrize(
    ("expected", "history"),
    [
        ("reliable: the delete of w/a at revision 4", [watcher(gone(2), WHOLE[1], WHOLE[3])]),
        ("reliable: the put of w/a at revision 3", [watcher(gone(2), *WHOLE[2:])]),
        ("bookmarkable: w/b at revision 3", [watcher(gone(3), *WHOLE[1:])]),
        ("previous value: w/a at revision 4", [watcher(gone(3), batch(event(3, previous="1")))]),
        (
            "previous value: w/a at revision 4",
            [watcher(*WHOLE[:2], batch(event(3, previous=None)))],
        ),
        ("creation flag: w/a at revision 6", [watcher(gone(5), batch(event(5, created=False)))]),
    ],
)
def test_what_is_left_of_a_compacted_history_is_judged(
    expected: str, history: list[Operation]
) -> None:
    assert expected in texts(watch.check([*history, FROM_3]))


def test_a_refused_watch_of_an_older_run_excuses_a_previous_value_that_is_gone() -> None:
    refused = watcher(kind=FAIL, name="other")
    assert refused.completion is not None
    refused = replace(refused, completion=replace(refused.completion, error="REVISION_COMPACTED"))
    history = [watcher(*WHOLE[:2], batch(event(3, previous=None))), WITNESS]
    assert_valid(watch.check([refused, *history]))
    assert "previous value" in texts(watch.check(history))


def test_watchers_without_events_are_unknown() -> None:
    assert watch.check([watcher()]).validity is Validity.UNKNOWN
