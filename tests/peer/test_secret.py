"""The secret's file, and what a proof covers."""

from __future__ import annotations

import stat
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from raftkv.errors import ConfigurationError
from raftkv.files import require_private
from raftkv.peer.secret import (
    SECRET_BYTES_MAX,
    SECRET_BYTES_MIN,
    ClusterSecret,
    new_nonce,
    new_secret,
    read_secret,
)

ONE, OTHER, NONE = ClusterSecret(b"one" * 8), ClusterSecret(b"other" * 8), ClusterSecret()
HELLO, NONCE = b"hello", b"nonce"


def written(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def proofs(secret: ClusterSecret, said: bytes = HELLO, nonce: bytes = NONCE) -> list[bytes]:
    return [
        secret.of_caller(said, nonce),
        secret.of_callee(said, nonce),
        secret.of_refusal(said, nonce.decode()),
    ]


def test_a_proof_fits_where_the_secret_is_the_same() -> None:
    for proof, expected in zip(proofs(ONE), proofs(ClusterSecret(b"one" * 8)), strict=True):
        assert ONE.fits(proof, expected)
        assert len(proof) == 32


@pytest.mark.parametrize("secret", [OTHER, NONE])
def test_a_proof_under_another_secret_or_none_does_not_fit(secret: ClusterSecret) -> None:
    for proof, expected in zip(proofs(secret), proofs(ONE), strict=True):
        assert not ONE.fits(proof, expected)
        assert not secret.fits(expected, proof)


def test_a_proof_depends_on_role_hello_and_nonce() -> None:
    assert len(set(proofs(ONE))) == 3
    assert not set(proofs(ONE)) & set(proofs(ONE, said=b"hell"))
    assert not set(proofs(ONE)) & set(proofs(ONE, nonce=b"once"))
    # Where one ends and the other begins counts, too.
    assert not set(proofs(ONE)) & set(proofs(ONE, said=b"hellon", nonce=b"once"))


def test_without_a_secret_the_empty_proof_fits() -> None:
    assert proofs(NONE) == [b""] * 3
    assert NONE.fits(b"", b"")
    assert (NONE.known, ONE.known) == (False, True)


def test_a_file_holds_the_secret_and_white_space(tmp_path: Path) -> None:
    bare = read_secret(written(tmp_path / "a", b"0123456789abcdef"))
    padded = read_secret(written(tmp_path / "b", b"\n 0123456789abcdef \r\n"))
    assert bare.known
    assert bare.fits(bare.of_caller(HELLO, NONCE), padded.of_caller(HELLO, NONCE))
    assert not read_secret("").known


def test_a_new_secret_is_valid_and_random(tmp_path: Path) -> None:
    assert read_secret(written(tmp_path / "new", new_secret().encode())).known
    assert len({new_secret(), new_secret()}) == len({new_nonce(), new_nonce()}) == 2


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "secret", b"x" * 32, mode)
    with pytest.raises(ConfigurationError, match=rf"mode {mode:04o}.*chmod 600") as caught:
        read_secret(path)
    assert caught.value.facts["key"] == "cluster_secret_file"


@pytest.mark.parametrize("size", [0, SECRET_BYTES_MIN - 1, SECRET_BYTES_MAX + 1])
def test_a_secret_that_is_too_short_or_too_long_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(ConfigurationError, match=f"holds {size} bytes.*raftkv secret new"):
        read_secret(written(tmp_path / "secret", b"x" * size))


def test_a_file_that_is_not_there_is_named_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"can't be read.*raftkv secret new"):
        read_secret(str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_secret(str(tmp_path))


def test_the_owner_may_make_it_read_only(tmp_path: Path) -> None:
    path = written(tmp_path / "secret", b"x" * 32, 0o400)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o400
    assert read_secret(path).known


@pytest.mark.parametrize(
    ("owner", "user", "mode", "taken"),
    [
        (0, 7411, 0o440, True),  # as a volume of a secret of Kubernetes
        (0, 7411, 0o444, False),
        (0, 7411, 0o460, False),
        (0, 0, 0o440, False),
        (7411, 7411, 0o440, False),
    ],
)
def test_a_file_of_roots_may_be_readable_by_the_group_of_another_user(
    monkeypatch: pytest.MonkeyPatch, owner: int, user: int, mode: int, taken: bool
) -> None:
    found = SimpleNamespace(st_uid=owner, st_mode=stat.S_IFREG | mode)
    monkeypatch.setattr(Path, "stat", lambda _: found)
    monkeypatch.setattr("os.geteuid", lambda: user)
    with nullcontext() if taken else pytest.raises(ConfigurationError):
        require_private(Path("key.pem"), "peer_key_file")
