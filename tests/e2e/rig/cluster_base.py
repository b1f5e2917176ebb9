"""What every cluster of the rig can do, wherever it runs."""

from __future__ import annotations

import json
import secrets
import subprocess
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from tests.e2e.rig.kubeapi import KubeApi
from tests.e2e.rig.processes import RigError
from tests.e2e.rig.rights import shipped_rights
from tests.e2e.rig.waiting import wait_for
from tests.e2e.rig.workloads import namespace_manifest, node_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.e2e.rig.processes import Custody


class UnsupportedError(RigError):
    """This kind of cluster can't do that; a test that needs it is skipped there."""


class Cluster(Protocol):
    """A cluster whose nodes and pods are kwok's, and whose control plane is real.

    Attributes:
        kubeconfig: File that reaches it, as an administrator.
        api: Calls on its API server.
        owns_control_plane: Whether components can be stopped and the audit log be read.
    """

    kubeconfig: Path
    api: KubeApi
    owns_control_plane: bool

    def start(self) -> None:
        """Bring it up; returns when it schedules pods."""

    def stop(self) -> None:
        """Let go of it; what the rig brought in goes when its custody closes."""

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return what it printed."""

    def add_node(self, name: str, *, gpus: int = 8, labels: Mapping[str, str] | None = None) -> str:
        """Add a GPU node and return its name, which may have got a suffix."""

    def remove_node(self, name: str) -> None:
        """Remove a node; its pods go with it."""

    def create_namespace(self, prefix: str = "e2e", *, unique: bool = True) -> str:
        """Create a namespace, ready for pods, and return its name."""

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace without waiting for its end."""

    def install_crd(self, crd: Mapping[str, Any]) -> None:
        """Install a CustomResourceDefinition; returns when its kind is served."""

    def kubeconfig_as(
        self, account: str, namespace: str, *, cluster_role: str | None = "cluster-admin"
    ) -> Path:
        """A kubeconfig of a ServiceAccount, created if need be, that has a ClusterRole."""

    def grant_as_shipped(self, account: str, namespace: str) -> None:
        """Give a ServiceAccount the operator's rights as the chart grants them, and no others."""

    def component(self, name: str) -> Component:
        """A part of the control plane, to be broken and mended."""

    def audit_events(self, mentioning: str = "") -> list[dict[str, Any]]:
        """Every write so far and the operators' reads, in the order of the API server's log.

        Args:
            mentioning: Only events with this text in them: of a long log the rest is not parsed.
        """


class Component(Protocol):
    """A process of the control plane."""

    def stop(self) -> None:
        """End it in order (SIGTERM)."""

    def start(self) -> None:
        """Start it again, on the data that it had."""

    def kill(self) -> None:
        """End it at once (SIGKILL)."""

    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""


