"""deploy/kubernetes: the manifests fit Kubernetes' schemas, each other, and the settings."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from raftkv.config_sources import load
from raftkv.errors import ConfigurationError
from tests.deploy.manifests import (
    container,
    environment,
    host_of,
    manifest,
    manifests,
    pod_indexes,
)

NEWEST = kubernetes_validate.latest_version()


@pytest.mark.parametrize("version", ["1.31", NEWEST])
def test_every_manifest_fits_the_schema(version: str) -> None:
    for each in manifests():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_check_of_the_schema_can_fail() -> None:
    broken = manifest("StatefulSet")
    broken["spec"]["podManagementPolitics"] = "Parallel"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, NEWEST, strict=True)


def test_every_pod_starts_with_valid_settings_and_its_own_id() -> None:
    for index in pod_indexes():
        settings = load(None, environment(index), {}).settings
        assert settings.node_id == index
        assert sorted(settings.initial_members) == list(pod_indexes())
        settings.require_founder()
        assert settings.advertised.peer == f"{host_of(index)}:7511"
        assert settings.advertised.client == f"{host_of(index)}:7411"
        assert (settings.client_tls, settings.peer_tls) == ("required", "required")


def test_a_pod_without_its_ordinal_does_not_start() -> None:
    without = environment(1) | {"RAFTKV_NODE_ID": ""}
    with pytest.raises(ConfigurationError, match=r"RAFTKV_NODE_ID.*whole number"):
        load(None, without, {})


def test_the_services_and_policies_select_the_pods() -> None:
    stateful = manifest("StatefulSet")["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    nodes = manifest("Service", "raftkv-nodes")["spec"]
    assert stateful["serviceName"] == "raftkv-nodes"
    assert (nodes["clusterIP"], nodes["publishNotReadyAddresses"]) == ("None", True)
    selectors: list[Any] = [
        nodes["selector"],
        manifest("Service")["spec"]["selector"],
        stateful["selector"]["matchLabels"],
        manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(each == labels for each in selectors)


def test_a_drain_leaves_a_majority_and_founders_start_together() -> None:
    stateful = manifest("StatefulSet")["spec"]
    allowed = manifest("PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert stateful["replicas"] - allowed > stateful["replicas"] // 2
    assert stateful["podManagementPolicy"] == "Parallel"


def test_a_pod_has_no_privileges() -> None:
    pod = manifest("StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
