"""TLS of a client: its files, gRPC's credentials from them, and why a handshake has failed."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from raftkv.arguments import to_path, to_text
from raftkv.client.log import log
from raftkv.errors import ConfigurationError
from raftkv.wire.addresses import split_host_port

if TYPE_CHECKING:
    import grpc

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


def read_files(tls: Tls, before: TlsContents | None = None) -> TlsContents:
    """Read the files, and check them if they are not as `before`, which is then returned.

    Raises `ConfigurationError` that names the file which is missing, is no PEM, or has a key that
    does not belong to the certificate.
    """
    contents = _contents(tls)
    # The check reads the files anew. If one has changed meanwhile, all are checked once more.
    while contents != before:
        _check(tls, contents)
        if contents == (again := _contents(tls)):
            return contents
        contents = again
    return before


def _contents(tls: Tls) -> TlsContents:
    return TlsContents(
        _system_cas() if tls.ca_file is None else _read(tls.ca_file, "ca_file"),
        None if tls.cert_file is None else _read(tls.cert_file, "cert_file"),
        None if tls.key_file is None else _read(tls.key_file, "key_file"),
    )


def _read(file: str | os.PathLike[str], setting: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:  # a ValueError: the path has a zero byte
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(
            f"{setting} {os.fspath(file)!r} can't be read: {why}; name a file that is there and"
            " that this process may read",
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


class ChannelCredentials:
    """The credentials of all channels of one client, renewed when its files have changed.

    Raises `ConfigurationError` if the files can't be used.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._contents = read_files(tls)
        self._credentials = _credentials(self._contents)
        self._problem = ""  # of the files as they are now; logged once

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Channel options that belong to the credentials."""
        name = self._tls.server_name
        return (("grpc.ssl_target_name_override", name),) if name else ()

    def current(self) -> grpc.ChannelCredentials:
        """Read the files again; returns the same object as before if they are unchanged.

        Files that can't be used are logged, and the ones before stay in use: while a certificate is
        renewed, it may be there before its key.
        """
        try:
            contents = read_files(self._tls, self._contents)
        except ConfigurationError as error:
            if error.message != self._problem:
                self._problem = error.message
                log("tls_files_not_used", reason=error.message, in_use="the files as before")
            return self._credentials
        self._problem = ""
        if contents is not self._contents:
            self._contents = contents
            self._credentials = _credentials(contents)
        return self._credentials

    def why_failed(self, address: str, details: str) -> str:
        """Why no connection was made, from gRPC's description of the last attempt."""
        host = self._tls.server_name or split_host_port(address)[0]
        cas = "the system's CAs" if self._tls.ca_file is None else f"the CAs in {self._tls.ca_file}"
        if "WRONG_VERSION_NUMBER" in details or "HTTP_REQUEST" in details:
            return (
                f"{address} does not speak TLS but plaintext; write its address without raftkvs://"
                " and give no tls= (--cacert), or set up TLS on the node"
            )
        if "Hostname Verification" in details:
            return (
                f"the certificate of {address} is not for the name {host!r}; connect by a name or"
                f" IP address that it has, or make one with `raftkv certs node --host {host}`"
            )
        if "CERTIFICATE_VERIFY_FAILED" in details:
            return f"the certificate of {address} is refused: {_verification(details, cas)}"
        if _closed_at_once(details) or "ALERT" in details:
            return f"{address} ended the TLS handshake{self._why_ended(details)}"
        if "handshake failed" in details:
            return f"the TLS handshake with {address} failed: {details.rpartition(': ')[2]}"
        return f"{address} takes no connection"

    def _why_ended(self, details: str) -> str:
        """Since TLS 1.3 a client learns of a refusal only by the end of the connection."""
        if self._tls.cert_file is None:
            return (
                ": most likely it demands a client certificate; give cert_file and key_file"
                " (--cert and --key)"
            )
        alert = details.rpartition("ALERT_")[2].split(":")[0].replace("_", " ").lower()
        reason = f" ({alert})" if "ALERT_" in details else ""
        return (
            f"{reason}: most likely it refuses the client certificate in {self._tls.cert_file},"
            " which may be of another CA, expired, or on the deny list"
        )


def _credentials(contents: TlsContents) -> grpc.ChannelCredentials:
    import grpc  # imported late: a simulator's client has no gRPC

    return grpc.ssl_channel_credentials(contents.ca, contents.key, contents.certificate)


def _verification(details: str, cas: str) -> str:
    """In plain words what OpenSSL reports of a certificate."""
    if "has expired" in details:
        return "it has expired, or its CA has; renew it, and check this machine's clock"
    if "not yet valid" in details:
        return "it is not valid yet; check the clocks of this machine and of the one that made it"
    if "issuer certificate" in details or "self signed" in details or "signature" in details:
        return f"its CA is unknown, none of {cas}; give the cluster's CA as ca_file (--cacert)"
    if "purpose" in details:
        return "it is not for servers; give the node one that `raftkv certs node` has made"
    return details.partition("CERTIFICATE_VERIFY_FAILED: ")[2].removesuffix(": OK")


def why_plaintext_failed(address: str, details: str) -> str:
    """Why no connection without TLS was made, from gRPC's description of the last attempt."""
    if not _closed_at_once(details):
        return f"{address} takes no connection"
    return (
        f"{address} takes no connection: it closes each one at once, as a node does that takes TLS"
        f" only; if it does, write raftkvs://{address} or give tls= (--cacert)"
    )


def _closed_at_once(details: str) -> bool:
    return "Socket closed" in details or "Connection reset" in details
