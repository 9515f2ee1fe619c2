"""A sealed frame opens at its place in its file, and nowhere else."""

from __future__ import annotations

import pytest

from raftkv.backup.seals import SEAL_BYTES, BrokenSeal, Checksums, Encryption, Seal

HEADER, OTHER = b"h" * 32, b"o" * 32
KEY = b"a key of the operator"


@pytest.mark.parametrize(
    ("seal", "of_another_file"),
    [
        (Checksums(HEADER), Checksums(OTHER)),
        (Encryption(KEY, HEADER), Encryption(KEY, OTHER)),
        (Encryption(KEY, HEADER), Encryption(KEY + b"!", HEADER)),
    ],
)
def test_a_frame_opens_at_its_place_only(seal: Seal, of_another_file: Seal) -> None:
    sealed = seal.close(3, False, b"frame")
    assert len(sealed) == len(b"frame") + SEAL_BYTES
    assert seal.open(3, False, sealed) == b"frame"
    for other, number, last in (
        (seal, 4, False),
        (seal, 3, True),
        (of_another_file, 3, False),
    ):
        with pytest.raises(BrokenSeal):
            other.open(number, last, sealed)


def test_no_two_frames_are_encrypted_alike() -> None:
    """A nonce that was used twice would give both frames away."""
    seal = Encryption(KEY, HEADER)
    places = [(0, False), (1, False), (0, True)]
    assert len({seal.close(number, last, bytes(32)) for number, last in places}) == 3
