"""A change of the public API that may break a caller is found and explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.public_api import BASELINE, breaking_changes, present, write

pytestmark = pytest.mark.slow  # griffe reads all of raftkv; scripts/check runs it

FACE = "raftkv/__init__.pyi"


@pytest.fixture(scope="module")
def stubs() -> dict[str, str]:
    return present()


def changed(stubs: dict[str, str], name: str, old: str, new: str) -> dict[str, str]:
    assert stubs[name].count(old) == 1, (old, stubs[name].count(old))
    return {**stubs, name: stubs[name].replace(old, new)}


def explained(stubs: dict[str, str], new: dict[str, str], directory: Path) -> list[str]:
    write(stubs, directory / "old")
    write(new, directory / "new")
    return breaking_changes(directory / "old", directory / "new")


def test_nothing_breaks_a_caller_of_the_last_release(stubs: dict[str, str], tmp_path: Path) -> None:
    write(stubs, tmp_path)
    assert breaking_changes(BASELINE, tmp_path) == []


def test_the_stubs_say_what_a_caller_relies_on(stubs: dict[str, str]) -> None:
    face = stubs[FACE]
    assert "    async def get(self, key: str | bytes, *, " in face, "inherited by Client"
    assert "class LeaseNotFound(Refused):\n    reason = 'LEASE_NOT_FOUND'\n" in face
    assert "    mod_revision: int\n" in face
    assert "def put(key: str | bytes, value: str | bytes" in stubs["raftkv/op.pyi"]
    assert "class Semaphore:" in stubs["raftkv/recipes/sync/__init__.pyi"]
    assert not [
        line
        for text in stubs.values()
        for line in text.splitlines()
        if "def _" in line and "__init__" not in line
    ]


@pytest.mark.parametrize(
    ("name", "old", "new", "explanation"),
    [
        (FACE, "class LeaseExists(Refused):", "class LeaseIsThere(Refused):", "LeaseExists"),
        (
            FACE,
            "    async def compact(self",
            "    async def compact_to(self",
            "raftkv: Client.compact: Public object was removed",
        ),
        (FACE, "async def compact(self, revision: int", "async def compact(self, at: int", "at"),
        (FACE, "    reason = 'LEASE_EXISTS'", "    reason = 'LEASE_IS_THERE'", "LEASE_IS_THERE"),
        (
            FACE,
            "async def compact(self, revision: int, *, timeout",
            "async def compact(self, revision: int, *, physical: bool, timeout",
            "physical",
        ),
        (
            "raftkv/recipes/__init__.pyi",
            "async def add(self, n: int = 1,",
            "async def add(self, n: int = 2,",
            "Counter.add",
        ),
    ],
)
def test_a_breaking_change_is_explained(
    stubs: dict[str, str], tmp_path: Path, name: str, old: str, new: str, explanation: str
) -> None:
    found = explained(stubs, changed(stubs, name, old, new), tmp_path)
    assert found
    assert any(explanation in each for each in found), found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "class LeaseExists(Refused):",
            "class LeaseHeld(Refused): ...\nclass LeaseExists(Refused):",
        ),
        (
            "async def compact(self, revision: int, *, timeout",
            "async def compact(self, revision: int, *, physical: bool = False, timeout",
        ),
    ],
)
def test_an_addition_breaks_nothing(
    stubs: dict[str, str], tmp_path: Path, old: str, new: str
) -> None:
    assert explained(stubs, changed(stubs, FACE, old, new), tmp_path) == []
