"""Each of the nine guarantees of a watch is guarded by its own known-bad history."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_lite.checkers import watch
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import assert_valid, operation, texts

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


def watcher(
    *batches: dict[str, Any], began: int = 0, first: int = 1, kinds: tuple[str, ...] = ()
) -> Operation:
    asked = {"prefix": "w/", "from": first, "kinds": list(kinds) or ["put", "delete"]}
    return operation(1, began, began + 1, "watch", asked, list(batches), key="watcher")


WHOLE = [batch(event(0)), batch(event(1), event(2)), batch(event(3)), batch(event(5))]


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
def test_what_a_watch_promises_is_valid(watchers: list[Operation]) -> None:
    assert_valid(watch.check(watchers, LOG))


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
    assert guarantee in texts(watch.check(watchers, LOG))


def test_watchers_are_compared_with_each_other_where_no_log_is_known() -> None:
    other = operation(
        2,
        0,
        1,
        "watch",
        {"prefix": "w/", "from": 1, "kinds": ["put", "delete"]},
        [*WHOLE[:2], WHOLE[3]],
        key="other",
    )
    assert_valid(watch.check([watcher(*WHOLE)]))
    assert "other: reliable: the delete of w/a" in texts(watch.check([watcher(*WHOLE), other]))


def test_watchers_that_were_told_nothing_prove_nothing() -> None:
    assert watch.check([watcher()], LOG).validity is Validity.UNKNOWN
