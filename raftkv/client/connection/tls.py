"""What a client needs for TLS: the CA that it trusts, and perhaps a certificate of its own."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, Self

from raftkv.arguments import to_path, to_text
from raftkv.errors import ConfigurationError

CA_VARIABLE: Final = "RAFTKV_CACERT"
CERT_VARIABLE: Final = "RAFTKV_CERT"
KEY_VARIABLE: Final = "RAFTKV_KEY"


@dataclass(frozen=True, slots=True)
class Tls:
    """The files with which a client connects by TLS, in PEM. They are read for each new connection.

    - `ca_file`: the CAs that may sign the nodes' certificates; None: the system's CAs.
    - `cert_file`, `key_file`: the client's own certificate and its key, not encrypted, for nodes
      that ask for one; both or none.
    - `server_name`: the name that the nodes' certificates must have; empty: the host of each
      node's address.

    A file that can't be used raises `ConfigurationError` when the client is made. Later the client
    logs it to `raftkv.client` and goes on with the last files that it could use.
    """

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        for name in ("ca_file", "cert_file", "key_file"):
            if getattr(self, name) is not None:
                to_path(getattr(self, name), name)
        to_text(self.server_name, "server_name")
        if (self.cert_file is None) != (self.key_file is None):
            given, missing = ("cert", "key") if self.key_file is None else ("key", "cert")
            raise ConfigurationError(
                f"{given}_file is given without {missing}_file; give both, or none of them",
                setting=f"{missing}_file",
            )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """What RAFTKV_CACERT, RAFTKV_CERT and RAFTKV_KEY name; an empty one is as one not set."""
        return cls(
            environ.get(CA_VARIABLE) or None,
            environ.get(CERT_VARIABLE) or None,
            environ.get(KEY_VARIABLE) or None,
        )


@dataclass(frozen=True, slots=True)
class TlsContents:
    """The contents of the files of a `Tls`. The key is not in the `repr`."""

    ca: bytes
    certificate: bytes | None
    key: bytes | None = field(repr=False)


def read_files(tls: Tls) -> TlsContents:
    """Read and check the files.

    Raises `ConfigurationError` that names the file which is missing, is no PEM, or has a key that
    does not belong to the certificate.
    """
    contents = _contents(tls)
    # The checks read the files anew. A file that changes meanwhile is read and checked once more.
    while True:
        _check(tls, contents)
        if contents == (again := _contents(tls)):
            return contents
        contents = again


def _contents(tls: Tls) -> TlsContents:
    return TlsContents(
        _system_cas() if tls.ca_file is None else _read(tls.ca_file, "ca_file"),
        None if tls.cert_file is None else _read(tls.cert_file, "cert_file"),
        None if tls.key_file is None else _read(tls.key_file, "key_file"),
    )


def _read(file: str | os.PathLike[str], setting: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{setting} {os.fspath(file)!r} can't be read: {error.strerror}; name a file that is"
            " there and that this process may read",
            setting=setting,
        ) from None


@cache
def _system_cas() -> bytes:
    """The CAs that this machine trusts. gRPC by itself would use a list of its own."""
    paths = ssl.get_default_verify_paths()
    files = [Path(paths.cafile)] if paths.cafile else []
    if not files and paths.capath:
        files = sorted(Path(paths.capath).glob("*.[0-9]"))  # as OpenSSL finds them
    if not files:
        raise ConfigurationError(
            "this machine has no list of CAs that it trusts; give ca_file (--cacert), or install"
            " the system's package of CA certificates",
            setting="ca_file",
        )
    return b"\n".join(_read(file, "the system's CA file") for file in files)


def _check(tls: Tls, contents: TlsContents) -> None:
    _check_certificates(contents.ca, tls.ca_file, "ca_file")
    if contents.certificate is None or tls.cert_file is None or tls.key_file is None:
        return
    _check_certificates(contents.certificate, tls.cert_file, "cert_file")
    try:
        # With an empty password an encrypted key is an error, instead of a question on a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            tls.cert_file, tls.key_file, password=lambda: b""
        )
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"does not belong to the certificate in {os.fspath(tls.cert_file)!r}"
        elif contents.key is not None and b"ENCRYPTED" in contents.key:
            problem = "is encrypted; give it without a password, readable by its owner alone"
        else:
            problem = "holds no private key in PEM"
        raise ConfigurationError(
            f"key_file {os.fspath(tls.key_file)!r} {problem}", setting="key_file"
        ) from None
    except OSError as error:  # it was removed since it was read
        raise ConfigurationError(
            f"cert_file or key_file can't be read: {error.strerror}", setting="cert_file"
        ) from None


def _check_certificates(content: bytes, file: str | os.PathLike[str] | None, setting: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode())
    except (ssl.SSLError, ValueError):  # a ValueError: it is empty, or no text
        what = "the system's list of CAs" if file is None else f"{setting} {os.fspath(file)!r}"
        raise ConfigurationError(
            f"{what} holds no certificate in PEM; name a file that begins with"
            " -----BEGIN CERTIFICATE-----",
            setting=setting,
        ) from None
