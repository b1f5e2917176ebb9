"""Clusters that others run: one made by kind, or the one that KUBECONFIG points at.

Their nodes and pods are kwok's too, by a kwok of ours beside the cluster; so no GPU is needed, and
none that is there is used.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.rig.cluster_base import BaseCluster
from tests.e2e.rig.processes import ManagedProcess, RigError, free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.rig.processes import Custody

STAGES = Path(__file__).resolve().parent / "stages.yaml"
#: On every node and namespace of a rig, with the rig's id: what goes at the end.
RIG_LABEL = "rig.spillway.dev/id"

#: Kinds that carry the rig's label, besides nodes.
_CLEANED = (
    "namespaces,clusterrolebindings,clusterroles,customresourcedefinitions,"
    "validatingadmissionpolicybindings,validatingadmissionpolicies"
)


class CurrentCluster(BaseCluster):
    """The cluster of KUBECONFIG. What the rig adds carries a random id, and goes at the end."""

    def __init__(self, custody: Custody, programs: Mapping[str, Path]) -> None:
        self._id = secrets.token_hex(3)
        super().__init__(custody, programs, prefix=f"rig-{self._id}-", taint_nodes=True)

    def start(self) -> None:
        """Connect, and run kwok beside the cluster.

        Raises:
            RigError: There is no kubeconfig, no answer, or no kwok.
        """
        self._write_kubeconfig()
        self._connect()
        self._clean_up_at_end()
        self._start_kwok()

    def _write_kubeconfig(self) -> None:
        """Copy the current context alone: a change of context by its user must not move us."""
        done = subprocess.run(
            [str(self._programs["kubectl"]), "config", "view", "--minify", "--raw", "--flatten"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or "server:" not in done.stdout:
            msg = (
                "no cluster to use: KUBECONFIG (or ~/.kube/config) has no current context "
                f"with a server {done.stderr.strip()}"
            )
            raise RigError(msg)
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(done.stdout, encoding="utf-8")

    def _clean_up_at_end(self) -> None:
        """Have what carries our label deleted; kwok still lives then, and lets the pods go."""
        kubectl = [str(self._programs["kubectl"]), "--kubeconfig", str(self.kubeconfig)]
        for kinds in ("nodes", _CLEANED):
            label = f"-l={RIG_LABEL}={self._id}"
            self._custody.at_end([*kubectl, "delete", kinds, label, "--timeout=60s"])

    def _start_kwok(self) -> None:
        port = free_ports(1)[0]
        ManagedProcess(
            self._custody,
            "kwok",
            [
                str(self._programs["kwok"]),
                f"--kubeconfig={self.kubeconfig}",
                f"--config={STAGES}",
                f"--manage-nodes-with-label-selector={RIG_LABEL}={self._id}",
                f"--server-address=127.0.0.1:{port}",
                "--node-lease-duration-seconds=40",
            ],
            ready_url=f"http://127.0.0.1:{port}/healthz",
        ).start()

    def _rig_labels(self) -> dict[str, str]:
        return {RIG_LABEL: self._id}


class KindCluster(CurrentCluster):
    """A cluster that kind creates in a container for this rig alone, and deletes at the end."""

    def start(self) -> None:
        """Create the cluster; takes about a minute when the node's image is there.

        Raises:
            RigError: kind or its container runtime is missing, or creation failed.
        """
        kind = shutil.which("kind")
        if kind is None:
            msg = (
                "kind is not on PATH (https://kind.sigs.k8s.io); "
                "--cluster=local needs neither it nor a container runtime"
            )
            raise RigError(msg)
        name = f"spillway-{self._id}"
        self._custody.at_end(
            [kind, "delete", "cluster", "--name", name], {"KUBECONFIG": str(self.kubeconfig)}
        )
        done = subprocess.run(
            [kind, "create", "cluster", "--name", name, "--wait", "120s",
             "--kubeconfig", str(self.kubeconfig)],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            msg = f"kind create cluster failed:\n{done.stderr[-3000:]}"
            raise RigError(msg)
        self._connect()
        self._start_kwok()
