"""A pod: what Kubernetes says of it, and the engines that would run in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.e2e.rig.emulator.settings import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.sim.replica import Replica

_GPU_RESOURCE: Final = "nvidia.com/gpu"


@dataclass(frozen=True)
class PodView:
    """What the emulator needs of a pod object."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ready: bool = False
    terminating: bool = False
    node: str | None = None
    ip: str = ""
    container: str = ""
    gpus: int = 0

    @classmethod
    def of(cls, pod: Mapping[str, Any]) -> PodView:
        """Read a pod as the API server sends it."""
        metadata, spec = pod["metadata"], pod.get("spec", {})
        status = pod.get("status", {})
        containers = spec.get("containers", [])
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            labels=metadata.get("labels", {}),
            ready=any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in status.get("conditions", [])
            ),
            terminating="deletionTimestamp" in metadata
            or status.get("phase") in {"Succeeded", "Failed"},
            node=spec.get("nodeName"),
            ip=status.get("podIP", ""),
            container=containers[0]["name"] if containers else "",
            gpus=sum(
                int(container.get("resources", {}).get("limits", {}).get(_GPU_RESOURCE, 0))
                for container in containers
            ),
        )


class EmulatedPod:
    """A pod whose engines run.

    Attributes:
        view: The pod as last seen.
        engines: One per data-parallel rank.
        gpu_indices: Which of its node's GPUs it holds.
        fault: What is wrong with it.
        serving: Whether the router may send to it.
        serving_since: Since when, simulated time.
        first_request_at: When it got its first request ever, simulated time.
        awaits_first: No request since it last began to serve.
        deleted_at: When its deletion was seen, simulated time.
        finished: Requests it finished.
    """

    def __init__(self, view: PodView, engines: list[Replica], gpu_indices: list[int]) -> None:
        self.view = view
        self.engines = engines
        self.gpu_indices = gpu_indices
        self.fault = Fault()
        self.serving = False
        self.serving_since: float | None = None
        self.first_request_at: float | None = None
        self.awaits_first = True
        self.deleted_at: float | None = None
        self.finished = 0
        self._busy_seconds = [0.0] * len(engines)
        self._utilization = [0.0] * len(engines)

    @property
    def in_flight(self) -> int:
        """Requests on all engines."""
        return sum(engine.in_flight for engine in self.engines)

    def least_loaded(self) -> Replica:
        """The engine that takes the next request."""
        return min(self.engines, key=lambda engine: engine.in_flight)

    def suffer(self, fault: Fault) -> None:
        """Apply a fault, or heal."""
        self.fault = fault
        for engine in self.engines:
            if fault.hung:
                engine.hang()
            else:
                engine.resume()

    def sample_gpus(self, seconds: float) -> None:
        """Take GPU utilisation over the last ``seconds``, as DCGM samples it."""
        for rank, engine in enumerate(self.engines):
            busy = engine.busy_seconds
            share = (busy - self._busy_seconds[rank]) / seconds
            self._utilization[rank] = min(1.0, max(0.0, share))
            self._busy_seconds[rank] = busy

    def gpu_utilization(self, position: int) -> float:
        """Utilisation of the pod's ``position``-th GPU, 0 to 1; a fault overrides it."""
        if self.fault.gpu_utilization is not None:
            return self.fault.gpu_utilization / 100
        return self._utilization[position * len(self.engines) // max(1, len(self.gpu_indices))]

    def gpu_uuid(self, position: int) -> str:
        """A stable UUID of a GPU: of its node and index, as a real GPU keeps its own."""
        digest = hashlib.sha256(
            f"{self.view.node}/{self.gpu_indices[position]}".encode()
        ).hexdigest()
        return f"GPU-{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
