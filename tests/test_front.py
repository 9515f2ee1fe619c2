"""The package's public names, and hints for interactive use."""

from __future__ import annotations

import pytest

import raftkv


def test_the_package_lists_its_public_names() -> None:
    assert {"connect", "connect_sync", "RaftkvError", "op"} <= set(dir(raftkv))
    assert all(hasattr(raftkv, name) for name in dir(raftkv))
    assert "import_module" not in dir(raftkv)


def test_a_client_that_was_not_awaited_says_how_to_get_one() -> None:
    with pytest.raises(AttributeError, match=r"'get'.*async with.*await raftkv\.connect"):
        raftkv.connect("127.0.0.1:1").get("k")  # type: ignore[attr-defined]


def test_an_outcome_prints_as_words_and_is_a_number_on_the_wire() -> None:
    assert str(raftkv.Outcome.MAYBE_APPLIED) == f"{raftkv.Outcome.MAYBE_APPLIED}" == "maybe applied"
    assert [int(outcome) for outcome in raftkv.Outcome] == [0, 1, 2]
