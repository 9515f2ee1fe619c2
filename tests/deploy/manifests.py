"""The manifests of deploy/kubernetes, with the environment as a kubelet makes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "raftkv.yaml"
NAMESPACE = "store"


def manifests() -> list[Any]:
    return list(yaml.safe_load_all(FILE.read_text()))


def manifest(kind: str, name: str = "raftkv") -> Any:
    (found,) = (
        each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


def container() -> Any:
    (only,) = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"]
    return only


def pod_indexes() -> range:
    """The ordinals of the pods, which are in their names and in a label."""
    spec = manifest("StatefulSet")["spec"]
    return range(spec["ordinals"]["start"], spec["ordinals"]["start"] + spec["replicas"])


def environment(pod_index: int) -> dict[str, str]:
    """The variables of a pod: each may refer to those before it, as $(NAME)."""
    fields = {
        "metadata.labels['apps.kubernetes.io/pod-index']": str(pod_index),
        "metadata.namespace": NAMESPACE,
    }
    made: dict[str, str] = {}
    for each in container()["env"]:
        if "valueFrom" in each:
            made[each["name"]] = fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            made[each["name"]] = re.sub(
                r"\$\((\w+)\)", lambda found: made[found.group(1)], each["value"]
            )
    return made


def host_of(pod_index: int) -> str:
    """The name of a pod in the headless service."""
    return f"raftkv-{pod_index}.raftkv-nodes.{NAMESPACE}.svc"
