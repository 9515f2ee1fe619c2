"""The file of a backup: it reads back as it was saved, and no changed file does."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.backup.file import BackupReader, BackupRow, BackupWriter
from raftkv.backup.restored_directory import check_rows
from raftkv.backup.seals import read_key
from raftkv.errors import ConfigurationError, DamagedBackup, InvalidRequest
from raftkv.kv.store import Family
from raftkv.rpc.v1 import api_pb2

from .saved import STATE, save

KEYS = (None, b"a key of the operator")


def read(path: Path, key: bytes | None) -> list[BackupRow]:
    with BackupReader(path) as reader:
        return list(reader.rows(key))


@pytest.fixture(params=KEYS, ids=["plain", "encrypted"])
def key(request: pytest.FixtureRequest) -> bytes | None:
    found: bytes | None = request.param
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes | None, Path]:
    base = tmp_path_factory.mktemp("backups")
    made = {key: base / f"{number}" for number, key in enumerate(KEYS)}
    for key, path in made.items():
        save(path, key=key)
    return made


def test_it_reads_back_as_it_was_saved(tmp_path: Path, key: bytes | None) -> None:
    path = tmp_path / "backup"
    saved = save(path, key=key)
    assert read(path, key) == STATE
    assert (b"holder" in saved) is (key is None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@given(at=st.integers(0), bit=st.integers(0, 7), which=st.sampled_from(KEYS))
def test_a_flipped_bit_is_a_typed_error(
    files: dict[bytes | None, Path], at: int, bit: int, which: bytes | None
) -> None:
    whole = bytearray(files[which].read_bytes())
    whole[at % len(whole)] ^= 1 << bit
    refuse(files[which], bytes(whole), which)


@given(end=st.integers(0), which=st.sampled_from(KEYS))
def test_a_file_that_is_cut_short_is_a_typed_error(
    files: dict[bytes | None, Path], end: int, which: bytes | None
) -> None:
    whole = files[which].read_bytes()
    refuse(files[which], whole[: end % len(whole)], which)


def refuse(original: Path, changed: bytes, key: bytes | None) -> None:
    path = original.with_suffix(".changed")
    path.write_bytes(changed)
    with pytest.raises(DamagedBackup):
        read(path, key)


def frames_of(whole: bytes) -> Iterator[bytes]:
    """The start of the file, then its frames."""
    (header_bytes,) = struct.unpack_from(">I", whole, 11)
    at = 15 + header_bytes + 32
    yield whole[:at]
    while at < len(whole):
        (size,) = struct.unpack_from(">I", whole, at)
        end = at + 4 + (size & ~(1 << 31))
        yield whole[at:end]
        at = end


def test_frames_that_are_moved_missing_repeated_or_of_another_file_are_typed_errors(
    files: dict[bytes | None, Path], tmp_path: Path, key: bytes | None
) -> None:
    start, *frames = frames_of(files[key].read_bytes())
    _, *others = frames_of(save(tmp_path / "other", key=key, id=b"another backup.."))
    assert len(frames) == 4
    for changed in (
        [frames[1], frames[0], *frames[2:]],
        [frames[0], *frames[2:]],
        [frames[0], *frames],
        [*frames, frames[0]],
        [*frames[:-1]],
        [frames[-1]],
        [others[0], *frames[1:]],
        [*frames[:-1], others[-1]],
    ):
        refuse(files[key], start + b"".join(changed), key)
    assert read(files[key], key) == STATE


def test_an_encrypted_file_needs_its_key_and_a_plain_one_is_not_taken_for_it(
    files: dict[bytes | None, Path],
) -> None:
    """Whoever can replace the file could else pass off a state of his own."""
    plain, encrypted = (files[each] for each in KEYS)
    with pytest.raises(ConfigurationError, match="is encrypted"):
        read(encrypted, None)
    with pytest.raises(DamagedBackup, match="another key"):
        read(encrypted, b"another key of the operator")
    with pytest.raises(ConfigurationError, match="not encrypted"):
        read(plain, KEYS[1])


def test_no_two_files_use_the_same_key_stream(tmp_path: Path) -> None:
    one = list(frames_of(save(tmp_path / "1", key=KEYS[1])))
    two = list(frames_of(save(tmp_path / "2", key=KEYS[1], id=b"another backup..")))
    assert all(a != b for a, b in zip(one[1:], two[1:], strict=True))


def test_an_existing_file_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="--force"):
        save(path)
    assert path.read_text() == "precious"
    save(path, replace=True)
    assert read(path, None) == STATE


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    writer = BackupWriter(path, api_pb2.BackupFileHeader(id=b"1"), None)
    path.write_text("precious")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(ConfigurationError, match="meanwhile"):
        writer.finish(api_pb2.BackupEnd(rows_sha256=bytes.fromhex(empty)))
    writer.close()
    assert [each.read_text() for each in tmp_path.iterdir()] == ["precious"]


def test_without_its_end_or_with_rows_that_were_lost_nothing_is_left(tmp_path: Path) -> None:
    writer = BackupWriter(tmp_path / "backup", api_pb2.BackupFileHeader(id=b"1"), None)
    writer.rows(b"rows")
    with pytest.raises(DamagedBackup, match="not those that the node sent"):
        writer.finish(api_pb2.BackupEnd(rows=9, rows_bytes=8))
    writer.close()
    assert not list(tmp_path.iterdir())


def test_rows_that_are_not_those_of_a_state_do_not_verify(tmp_path: Path) -> None:
    """The checksums are right: whoever wrote the file wrote this."""
    for number, rows in enumerate((STATE[:1], STATE[1:], [(Family.LEASES, b"1", b"2")])):
        path = tmp_path / f"{number}"
        save(path, rows)
        with BackupReader(path) as reader, pytest.raises(DamagedBackup, match="holds no state"):
            check_rows(reader, None)


def test_a_file_of_a_later_format_says_so(files: dict[bytes | None, Path], tmp_path: Path) -> None:
    import hashlib

    start, *frames = frames_of(files[None].read_bytes())
    later = start[:8] + b"\x00\x02" + start[10:-32]
    path = tmp_path / "later"
    path.write_bytes(later + hashlib.sha256(later).digest() + b"".join(frames))
    with pytest.raises(InvalidRequest, match="format 2"):
        BackupReader(path)


def test_a_key_must_be_secret_and_long_enough(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_key(path)
    path.write_text("0123456789abcdef\n")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_key(path)
    path.chmod(0o600)
    assert read_key(path) == b"0123456789abcdef"
    path.write_text("short")
    with pytest.raises(ConfigurationError, match="holds 5 bytes"):
        read_key(path)
