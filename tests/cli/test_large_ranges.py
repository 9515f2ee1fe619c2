"""`raftkv del` and `raftkv range` of more keys than one revision or reply may have."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest

from raftkv.cli import range_command
from raftkv.errors import DeadlineExceeded, OutcomeUnknown
from tests.cli.conftest import FakeClient, Raftkv

KEYS = [f"k{i:02}" for i in range(25)]


@pytest.fixture
def filled(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    async def fill() -> None:
        for key in (*KEYS, "other"):
            await client.put(key.encode(), b"v")

    asyncio.run(fill())
    client.delete_keys_max = 10
    client.calls.clear()
    monkeypatch.setattr(range_command, "PAGE_KEYS", 10)
    return client


def at_page(number: int, act: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Before the page of this number, from 1."""
    pages = 0

    async def before_page() -> None:
        nonlocal pages
        pages += 1
        if pages == number:
            await act()

    return before_page


async def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(0.01)  # the page goes on, whatever the signal has started


# ---- deletions -----------------------------------------------------------------------


def test_too_many_keys_are_deleted_in_steps_with_a_notice(
    raftkv: Raftkv, filled: FakeClient
) -> None:
    ran = raftkv("del", "--prefix", "k")
    assert (ran.code, ran.text) == (0, "25 deleted in 3 steps, revisions 28 to 30\n")
    assert "deleting them in steps, each a revision of its own" in ran.err
    assert "--atomic" in ran.err
    assert set(filled.kvs) == {b"other"}


def test_a_range_is_deleted_in_steps_as_a_prefix_is(raftkv: Raftkv, filled: FakeClient) -> None:
    assert raftkv("del", "k00", "k15").text == "15 deleted in 2 steps, revisions 28 to 29\n"


def test_keys_that_fit_one_revision_are_deleted_in_one(raftkv: Raftkv, filled: FakeClient) -> None:
    ran = raftkv("del", "--prefix", "k0")
    assert (ran.text, ran.err) == ("10 deleted, revision 28\n", "")
    assert raftkv("del", "k1", "k11", "-o", "json").json == {"revision": 29, "deleted": 1}


def test_json_has_the_totals_of_all_steps(raftkv: Raftkv, filled: FakeClient) -> None:
    ran = raftkv("del", "--prefix", "k", "-o", "json")
    assert ran.json == {
        "revision": 30,
        "deleted": 25,
        "first_revision": 28,
        "pages": 3,
        "complete": True,
        "outcome_unknown": False,
    }


@pytest.mark.parametrize("option", [("--atomic",), ("--idempotency-key", "name")])
def test_an_atomic_deletion_of_too_many_keys_deletes_none(
    raftkv: Raftkv, filled: FakeClient, option: tuple[str, ...]
) -> None:
    ran = raftkv("del", "--prefix", "k", *option)
    assert (ran.code, ran.out) == (6, b"")
    assert "more keys than one revision may delete (10)" in ran.err
    assert f"without {option[0]} they are deleted in steps" in ran.err
    assert len(filled.kvs) == 26


def test_an_interrupted_deletion_ends_after_its_step_and_reports_what_was_deleted(
    raftkv: Raftkv, filled: FakeClient
) -> None:
    filled.before_page = at_page(2, interrupt)  # type: ignore[method-assign]
    ran = raftkv("del", "--prefix", "k")
    assert ran.code == 128 + signal.SIGINT
    assert ran.text == "20 deleted in 2 steps, revisions 28 to 29\nnot complete\n"
    assert "ended by SIGINT; run it again to delete the rest" in ran.err
    assert len(filled.kvs) == 6
    assert raftkv("del", "--prefix", "k").text == "5 deleted, revision 30\n"


def test_the_second_signal_does_not_wait_for_the_step(raftkv: Raftkv, filled: FakeClient) -> None:
    async def interrupt_twice_and_hang() -> None:
        await interrupt()
        await interrupt()
        await asyncio.sleep(60.0)

    filled.before_page = at_page(2, interrupt_twice_and_hang)  # type: ignore[method-assign]
    ran = raftkv("del", "--prefix", "k", "-o", "json")
    assert ran.code == 128 + signal.SIGINT
    assert (ran.json["deleted"], ran.json["complete"]) == (10, False)
    assert ran.json["outcome_unknown"]


