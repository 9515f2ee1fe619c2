"""The fencing guard admits no write with an older token."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import DamagedData, FencedOff, InvalidRequest, LockReentered, StorageError
from raftkv.fencing import FencingGuard


@pytest.fixture(params=["memory", "disk"])
def guard(request: pytest.FixtureRequest, tmp_path: Path) -> FencingGuard:
    return FencingGuard(None if request.param == "memory" else tmp_path / "guard")


def write(guard: FencingGuard, resource: str, token: int) -> bool:
    try:
        with guard.admitted(resource, token):
            return True
    except FencedOff:
        return False


def test_a_token_may_write_often_until_a_higher_one_has_been_seen(guard: FencingGuard) -> None:
    admitted = [write(guard, "blob", token) for token in (5, 5, 9, 5, 9, 8, 10)]
    assert admitted == [True, True, True, False, True, False, True]
    assert guard.highest("blob") == 10


def test_resources_do_not_share_tokens(guard: FencingGuard) -> None:
    assert write(guard, "one", 9)
    assert write(guard, "two", 3)
    assert (guard.highest("one"), guard.highest("two"), guard.highest("three")) == (9, 3, 0)


def test_a_refusal_names_the_higher_token(guard: FencingGuard) -> None:
    write(guard, "blob", 9)
    with pytest.raises(FencedOff) as refused, guard.admitted("blob", 8):
        pytest.fail("the body of a write that was refused must not run")
    assert refused.value.facts["highest_token"] == "9"


@pytest.mark.parametrize("token", [0, -1, "7", None])
def test_a_number_that_is_no_token_is_refused(guard: FencingGuard, token: object) -> None:
    with pytest.raises(InvalidRequest), guard.admitted("blob", token):  # type: ignore[arg-type]
        pytest.fail("not admitted")


def test_the_token_of_a_failed_write_is_remembered(guard: FencingGuard) -> None:
    with pytest.raises(OSError, match="half"), guard.admitted("blob", 9):
        raise OSError("half of it was written")
    assert not write(guard, "blob", 8)


def test_no_write_is_admitted_during_another_one(guard: FencingGuard) -> None:
    entered, order = threading.Event(), []

    def newer() -> None:
        entered.set()
        with guard.admitted("blob", 2):
            order.append("newer")

    thread = threading.Thread(target=newer)
    with guard.admitted("blob", 1):
        thread.start()
        entered.wait()
        thread.join(0.05)
        order.append("older")
    thread.join()
    assert order == ["older", "newer"]


def test_the_highest_token_can_be_read_within_a_write(guard: FencingGuard) -> None:
    with guard.admitted("blob", 5):
        assert (guard.highest("blob"), guard.highest("other")) == (5, 0)
    assert guard.highest("blob") == 5


@pytest.mark.parametrize("token", [4, 5, 6])
def test_a_write_within_a_write_of_the_same_resource_is_refused(
    guard: FencingGuard, token: int
) -> None:
    with guard.admitted("blob", 5):
        with pytest.raises(LockReentered) as refused, guard.admitted("blob", token):
            pytest.fail("the body of a write that was refused must not run")
        assert refused.value.facts["resource"] == "blob"
        assert write(guard, "other", token)
        assert guard.highest("blob") == 5
    assert write(guard, "blob", 6)


def test_another_thread_reads_the_highest_token_after_the_write(guard: FencingGuard) -> None:
    entered, found = threading.Event(), []

    def read() -> None:
        entered.set()
        found.append(guard.highest("blob"))

    thread = threading.Thread(target=read)
    with guard.admitted("blob", 7):
        thread.start()
        entered.wait()
        thread.join(0.05)
        assert not found
    thread.join()
    assert found == [7]


def test_another_process_waits_and_is_refused_too(tmp_path: Path) -> None:
    guard = FencingGuard(tmp_path)
    program = (
        "import sys; from raftkv.fencing import FencingGuard\n"
        "print('begun', flush=True)\n"
        "with FencingGuard(sys.argv[1]).admitted('blob', 4): pass"
    )
    with guard.admitted("blob", 5):
        other = subprocess.Popen(
            [sys.executable, "-c", program, tmp_path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "begun\n"
        assert other.poll() is None
    _, errors = other.communicate(timeout=30)
    assert "FencedOff" in errors


def test_a_restarted_guard_remembers_all_tokens(tmp_path: Path) -> None:
    write(FencingGuard(tmp_path), "blob", 9)
    assert not write(FencingGuard(tmp_path), "blob", 8)


def test_a_token_is_on_disk_before_its_write_begins(tmp_path: Path) -> None:
    with FencingGuard(tmp_path).admitted("blob", 9):
        (remembered,) = (path for path in tmp_path.iterdir() if path.suffix == "")
        assert b"\n9\n" in remembered.read_bytes()


@given(st.data())
def test_a_damaged_file_is_never_taken_for_a_token(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("guard")
    write(FencingGuard(directory), "blob", 1234)
    (path,) = (path for path in directory.iterdir() if path.suffix == "")
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:position])
    else:
        flipped = bytes([whole[position] ^ data.draw(st.integers(1, 255))])
        path.write_bytes(whole[:position] + flipped + whole[position + 1 :])
    with pytest.raises(DamagedData), FencingGuard(directory).admitted("blob", 2000):
        pytest.fail("not admitted")


def test_a_guard_whose_disk_fails_admits_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raftkv.fencing.write_durably", full)
    with pytest.raises(StorageError), FencingGuard(tmp_path).admitted("blob", 1):
        pytest.fail("not admitted")
