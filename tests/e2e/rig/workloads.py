"""Manifests that the tests and the demo put into a cluster."""

from __future__ import annotations

from typing import Any

from spillway.api.names import ROLE_LABEL, Role

Manifest = dict[str, Any]

#: Seconds from a pod's start to its readiness, as kwok's stages read it (stages.yaml).
STARTUP_ANNOTATION = "rig.spillway.dev/startup-seconds"
ACCELERATOR = "NVIDIA-H100-80GB-HBM3"
#: Marks the nodes that kwok runs; the rig's pods go nowhere else.
KWOK_NODE = {"type": "kwok"}
METRICS_PORT = 8000


def namespace_manifest(name: str, labels: dict[str, str] | None = None) -> Manifest:
    """A Namespace."""
    metadata = {"name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def node_manifest(
    name: str, *, gpus: int = 8, labels: dict[str, str] | None = None, tainted: bool = False
) -> Manifest:
    """A node that kwok runs, with GPUs.

    Args:
        name: Its name.
        gpus: How many ``nvidia.com/gpu`` it has.
        labels: More labels, such as a zone's.
        tainted: Refuse pods without a toleration for GPUs, as managed GPU pools do.
    """
    amount = {"cpu": "192", "memory": "2Ti", "pods": "250", "nvidia.com/gpu": str(gpus)}
    taints = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "nvidia.com/gpu.product": ACCELERATOR,
                "topology.kubernetes.io/zone": "zone-a",
                **KWOK_NODE,
                **(labels or {}),
            },
        },
        "spec": {"taints": taints if tainted else []},
        "status": {"allocatable": amount, "capacity": amount, "phase": "Running"},
    }


def pod_template(name: str, *, startup_seconds: float = 0.0, gpus: int = 1) -> Manifest:
    """The template of a vLLM pod: it says ``serving``, as new pods must fail open."""
    return {
        "metadata": {
            "labels": {"app": name, ROLE_LABEL: Role.SERVING.value},
            "annotations": {STARTUP_ANNOTATION: f"{startup_seconds:g}"},
        },
        "spec": {
            "nodeSelector": dict(KWOK_NODE),
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "vllm",
                    "image": "vllm/vllm-openai:v0.11.0",
                    "ports": [{"name": "http", "containerPort": METRICS_PORT}],
                    "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
                    "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
                }
            ],
        },
    }


def vllm_deployment(
    name: str,
    namespace: str,
    *,
    replicas: int = 1,
    startup_seconds: float = 0.0,
    gpus: int = 1,
) -> Manifest:
    """A Deployment of model servers. Its selector leaves the role label out."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": pod_template(name, startup_seconds=startup_seconds, gpus=gpus),
        },
    }


def vllm_statefulset(
    name: str,
    namespace: str,
    *,
    replicas: int = 1,
    startup_seconds: float = 0.0,
    gpus: int = 1,
) -> Manifest:
    """A StatefulSet of model servers; its Service is ``service(name, namespace)``."""
    manifest = vllm_deployment(
        name, namespace, replicas=replicas, startup_seconds=startup_seconds, gpus=gpus
    )
    manifest["kind"] = "StatefulSet"
    manifest["spec"] |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    return manifest


def service(name: str, namespace: str) -> Manifest:
    """The Service in front of a workload: serving pods alone."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"app": name, ROLE_LABEL: Role.SERVING.value},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


def hpa(name: str, namespace: str, *, kind: str = "Deployment", max_replicas: int = 20) -> Manifest:
    """A HorizontalPodAutoscaler on a workload of the same name."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name},
            "minReplicas": 2,
            "maxReplicas": max_replicas,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 70},
                    },
                }
            ],
        },
    }


def scale_target_crd() -> Manifest:
    """A kind that has a scale subresource and nothing else: ``rig.spillway.dev/v1`` ScaleTarget.

    No controller runs it, so ``spec.replicas`` is all that ever changes: it shows that Spillway
    scales a target of any kind, and that it gives one it does not know no warm pool and no drain.
    """
    replicas = {"type": "integer", "minimum": 0}
    spec = {
        "type": "object",
        "properties": {"replicas": replicas, "selector": {"type": "string"}},
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": spec}}
        },
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    }
    return _crd("rig.spillway.dev", "ScaleTarget", "scaletargets", version)


def scale_target(name: str, namespace: str, *, replicas: int = 1) -> Manifest:
    """An object of the kind of ``scale_target_crd``."""
    return {
        "apiVersion": "rig.spillway.dev/v1",
        "kind": "ScaleTarget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": f"app={name}"},
    }


def gaie_crd() -> Manifest:
    """A minimal CRD under the Gateway API Inference Extension's names.

    It owns the kind InferencePool in another group; a cluster may have both.
    """
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "spec": {
                        "type": "object",
                        "properties": {
                            "selector": {
                                "type": "object",
                                "properties": {
                                    "matchLabels": {
                                        "type": "object",
                                        "additionalProperties": {"type": "string"},
                                    }
                                },
                            },
                            "targetPorts": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "properties": {"number": {"type": "integer"}},
                                },
                            },
                        },
                    }
                },
            }
        },
        "subresources": {"status": {}},
    }
    crd = _crd("inference.networking.k8s.io", "InferencePool", "inferencepools", version)
    # The API server asks groups under k8s.io for a link to their review, or for this word.
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, a stand-in"}
    return crd


def _crd(group: str, kind: str, plural: str, version: Manifest) -> Manifest:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }
