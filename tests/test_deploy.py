"""What `deploy/` says of the service is so; that its files are well-formed, `make check` sees to."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nofx_grpc.settings import Settings, variable

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


def manifest(name: str) -> Any:
    return yaml.safe_load((KUBERNETES / f"{name}.yaml").read_text())


POD = manifest("stateful-set")["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
REPLICAS = [service for name, service in COMPOSE["services"].items() if name.startswith("nofx-")]


def test_every_variable_is_a_setting() -> None:
    known = {variable(name) for name in Settings.model_fields} | {"NOFX_GRPC_IMAGE"}  # which is the compose file's own
    named = {name for path in DEPLOY.rglob("*.*") for name in re.findall(r"NOFX_GRPC_[A-Z_]+", path.read_text())}
    assert named and named <= known


def test_a_pod_runs_without_rights_and_writes_to_its_volume_only() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["automountServiceAccountToken"] is False
    security = CONTAINER["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert [mount["mountPath"] for mount in CONTAINER["volumeMounts"] if not mount.get("readOnly")] == ["/data"]


@pytest.mark.parametrize("replica", REPLICAS, ids=lambda replica: str(replica["ports"]))
def test_a_container_of_the_compose_file_runs_without_rights(replica: dict[str, Any]) -> None:
    assert replica["read_only"] is True
    assert replica["cap_drop"] == ["ALL"]
    assert replica["user"] == f"{POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}"


def test_the_user_is_that_of_the_image() -> None:
    security = POD["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in (ROOT / "Dockerfile").read_text()


def test_replicas_keep_decisions_where_all_of_them_see_them() -> None:
    assert {"name": "NOFX_GRPC_DECISION_LOGS", "value": "database"} in CONTAINER["env"]
    assert [replica["environment"]["NOFX_GRPC_DECISION_LOGS"] for replica in REPLICAS] == ["database"] * 2


def test_a_replica_has_the_time_to_drain() -> None:
    grace = Settings.load(None, {}).shutdown_grace_seconds
    pause = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] > grace + pause
    assert all(int(replica["stop_grace_period"].removesuffix("s")) > grace for replica in REPLICAS)


def test_everything_is_about_the_same_pods() -> None:
    labels = manifest("stateful-set")["spec"]["template"]["metadata"]["labels"]
    assert manifest("service")["spec"]["selector"] == labels
    assert manifest("disruption-budget")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("network-policy")["spec"]["podSelector"]["matchLabels"] == labels
    assert manifest("disruption-budget")["spec"]["minAvailable"] < manifest("stateful-set")["spec"]["replicas"]


def test_the_kustomization_has_every_manifest() -> None:
    listed = set(manifest("kustomization")["resources"])
    assert listed == {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
