"""The operator's rights as they are shipped: what the chart renders, for accounts of the rig.

manifests/base/rbac.yaml is the chart's own rendering (tools/gen_manifests.py; `make check` compares
the two), so that the rig needs no Helm.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.e2e.rig.workloads import scale_target_crd

if TYPE_CHECKING:
    from collections.abc import Mapping

_MANIFESTS: Final = Path(__file__).resolve().parents[3] / "manifests"
RBAC: Final = _MANIFESTS / "base" / "rbac.yaml"
#: Opt-in for users; here every operator is held to it, so that no feature writes what it forbids.
_POLICIES: Final = _MANIFESTS / "components" / "admission-policy" / "admission-policy.yaml"
#: The operator's account in what is shipped.
_SHIPPED_ACCOUNT: Final = "system:serviceaccount:spillway-system:spillway-operator"
#: Roles for people; the operator gets neither.
_PEOPLE: Final = ("-pool-viewer", "-pool-editor")


def shipped() -> list[dict[str, Any]]:
    """Roles and bindings of the operator, as shipped."""
    found = [d for d in yaml.safe_load_all(RBAC.read_text(encoding="utf-8")) if d]
    return [d for d in found if not d["metadata"]["name"].endswith(_PEOPLE)]


def shipped_rights(
    account: str, namespace: str, labels: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The same for another account, in another namespace, held to the chart's admission policies.

    Args:
        account: The ServiceAccount that gets the rights; bindings carry its name.
        namespace: Where it lives, with its Lease and its ledger.
        labels: Of all that is made.
    """
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    found = shipped()
    for document in found:
        metadata = document["metadata"]
        metadata["labels"] = {**metadata["labels"], **(labels or {})}
        if "namespace" in metadata:
            metadata["namespace"] = namespace
        if "subjects" in document:
            metadata["name"] = f"{metadata['name']}-{account}"
            document["subjects"] = [subject]
    return [*found, scale_target_role(labels), *_policies(account, namespace, labels or {})]


def _policies(account: str, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the account's writes are held to."""
    found = [d for d in yaml.safe_load_all(_POLICIES.read_text(encoding="utf-8")) if d]
    for document in found:
        metadata, spec = document["metadata"], document["spec"]
        metadata["name"] = f"{metadata['name']}-{namespace}-{account}"
        metadata["labels"] = {**metadata["labels"], **labels}
        if "policyName" in spec:
            spec["policyName"] = f"{spec['policyName']}-{namespace}-{account}"
        for condition in spec.get("matchConditions", ()):
            assert _SHIPPED_ACCOUNT in condition["expression"]
            condition["expression"] = condition["expression"].replace(
                f'"{_SHIPPED_ACCOUNT}"', f'"system:serviceaccount:{namespace}:{account}"'
            )
    return found


def scale_target_role(labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What an administrator adds so that the rig's own kind can be scaled."""
    spec = scale_target_crd()["spec"]
    group, plural = spec["group"], spec["names"]["plural"]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": "rig-scale-targets",
            "labels": {"spillway.dev/aggregate-to-operator": "true", **(labels or {})},
        },
        "rules": [
            {"apiGroups": [group], "resources": [f"{plural}/scale"], "verbs": ["get", "patch"]},
        ],
    }
