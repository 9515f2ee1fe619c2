"""Checks of a node's settings, each with an error that names the setting, its limit and the fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from raftkv.errors import ConfigurationError
from raftkv.tls.names import CLUSTER_FORM, is_cluster_name

if TYPE_CHECKING:
    from raftkv.config import Settings

OFF: Final = "off"
REQUIRED: Final = "required"
NONE: Final = "none"

TLS_MODES: Final = (OFF, "optional", REQUIRED)
CLIENT_CERTIFICATES: Final = (NONE, "optional", REQUIRED)

FILES_NEEDED: Final = {"client": ("cert", "key"), "peer": ("cert", "key", "ca")}
"""The files without which a port can't speak TLS: <port>_<name>_file."""


def check_range(key: str, value: int, metadata: Mapping[str, Any]) -> None:
    low, high = metadata["minimum"], metadata["maximum"]
    if not low <= value <= high:
        raise wrong(key, value, f"from {low} to {high}", f"set {key} to a value in that range")


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise wrong(key, repr(value), "one of " + ", ".join(choices), "choose one of them")


def wrong(key: str, value: object, limit: str, fix: str) -> ConfigurationError:
    return ConfigurationError(
        f"{key} is {value}, but must be {limit}. Fix: {fix}.", key=key, limit=limit
    )


def check_tls(settings: Settings) -> None:
    """Check that the settings of TLS fit together; the files are read at the start of the node."""
    for port in ("client", "peer"):
        check_choice(f"{port}_tls", getattr(settings, f"{port}_tls"), TLS_MODES)
        _check_files(settings, port)
    check_choice("client_certificates", settings.client_certificates, CLIENT_CERTIFICATES)
    if settings.client_certificates != NONE:
        if not settings.client_ca_file:
            raise wrong(
                "client_ca_file",
                "unset",
                f"set, as client_certificates is {settings.client_certificates}",
                "name the file with the certificate of the CA that signs clients' certificates",
            )
        if settings.client_tls == OFF:
            raise wrong(
                "client_certificates",
                settings.client_certificates,
                "none, as client_tls is off",
                "set client_cert_file and client_key_file, or leave client_certificates out",
            )
    if settings.certificate_deny_file and not (
        settings.client_cert_file or settings.peer_cert_file
    ):
        raise wrong(
            "certificate_deny_file",
            settings.certificate_deny_file,
            "unset, as no port has a certificate and asks its callers for one",
            "set the certificates of a port, or leave it out",
        )
    if settings.peer_cert_file and not is_cluster_name(settings.cluster_name):
        raise wrong(
            "cluster_name",
            repr(settings.cluster_name),
            CLUSTER_FORM,
            "a cluster keeps its name: found a new one to use TLS between nodes",
        )


def _check_files(settings: Settings, port: str) -> None:
    needed = [f"{port}_{each}_file" for each in FILES_NEEDED[port]]
    missing = [each for each in needed if not getattr(settings, each)]
    if missing and len(missing) < len(needed):
        found = next(each for each in needed if each not in missing)
        raise wrong(
            missing[0],
            "unset",
            f"set, as {found} is set",
            f"set {' and '.join(missing)} too, or leave out all of {', '.join(needed)}",
        )
    mode = f"{port}_tls"
    if getattr(settings, mode) != OFF and missing:
        raise wrong(
            mode,
            getattr(settings, mode),
            f"off, as {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} unset",
            f"set {' and '.join(missing)} (`raftkv certs node` writes such files), or leave {mode}"
            " out",
        )