@pytest.mark.parametrize(
    ("error", "code", "unknown"),
    [(DeadlineExceeded("no majority"), 4, False), (OutcomeUnknown("no answer"), 5, True)],
)
def test_after_an_error_the_report_of_deleted_keys_is_correct(
    raftkv: Raftkv, filled: FakeClient, error: Exception, code: int, unknown: bool
) -> None:
    async def fail() -> None:
        raise error

    filled.before_page = at_page(3, fail)  # type: ignore[method-assign]
    ran = raftkv("del", "--prefix", "k")
    assert ran.code == code
    told, complete = ran.text.splitlines()
    assert told == "20 deleted in 2 steps, revisions 28 to 29"
    assert complete.startswith("not complete")
    assert ("no answer came to the last step" in complete) is unknown
    assert ran.err.endswith(f"error: {error}\n")


def test_an_interrupt_during_the_count_deletes_nothing(
    raftkv: Raftkv, filled: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __init__(self, _: bytes) -> None: ...
        async def count(self) -> int:
            await interrupt()
            return 25

    filled.scan_prefix = Interrupted  # type: ignore[method-assign, assignment]
    monkeypatch.setattr("raftkv.cli.stepwise_deletion.on_terminal", lambda: True)
    ran = raftkv("del", "--prefix", "k")
    assert ran.code == 128 + signal.SIGINT
    assert ran.text == "0 deleted in 0 steps\nnot complete\n"
    assert len(filled.kvs) == 26


def test_on_a_terminal_a_bar_shows_the_progress(
    raftkv: Raftkv, filled: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[float | None, float | None]] = []

    class Bar:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...
        def add_task(self, _: str, total: float | None) -> int:
            shown.append((total, None))
            return 0

        def update(self, _: int, completed: float) -> None:
            shown.append((None, completed))

    monkeypatch.setattr("rich.progress.Progress", Bar)
    monkeypatch.setattr("raftkv.cli.stepwise_deletion.on_terminal", lambda: True)
    assert raftkv("del", "--prefix", "k").code == 0
    assert shown == [(25, None), (None, 10), (None, 20), (None, 25)]


# ---- ranges --------------------------------------------------------------------------


def test_a_long_list_is_printed_page_by_page(raftkv: Raftkv, filled: FakeClient) -> None:
    assert raftkv("range", "k", "l", "--keys-only").text.split() == KEYS
    assert [line.split("\t")[0] for line in raftkv("range", "k", "l").text.splitlines()] == KEYS


def test_pages_read_before_an_error_are_printed(raftkv: Raftkv, filled: FakeClient) -> None:
    read = filled.range

    async def fails_later(start: bytes, end: bytes, **options: object) -> object:
        if start > b"k05":
            raise DeadlineExceeded("no node answers")
        return await read(start, end, **options)

    filled.range = fails_later  # type: ignore[method-assign, assignment]
    ran = raftkv("range", "k", "l", "--keys-only")
    assert (ran.code, ran.text.split()) == (4, KEYS[:10])


@pytest.mark.parametrize("limit", [3, 10, 15, 25, 40])
def test_a_range_with_a_limit_reads_no_more_than_it_shows(
    raftkv: Raftkv, filled: FakeClient, limit: int
) -> None:
    assert (
        raftkv("range", "k", "l", "--keys-only", "--limit", str(limit)).text.split() == KEYS[:limit]
    )
    assert len([call for call in filled.calls if "page_keys" not in call]) == min(
        -(-limit // 10), 3
    )


def test_any_number_of_keys_is_counted_page_by_page(raftkv: Raftkv, filled: FakeClient) -> None:
    assert raftkv("range", "k", "l", "--count-only").text == "25\n"
    counted = raftkv("range", "k", "l", "--count-only", "-o", "json").json
    assert (counted["count"], counted["more"]) == (25, False)
    assert len([call for call in filled.calls if "page_keys" not in call]) == 2 * 3


def test_sorted_or_json_output_is_read_as_one_range(raftkv: Raftkv, filled: FakeClient) -> None:
    for options in (("--sort", "mod"), ("--descending",), ("-o", "json")):
        filled.calls.clear()
        assert raftkv("range", "k", "l", *options).code == 0
        (call,) = filled.calls
        assert "page_keys" not in call
