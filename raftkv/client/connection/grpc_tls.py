"""TLS of gRPC's channels: credentials from files that may change, and why a handshake failed."""

from __future__ import annotations

import grpc

from raftkv.client.connection.tls import Tls, TlsContents, read_files
from raftkv.client.log import log
from raftkv.errors import ConfigurationError
from raftkv.wire.addresses import split_host_port


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
            contents = read_files(self._tls)
        except ConfigurationError as error:
            if error.message != self._problem:
                self._problem = error.message
                log("tls_files_not_used", reason=error.message, in_use="the files as before")
            return self._credentials
        self._problem = ""
        if contents != self._contents:
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
