"""Contour as the Gateway API's controller with an Envoy, beside the cluster, on loopback alone."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.e2e.rig import binaries, gateway_api
from tests.e2e.rig.processes import ManagedProcess, free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.rig.kubeapi import KubeApi
    from tests.e2e.rig.rig import Rig

GATEWAY: Final = "edge"
_CLASS: Final = "contour"
_CONTROLLER: Final = "projectcontour.io/gateway-controller"
#: Contour's Envoy listens so far above the port that the Gateway names.
_PORT_OFFSET: Final = 8000
_GROUP: Final = "projectcontour.io"
_PARTS: Final = ("gatewayclasses", "gateways", "grpcroutes", "referencegrants")
#: Kinds of the Gateway API that the rig does not install.
_WITHOUT: Final = ("tlsroutes", "tcproutes", "backendtlspolicies")


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs.

    Attributes:
        url: Where its Envoy listens.
        contour: The controller.
        envoy: The proxy.
    """

    url: str
    contour: ManagedProcess
    envoy: ManagedProcess

    def stop(self) -> None:
        """End both."""
        self.envoy.stop()
        self.contour.stop()


def start(rig: Rig, namespace: str) -> Gateway:
    """Start both; the Gateway `GATEWAY` is in the namespace, and is programmed on return."""
    programs = binaries.ensure(names=("contour", "envoy"))
    api, folder = rig.cluster.api, rig.directory
    _install(rig)
    listens, xds, http, health, admin = free_ports(5)
    _make_gateway(api, namespace, listens - _PORT_OFFSET)
    bootstrap = folder / "envoy.json"
    _bootstrap(programs["contour"], bootstrap, xds, admin)
    settings = {
        "gateway": {"gatewayRef": {"name": GATEWAY, "namespace": namespace}},
        "enableExternalNameService": True,
    }
    config = folder / "contour.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    contour = rig.manage(
        "contour",
        [
            str(programs["contour"]), "serve",
            f"--kubeconfig={rig.cluster.kubeconfig}", f"--config-path={config}", "--insecure",
            "--xds-address=127.0.0.1", f"--xds-port={xds}",
            "--http-address=127.0.0.1", f"--http-port={http}",
            "--health-address=127.0.0.1", f"--health-port={health}",
            "--envoy-service-http-address=127.0.0.1", "--disable-leader-election",
            *(f"--disable-feature={kind}" for kind in _WITHOUT),
        ],
        ready_url=f"http://127.0.0.1:{health}/healthz",
    )  # fmt: skip
    envoy = rig.manage(
        "envoy",
        [
            str(programs["envoy"]), "--config-path", str(bootstrap), "--concurrency", "1",
            "--use-dynamic-base-id", "--service-cluster", "contour", "--service-node", "rig",
        ],
        ready_url=f"http://127.0.0.1:{admin}/ready",
    )  # fmt: skip
    contour.start()
    envoy.start()
    return Gateway(f"http://127.0.0.1:{listens}", contour, envoy)


def _install(rig: Rig) -> None:
    """Contour's own CRDs, which it does not start without, and the Gateway API's that it reads."""
    gateway_api.install(rig.cluster.api)
    for plural, crd in gateway_api.crds().items():
        ours = crd["spec"]["group"] == _GROUP or plural in _PARTS
        if (
            ours
            and rig.cluster.api.find("CustomResourceDefinition", crd["metadata"]["name"]) is None
        ):
            rig.cluster.install_crd(crd)


def _make_gateway(api: KubeApi, namespace: str, port: int) -> None:
    version = "gateway.networking.k8s.io/v1"
    api.apply(
        {
            "apiVersion": version,
            "kind": "GatewayClass",
            "metadata": {"name": _CLASS},
            "spec": {"controllerName": _CONTROLLER},
        },
        {
            "apiVersion": version,
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": namespace},
            "spec": {
                "gatewayClassName": _CLASS,
                "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
            },
        },
    )


def _bootstrap(contour: Path, target: Path, xds: int, admin: int) -> None:
    """Envoy's first configuration, as Contour writes it, with an admin port of the rig's own."""
    subprocess.run(
        [
            str(contour), "bootstrap", str(target), "--xds-address=127.0.0.1",
            f"--xds-port={xds}", f"--admin-address={target.parent}/envoy-admin.sock",
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )  # fmt: skip
    text: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    address = {"socket_address": {"address": "127.0.0.1", "port_value": admin}}
    text["admin"]["address"] = address
    target.write_text(json.dumps(text), encoding="utf-8")


def external(name: str, namespace: str, port: int) -> dict[str, Any]:
    """A Service that leads to a port of loopback."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": "ExternalName",
            "externalName": "127.0.0.1",
            "ports": [{"port": port, "protocol": "TCP"}],
        },
    }
