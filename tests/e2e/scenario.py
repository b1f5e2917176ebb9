"""A pool on the rig as most end-to-end tests need it: workload, Service, traffic, InferencePool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spillway.api.names import (
    API_VERSION,
    DRAIN_DEADLINE_ANNOTATION,
    KIND,
    OVERFLOW_ANNOTATION,
    ROLE_LABEL,
)
from spillway.core.ledger import from_json
from tests.e2e.rig.waiting import wait_for
from tests.e2e.rig.workloads import service, vllm_deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spillway.core.ledger_value import PoolLedger
    from tests.e2e.rig.rig import Rig

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
#: What one emulated replica is declared to serve; the emulator's own limit is a little above.
CAPACITY_PER_SECOND = 4.0
#: Short answers, so that a test sees requests end within seconds.
MIX = {
    "mix": "chat",
    "overrides": {
        "prompt_mean": 200,
        "prompt_sigma": 0.2,
        "output_mean": 100,
        "output_sigma": 0.2,
    },
}


def merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, mappings merged, None removing a key."""
    out = dict(base)
    for name, value in changes.items():
        if value is None:
            out.pop(name, None)
        elif isinstance(value, dict) and isinstance(out.get(name), dict):
            out[name] = merged(out[name], value)
        else:
            out[name] = value
    return out