class BaseCluster(ABC):
    """Everything that needs no more than an API server and kubectl.

    Args:
        custody: Owns the cluster's files and processes.
        programs: Paths of kubectl, kwok and so on, by name.
        prefix: Part of the names of nodes and namespaces that tells this rig's apart.
        taint_nodes: Keep pods that do not ask for GPUs off the rig's nodes.
    """

    owns_control_plane = False
    api: KubeApi

    def __init__(
        self,
        custody: Custody,
        programs: Mapping[str, Path],
        *,
        prefix: str = "",
        taint_nodes: bool = False,
    ) -> None:
        self.kubeconfig = custody.directory / "kubeconfig"
        self._custody = custody
        self._programs = programs
        self._prefix = prefix
        self._taint_nodes = taint_nodes

    @abstractmethod
    def start(self) -> None:
        """Bring it up; returns when it schedules pods."""

    def stop(self) -> None:
        """Let go of it; what the rig brought in goes when its custody closes."""
        if hasattr(self, "api"):
            self.api.close()

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return what it printed, errors included.

        Raises:
            RigError: It failed and ``check`` is set.
        """
        done = subprocess.run(
            [str(self._programs["kubectl"]), "--kubeconfig", str(self.kubeconfig), *args],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._custody.environment(),
            text=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode:
            msg = f"kubectl {' '.join(args)} failed ({done.returncode}): {done.stdout}"
            raise RigError(msg)
        return done.stdout

    def add_node(self, name: str, *, gpus: int = 8, labels: Mapping[str, str] | None = None) -> str:
        """Add a GPU node, and return its name when it is Ready."""
        full = f"{self._prefix}{name}"
        manifest = node_manifest(
            full,
            gpus=gpus,
            labels={**(labels or {}), **self._rig_labels()},
            tainted=self._taint_nodes,
        )
        self.api.create(manifest)
        wait_for(
            f"node {full} is Ready",
            lambda: self.api.get("Node", full),
            lambda node: has_condition(node, "Ready"),
        )
        return full

    def _rig_labels(self) -> dict[str, str]:
        """Labels by which this rig's nodes and namespaces are known."""
        return {}

    def remove_node(self, name: str) -> None:
        """Remove a node. Its pods are deleted first, as a drain does."""
        for pod in self.api.list("Pod"):
            if pod["spec"].get("nodeName") == name:
                metadata = pod["metadata"]
                self.api.delete("Pod", metadata["name"], metadata["namespace"], grace_seconds=0)
        self.api.delete("Node", name)

    def create_namespace(self, prefix: str = "e2e", *, unique: bool = True) -> str:
        """Create a namespace, and return its name when pods may be created in it.

        Args:
            prefix: What its name begins with; the rest is random.
            unique: Without, this is the whole name.

        Raises:
            ApiError: There is one of that name.
        """
        name = f"{self._prefix}{prefix}-{secrets.token_hex(3)}" if unique else prefix
        self.api.create(namespace_manifest(name, self._rig_labels()))
        # Without its default ServiceAccount the namespace refuses pods.
        wait_for(
            f"namespace {name} has its default ServiceAccount",
            lambda: self.api.find("ServiceAccount", "default", name),
            interval=0.02,
        )
        return name

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace without waiting for its end."""
        self.api.delete("Namespace", name)

    def install_crd(self, crd: Mapping[str, Any]) -> None:
        """Install a CustomResourceDefinition; returns when its kind is served.

        One that is there is brought up to date, and stays when the rig goes.
        """
        name = crd["metadata"]["name"]
        if self.api.find("CustomResourceDefinition", name) is None:
            labels = {**crd["metadata"].get("labels", {}), **self._rig_labels()}
            self.api.create({**crd, "metadata": {**crd["metadata"], "labels": labels}})
        else:
            self.api.apply(crd)
        wait_for(
            f"CRD {name} is established",
            lambda: self.api.get("CustomResourceDefinition", name),
            lambda found: has_condition(found, "Established"),
            interval=0.05,
        )
        spec = crd["spec"]
        kind = f"{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['kind']}"
        # Established comes a moment before the server's storage for the kind is ready.
        wait_for(f"{kind} is served", lambda: self.api.list(kind) is not None, interval=0.05)

    def grant_as_shipped(self, account: str, namespace: str) -> None:
        """Give a ServiceAccount the operator's rights as the chart grants them, and no others."""
        self.api.apply(*shipped_rights(account, namespace, self._rig_labels()))

    def kubeconfig_as(
        self, account: str, namespace: str, *, cluster_role: str | None = "cluster-admin"
    ) -> Path:
        """A kubeconfig of a ServiceAccount of its own, so that the audit log tells who wrote.

        Args:
            account: Its name.
            namespace: Where it lives.
            cluster_role: What it may do everywhere; None: what it may do already.
        """
        subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
        self.api.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": account, "namespace": namespace},
            }
        )
        if cluster_role is not None:
            self.api.apply(
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": f"{namespace}-{account}", "labels": self._rig_labels()},
                    "roleRef": {
                        "apiGroup": "rbac.authorization.k8s.io",
                        "kind": "ClusterRole",
                        "name": cluster_role,
                    },
                    "subjects": [subject],
                }
            )
        path = self.api.path("ServiceAccount", namespace, account) + "/token"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86_400},
        }
        token = self.api.request("POST", path, body=request)["status"]["token"]
        config = json.loads(
            self.kubectl("config", "view", "--minify", "--raw", "--flatten", "-o=json")
        )
        config["users"][0]["user"] = {"token": token}
        target = self._custody.directory / f"kubeconfig-{account}"
        target.write_text(yaml.safe_dump(config), encoding="utf-8")
        target.chmod(0o600)
        return target

    def component(self, name: str) -> Component:
        """Not here."""
        msg = f"this cluster's {name} is not ours to break; run with --cluster=local"
        raise UnsupportedError(msg)

    def audit_events(self, mentioning: str = "") -> list[dict[str, Any]]:
        """Not here."""
        del mentioning
        msg = "this cluster's audit log can't be read; run with --cluster=local"
        raise UnsupportedError(msg)

    def _connect(self) -> None:
        """Open the API client and wait until the server answers."""
        self.api = KubeApi(self.kubeconfig)
        try:
            wait_for(
                "the API server is ready",
                lambda: self.api.request("GET", "/api/v1/namespaces/default"),
                timeout=60,
            )
        except AssertionError as error:
            raise RigError(str(error)) from error


def has_condition(found: Mapping[str, Any], kind: str, status: str = "True") -> bool:
    """Whether an object's status has that condition."""
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] == kind and c["status"] == status for c in conditions)
