"""The Gateway API's CRDs as Contour ships them, and routes as its users write them."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.e2e.rig.binaries import MODULES, BuildError
from tests.e2e.rig.waiting import wait_for

if TYPE_CHECKING:
    from tests.e2e.rig.kubeapi import KubeApi

ROUTE: Final = "gateway.networking.k8s.io/v1/HTTPRoute"
_HTTP_ROUTES: Final = "httproutes.gateway.networking.k8s.io"
_MODULE: Final = "github.com/projectcontour/contour"
_CRDS: Final = ("examples/gateway/00-crds.yaml", "examples/contour/01-crds.yaml")


@functools.cache
def crds() -> dict[str, dict[str, Any]]:
    """Its CRDs and Contour's by plural name, out of Contour's Go module (pinned in go.sum)."""
    go = shutil.which("go")
    if go is None:
        msg = "Go is not on PATH; the Gateway API's CRDs come out of a Go module"
        raise BuildError(msg)
    folder = MODULES / "contour"
    command = [go, "mod", "download", _MODULE]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    listed = [go, "list", "-m", "-f", "{{.Dir}}", _MODULE]
    answer = subprocess.run(
        listed, cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    found = {}
    for name in _CRDS:
        text = (Path(answer.stdout.strip()) / name).read_text(encoding="utf-8")
        for document in yaml.safe_load_all(text):
            if document and document["kind"] == "CustomResourceDefinition":
                found[document["spec"]["names"]["plural"]] = document
    return found


def installed(api: KubeApi) -> bool:
    """Whether HTTPRoute is there."""
    return api.find("CustomResourceDefinition", _HTTP_ROUTES) is not None


def remove(api: KubeApi) -> None:
    """Take HTTPRoute away."""
    api.delete("CustomResourceDefinition", _HTTP_ROUTES)
    wait_for("HTTPRoute is gone", lambda: not installed(api))


def install(api: KubeApi) -> None:
    """Install HTTPRoute where it is not there, and wait until the API server serves it."""
    if not installed(api):
        api.apply(crds()["httproutes"])

    def established() -> bool:
        found = api.get("CustomResourceDefinition", _HTTP_ROUTES).get("status") or {}
        said = {c["type"]: c["status"] for c in found.get("conditions") or []}
        return said.get("Established") == "True"

    wait_for("HTTPRoute is established", established)
    # The server says so some milliseconds before it answers.
    wait_for("HTTPRoutes are listed", lambda: api.list(ROUTE, "default"), lambda _: True)


def http_route(
    name: str, namespace: str, *rules: dict[str, Any], gateway: str = "edge"
) -> dict[str, Any]:
    """A route of all hosts."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"parentRefs": [{"name": gateway}], "rules": list(rules)},
    }


def rule(name: str, **weights: int | None) -> dict[str, Any]:
    """A rule with Services as backends; None names no weight."""
    return {
        "name": name,
        "backendRefs": [
            {"name": backend, "port": 8000, **({} if weight is None else {"weight": weight})}
            for backend, weight in weights.items()
        ],
    }


def accept(api: KubeApi, name: str, namespace: str, *, status: str = "True") -> None:
    """Say what a gateway would say of the route as it is: it takes it, or not."""
    route = api.get(ROUTE, name, namespace)
    condition = {
        "type": "Accepted",
        "status": status,
        "reason": "Accepted" if status == "True" else "NoMatchingParent",
        "message": "as the test says",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": route["metadata"]["generation"],
    }
    parent = {
        "parentRef": route["spec"]["parentRefs"][0],
        "controllerName": "example.com/gateway",
        "conditions": [condition],
    }
    api.patch(ROUTE, name, namespace, {"status": {"parents": [parent]}}, subresource="status")
