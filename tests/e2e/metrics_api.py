"""A metrics API of our own behind the API server's aggregator, for HorizontalPodAutoscalers.

It answers external.metrics.k8s.io and custom.metrics.k8s.io from scripts: each time an HPA asks,
the next value. What the HPA finds at that moment (replicas asked for, pods that are there) is kept,
so that a test can replay the same decisions elsewhere.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.e2e.rig.kubeapi import KubeApi
from tests.e2e.rig.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.e2e.rig.cluster import Cluster

EXTERNAL, CUSTOM = "external.metrics.k8s.io", "custom.metrics.k8s.io"
VERSIONS = {EXTERNAL: "v1beta1", CUSTOM: "v1beta2"}


@dataclass(frozen=True)
class Moment:
    """What an HPA found when it asked for its metric.

    Attributes:
        at: Seconds on the monotonic clock.
        value: The answer: a sum over the target, or each pod's.
        spec_replicas: What was asked for so far.
        status_replicas: Pods that were there.
        reporting: Running pods with a value.
        silent: Running pods without one.
        pending: Pods that were not running yet.
    """

    at: float
    value: int
    spec_replicas: int
    status_replicas: int
    reporting: int
    silent: int
    pending: int


@dataclass
class Script:
    """A metric of one Deployment of the same name.

    Attributes:
        values: One an answer; the last stays.
        silent: Pods that report nothing, of those that run.
        moments: What was found at each.
    """

    values: Sequence[int]
    silent: int = 0
    moments: list[Moment] = field(default_factory=list)


class MetricsApi:
    """Serves scripts by metric name; each metric has the name of its Deployment."""

    def __init__(self, api: KubeApi, namespace: str, scripts: dict[str, Script]) -> None:
        self._api = api
        self._namespace = namespace
        self._scripts = scripts
        self._one_at_a_time = threading.Lock()

    def answer(self, path: str) -> dict[str, Any] | None:
        """The object at a path; None where there is none."""
        parts = [part for part in path.partition("?")[0].split("/") if part]
        if len(parts) < 3 or VERSIONS.get(parts[1]) != parts[2]:
            return None
        if len(parts) == 3:
            return {"kind": "APIResourceList", "groupVersion": f"{parts[1]}/{parts[2]}"} | {
                "apiVersion": "v1",
                "resources": [],
            }
        script = self._scripts.get(parts[-1])
        # HPAs of a namespace that is still going must not take values of this one's scripts.
        if script is None or parts[3:5] != ["namespaces", self._namespace]:
            return None
        with self._one_at_a_time:
            if parts[1] == EXTERNAL:
                return self._total(parts[-1], script)
            return self._of_each_pod(parts[-1], script)

    def _total(self, name: str, script: Script) -> dict[str, Any]:
        moment, _ = self._look(name, script)
        item = {"metricName": name, "metricLabels": {}, "timestamp": _now()}
        return _list(EXTERNAL, "ExternalMetricValueList", [item | {"value": str(moment.value)}])

    def _of_each_pod(self, name: str, script: Script) -> dict[str, Any]:
        moment, pods = self._look(name, script)
        items = [
            {
                "describedObject": {"kind": "Pod", "namespace": self._namespace, "name": pod},
                "metric": {"name": name},
                "timestamp": _now(),
                "value": str(moment.value),
            }
            for pod in pods
        ]
        return _list(CUSTOM, "MetricValueList", items)

    def _look(self, name: str, script: Script) -> tuple[Moment, list[str]]:
        """Note what is there now, and the names of the pods that report."""
        deployment = self._api.get("Deployment", name, self._namespace)
        pods = [
            pod
            for pod in self._api.list("Pod", self._namespace, selector=f"app={name}")
            if "deletionTimestamp" not in pod["metadata"]
        ]
        running = sorted(
            pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"
        )
        reporting = running[script.silent :]
        moment = Moment(
            at=time.monotonic(),
            value=script.values[min(len(script.moments), len(script.values) - 1)],
            spec_replicas=deployment["spec"]["replicas"],
            status_replicas=deployment["status"].get("replicas", 0),
            reporting=len(reporting),
            silent=len(running) - len(reporting),
            pending=len(pods) - len(running),
        )
        script.moments.append(moment)
        return moment, reporting


def _list(group: str, kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    version = f"{group}/{VERSIONS[group]}"
    return {"kind": kind, "apiVersion": version, "metadata": {}, "items": items}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@contextmanager
def served(
    cluster: Cluster, namespace: str, scripts: dict[str, Script], pki: Path
) -> Iterator[None]:
    """Serve the scripts through the API server while the context lasts.

    Args:
        cluster: Whose API server runs on this machine.
        namespace: Of the Deployments; the Service that leads here is there too.
        scripts: By the name of metric and Deployment.
        pki: Folder with a certificate and its key, ``admin.crt`` and ``admin.key``.
    """
    api = KubeApi(cluster.kubeconfig)
    metrics = MetricsApi(api, namespace, scripts)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = metrics.answer(self.path)
            body = json.dumps(found or {"kind": "Status", "code": 404}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    manifests = _registered(namespace, server.server_port)
    try:
        cluster.api.apply(*manifests)
        for group in VERSIONS:
            wait_for(f"{group} is available", partial(_available, cluster, group))
        yield
    finally:
        for manifest in reversed(manifests):
            kind = f"{manifest['apiVersion']}/{manifest['kind']}"
            metadata = manifest["metadata"]
            cluster.api.delete(kind, metadata["name"], metadata.get("namespace"))
        server.shutdown()
        server.server_close()
        thread.join()
        api.close()


def _registered(namespace: str, port: int) -> list[dict[str, Any]]:
    """The Service that leads here, which the aggregator reaches by name, and the APIServices."""
    name = "metrics-of-the-test"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": "ExternalName",
            "externalName": "localhost",
            "ports": [{"port": port, "protocol": "TCP"}],
        },
    }
    return [
        service,
        *(
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"{version}.{group}"},
                "spec": {
                    "service": {"name": name, "namespace": namespace, "port": port},
                    "group": group,
                    "version": version,
                    "insecureSkipTLSVerify": True,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                },
            }
            for group, version in VERSIONS.items()
        ),
    ]


def _available(cluster: Cluster, group: str) -> bool:
    name = f"{VERSIONS[group]}.{group}"
    found = cluster.api.get("apiregistration.k8s.io/v1/APIService", name)
    conditions = found.get("status", {}).get("conditions", [])
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)