@dataclass
class Scenario:
    """One pool and everything around it, in a namespace of its own.

    Attributes:
        rig: The rig.
        namespace: Where everything is.
        name: Of the workload, its Service, the pool, and the emulator's pool.
        replicas: The Deployment's when it is made.
        startup_seconds: From a pod's start to its readiness.
        spec: Changes to the pool's spec.
        emulator: Changes to the emulator's settings.
    """

    rig: Rig
    namespace: str
    name: str = "llama"
    replicas: int = 2
    startup_seconds: float = 3.0
    spec: Mapping[str, Any] = field(default_factory=dict)
    emulator: Mapping[str, Any] = field(default_factory=dict)
    deployed: bool = field(default=False, init=False)

    # Making it

    def manifest(self) -> dict[str, Any]:
        """The InferencePool: short windows, declared capacity, burst as an annotation."""
        provider = {
            "name": "cloud",
            "price": {"inputPerMillion": "10", "outputPerMillion": "30"},
        }
        capacity = {"requestsPerSecond": f"{CAPACITY_PER_SECOND:g}", "concurrency": 16}
        spec = {
            "modelName": MODEL,
            "variants": [
                {
                    "name": "main",
                    "targetRef": {"kind": "Deployment", "name": self.name},
                    "price": {"perAcceleratorHour": "3.50"},
                    "capacity": capacity,
                }
            ],
            "replicas": {"floor": 2, "max": 8},
            "scaling": {"persistence": "3s", "releaseWindow": "4s", "drainTimeout": "60s"},
            "burst": {"providers": [provider]},
        }
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": merged(spec, self.spec),
        }

    def deploy(self, workload: dict[str, Any] | None = None) -> None:
        """Make the workload, its Service and the emulated model servers."""
        self.rig.cluster.api.apply(
            workload
            or vllm_deployment(
                self.name,
                self.namespace,
                replicas=self.replicas,
                startup_seconds=self.startup_seconds,
            ),
            service(self.name, self.namespace),
        )
        settings = {
            "selector": {"app": self.name},
            "model_name": MODEL,
            "profile": {"preset": "llama-3.1-8b-h100"},
            "workload": MIX,
            "router": "fraction",
            "providers": [
                {"name": "cloud", "input_usd_per_million": 10, "output_usd_per_million": 30}
            ],
        }
        self.rig.emulator.set_pool(
            self.namespace, self.name, **merged(settings, dict(self.emulator))
        )
        self.deployed = True

    def deploy_on_own_nodes(self) -> None:
        """`deploy` with pods that only run on nodes labelled ``pool`` with this namespace."""
        workload = vllm_deployment(
            self.name,
            self.namespace,
            replicas=self.replicas,
            startup_seconds=self.startup_seconds,
        )
        workload["spec"]["template"]["spec"]["nodeSelector"]["pool"] = self.namespace
        self.deploy(workload)

    def apply(self) -> None:
        """Apply the InferencePool."""
        self.rig.cluster.api.apply(self.manifest())

    def start(self) -> None:
        """Deploy, apply, and wait until the pool is Ready."""
        self.deploy()
        self.apply()
        self.wait_ready()

    # Looking

    @property
    def key(self) -> str:
        """The emulator's and the operator's name for the pool."""
        return f"{self.namespace}/{self.name}"

    def pool(self) -> dict[str, Any]:
        """The InferencePool as it is."""
        return self.rig.cluster.api.get("InferencePool", self.name, self.namespace)

    def status(self) -> dict[str, Any]:
        """Its status; empty before the first."""
        status: dict[str, Any] = self.pool().get("status") or {}
        return status

    def condition(self, kind: str) -> dict[str, Any]:
        """One of its conditions; empty where there is none."""
        found = (c for c in self.status().get("conditions", []) if c["type"] == kind)
        return next(found, {})

    def annotation(self) -> str | None:
        """The overflow value's text."""
        annotations = self.pool()["metadata"].get("annotations") or {}
        text: str | None = annotations.get(OVERFLOW_ANNOTATION)
        return text

    def ledger(self) -> PoolLedger | None:
        """The pool's ledger as the cluster has it."""
        for shard in self.rig.cluster.api.list("ConfigMap", self.rig.system_namespace):
            for text in (shard.get("data") or {}).values():
                name, _, payload = text.partition("\n")
                if name == self.key:
                    return from_json(payload)
        return None

    def scale(self) -> int:
        """spec.replicas of the Deployment."""
        deployment = self.rig.cluster.api.get("Deployment", self.name, self.namespace)
        return int(deployment["spec"]["replicas"])

    def pods(self, role: str | None = None, *, ready: bool | None = None) -> list[dict[str, Any]]:
        """Pods of the workload that are not being deleted."""
        return [
            pod
            for pod in self.rig.cluster.api.list("Pod", self.namespace, selector=f"app={self.name}")
            if "deletionTimestamp" not in pod["metadata"]
            and (role is None or pod["metadata"]["labels"].get(ROLE_LABEL) == role)
            and (ready is None or is_ready(pod) is ready)
        ]

    def traffic(self) -> dict[str, Any]:
        """The emulator's view of the pool."""
        state: dict[str, Any] = self.rig.emulator.state()["pools"][self.key]
        return state

    def events(self, reason: str) -> list[dict[str, Any]]:
        """Events on the pool with this reason."""
        return [
            event
            for event in self.rig.cluster.api.list("Event", self.namespace)
            if event.get("reason") == reason
        ]

    # Acting and waiting

    def rate(self, requests_per_second: float) -> None:
        """Set the arrivals."""
        self.rig.emulator.set_rate(self.key, requests_per_second)

    def wait(
        self,
        description: str,
        look: Callable[[], Any],
        until: Callable[[Any], object] = bool,
        timeout: float = 30.0,
    ) -> Any:
        """Wait for something; see `wait_for`."""
        return wait_for(description, look, until, timeout=timeout)

    def wait_event(self, reason: str) -> None:
        """Wait until an event of the pool says this; events are written behind the decisions."""
        self.wait(f"an event says {reason}", lambda: self.events(reason))

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until the pool is Ready."""
        self.wait(
            f"{self.key} is Ready",
            lambda: self.condition("Ready"),
            lambda c: c.get("status") == "True",
            timeout,
        )

    def wait_condition(
        self, kind: str, status: str, reason: str | None = None, timeout: float = 30.0
    ) -> dict[str, Any]:
        """Wait for a condition to have a status (and a reason)."""
        found: dict[str, Any] = self.wait(
            f"{kind} of {self.key} is {status} {reason or ''}",
            lambda: self.condition(kind),
            lambda c: c.get("status") == status and reason in {None, c.get("reason")},
            timeout,
        )
        return found

    def wait_roles(self, timeout: float = 60.0, **counts: int) -> None:
        """Wait until so many Ready pods have these roles."""
        self.wait(
            f"roles of {self.key} are {counts}",
            lambda: {role: len(self.pods(role, ready=True)) for role in counts},
            lambda seen: seen == counts,
            timeout,
        )


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod's Ready condition is True."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def drain_deadline(pod: Mapping[str, Any]) -> str | None:
    """A pod's drain deadline annotation."""
    annotations = pod["metadata"].get("annotations") or {}
    deadline: str | None = annotations.get(DRAIN_DEADLINE_ANNOTATION)
    return deadline
