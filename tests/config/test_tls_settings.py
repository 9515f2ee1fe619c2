"""The settings of TLS: what follows from them, and wrong combinations with their fix."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.config import Settings
from raftkv.errors import ConfigurationError

CLIENT = {"client_cert_file": "c.pem", "client_key_file": "c.key"}
PEER = {"peer_cert_file": "p.pem", "peer_key_file": "p.key", "peer_ca_file": "ca.pem"}
OFF_LOOPBACK = {
    "client_listen": "0.0.0.0:7411",
    "client_advertise": "db1:7411",
    "peer_listen": "[::]:7511",
    "peer_advertise": "db1:7511",
}


def test_a_port_with_a_certificate_requires_tls_unless_its_mode_is_set() -> None:
    plain = Settings()
    assert (plain.client_tls, plain.peer_tls) == ("off", "off")
    client = Settings(**CLIENT)
    assert (client.client_tls, client.peer_tls) == ("required", "off")
    both = Settings(**CLIENT, **PEER, client_tls="optional", peer_tls="off")
    assert (both.client_tls, both.peer_tls) == ("optional", "off")


def without(settings: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in settings.items() if key != name}


@pytest.mark.parametrize(
    ("settings", "key", "fix"),
    [
        (without(CLIENT, "client_key_file"), "client_key_file", "set client_key_file too"),
        (without(CLIENT, "client_cert_file"), "client_cert_file", "set client_cert_file too"),
        (without(PEER, "peer_ca_file"), "peer_ca_file", "set peer_ca_file too"),
        ({"peer_ca_file": "ca.pem"}, "peer_cert_file", "set peer_cert_file and peer_key_file"),
        ({"client_tls": "required"}, "client_tls", "set client_cert_file and client_key_file"),
        ({"peer_tls": "optional"}, "peer_tls", "raftkv certs node"),
        ({"client_tls": "on"}, "client_tls", "choose one"),
        ({"client_certificates": "yes"}, "client_certificates", "choose one"),
        ({**CLIENT, "client_certificates": "required"}, "client_ca_file", "name the file"),
        (
            {
                **CLIENT,
                "client_ca_file": "ca",
                "client_tls": "off",
                "client_certificates": "optional",
            },
            "client_certificates",
            "leave client_certificates out",
        ),
        ({"certificate_deny_file": "denied"}, "certificate_deny_file", "leave it out"),
        ({**PEER, "cluster_name": "our cluster"}, "cluster_name", "found a new one"),
    ],
)
def test_a_wrong_combination_is_refused_with_the_fix(
    settings: dict[str, Any], key: str, fix: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{key} is .* Fix: .*{fix}") as caught:
        Settings(**settings)
    assert caught.value.facts["key"] == key


def test_off_loopback_both_ports_need_tls_and_then_no_secret() -> None:
    assert Settings(**CLIENT, **PEER, **OFF_LOOPBACK).client_advertise == "db1:7411"
    for certificates, key in ((PEER, "client_listen"), (CLIENT, "peer_listen")):
        with pytest.raises(ConfigurationError, match=r"raftkv certs init") as caught:
            Settings(**certificates, **OFF_LOOPBACK)
        assert caught.value.facts["key"] == key


@pytest.mark.parametrize("port", ["client", "peer"])
def test_off_loopback_optional_tls_is_as_insecure_as_none(port: str) -> None:
    settings: dict[str, Any] = {**CLIENT, **PEER, **OFF_LOOPBACK, f"{port}_tls": "optional"}
    with pytest.raises(ConfigurationError, match=f"{port}_listen"):
        Settings(**settings)
    settings |= {"allow_insecure_network": True, "cluster_secret_file": "secret"}
    assert getattr(Settings(**settings), f"{port}_tls") == "optional"
