"""The cluster's secret: proofs that a peer knows it, which do not reveal it.

Both proofs cover both nonces, both node ids, the incarnation and all else that the caller says of
itself, since they are computed over the bytes of its Hello as received. They do not protect the
bytes after the handshake from modification: that takes TLS.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from secrets import token_bytes, token_hex

from raftkv.errors import ConfigurationError
from raftkv.files import require_private

SECRET_BYTES_MIN = 16
SECRET_BYTES_MAX = 4096
NONCE_BYTES = 16


class ClusterSecret:
    """Proofs under one secret. Without a secret (`b""`) every proof is empty, and every proof
    fits.
    """

    def __init__(self, secret: bytes = b"") -> None:
        self._secret = secret

    @property
    def known(self) -> bool:
        """Whether there is a secret, so that a proof proves something."""
        return bool(self._secret)

    def of_callee(self, hello: bytes, nonce: bytes) -> bytes:
        """The callee's proof, in its challenge."""
        return self._proof(b"callee", hello, nonce)

    def of_caller(self, hello: bytes, nonce: bytes) -> bytes:
        """The caller's proof; `nonce` is the callee's."""
        return self._proof(b"caller", hello, nonce)

    def of_refusal(self, hello: bytes, reason: str) -> bytes:
        """The proof of a refusal; the nonce in `hello` makes it valid for one call only."""
        return self._proof(b"refusal", hello, reason.encode())

    def fits(self, proof: bytes, expected: bytes) -> bool:
        """Whether the other side has the same secret, or none if we have none."""
        return hmac.compare_digest(proof, expected)

    def _proof(self, role: bytes, *parts: bytes) -> bytes:
        if not self._secret:
            return b""
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in (role, *parts))
        return hmac.digest(self._secret, framed, hashlib.sha256)


def new_nonce() -> bytes:
    """Random bytes that are never drawn twice."""
    return token_bytes(NONCE_BYTES)


def read_secret(path: str) -> ClusterSecret:
    """The secret in `path`, without white space around it; no path: none.

    Raises `ConfigurationError` if there is none, or if others than the owner can read it.
    """
    if not path:
        return ClusterSecret()
    try:
        secret = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"cluster_secret_file is {path}, which can't be read: {error.strerror}. Fix: write one"
            f" with `raftkv secret new {path}` and copy it to every node.",
            key="cluster_secret_file",
        ) from error
    require_private(Path(path), "cluster_secret_file")
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise ConfigurationError(
            f"cluster_secret_file is {path}, which holds {len(secret)} bytes, but must hold from"
            f" {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}. Fix: write one with `raftkv secret new"
            f" {path}` and copy it to every node.",
            key="cluster_secret_file",
        )
    return ClusterSecret(secret)


def new_secret() -> str:
    """A random secret, as one line of text."""
    return token_hex(32)
