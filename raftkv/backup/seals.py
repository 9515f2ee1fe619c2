"""What makes each frame of a backup fit its place in its file: a checksum, or encryption.

A seal covers the frame's bytes, its number, whether it is the last one, and the file's header. So a
frame that is changed, missing, repeated or moved does not open, and neither does a file without its
end. A checksum shows damage; only encryption shows a forgery.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from raftkv.errors import ConfigurationError
from raftkv.files import require_private

SEAL_BYTES: Final = 16
"""How much longer a sealed frame is."""

KEY_BYTES_MIN: Final = 16
KEY_BYTES_MAX: Final = 4096


class BrokenSeal(Exception):
    """A frame does not open: it is not what was sealed at this place of this file."""


class Seal(Protocol):
    """Seals the frames of one file."""

    def close(self, number: int, last: bool, frame: bytes) -> bytes: ...
    def open(self, number: int, last: bool, sealed: bytes) -> bytes:
        """Raises `BrokenSeal`."""


class Checksums:
    """A `Seal` that anybody can make. `header` is the digest of the file's header."""

    def __init__(self, header: bytes) -> None:
        self._header = header

    def close(self, number: int, last: bool, frame: bytes) -> bytes:
        return frame + self._checksum(number, last, frame)

    def open(self, number: int, last: bool, sealed: bytes) -> bytes:
        """See `Seal.open`."""
        frame, checksum = sealed[:-SEAL_BYTES], sealed[-SEAL_BYTES:]
        if not hmac.compare_digest(checksum, self._checksum(number, last, frame)):
            raise BrokenSeal
        return frame

    def _checksum(self, number: int, last: bool, frame: bytes) -> bytes:
        place = _place(number, last)
        return hashlib.blake2b(frame, digest_size=SEAL_BYTES, key=self._header + place).digest()


class Encryption:
    """A `Seal` with the operator's key, of which each file uses a key of its own.

    `header` is the digest of the file's header, which has a random id: so no key seals two frames
    of the same number.
    """

    def __init__(self, key: bytes, header: bytes) -> None:
        derivation = HKDF(SHA256(), 32, salt=header, info=b"raftkv backup 1")
        self._cipher = ChaCha20Poly1305(derivation.derive(key))
        self._header = header

    def close(self, number: int, last: bool, frame: bytes) -> bytes:
        return self._cipher.encrypt(_place(number, last), frame, self._header)

    def open(self, number: int, last: bool, sealed: bytes) -> bytes:
        """See `Seal.open`."""
        try:
            return self._cipher.decrypt(_place(number, last), sealed, self._header)
        except InvalidTag:
            raise BrokenSeal from None


def _place(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))


def read_key(path: Path) -> bytes:
    """The operator's key in the file, without white space around it.

    Raises `ConfigurationError` if there is none, or if others than the owner can read it.
    """
    advice = f"Fix: write one with `raftkv secret new {path}`, and keep it apart from the backups."
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"--key-file is {path}, which can't be read: {error.strerror}. {advice}", key="key_file"
        ) from error
    require_private(path, "--key-file")
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise ConfigurationError(
            f"--key-file is {path}, which holds {len(key)} bytes, but must hold from"
            f" {KEY_BYTES_MIN} to {KEY_BYTES_MAX}. {advice}",
            key="key_file",
        )
    return key
