"""What the demo shows: model servers, a busy day's traffic within minutes, and the sample pool.

The pool is `manifests/samples/inferencepool.yaml` with the edge as its driver, and the operator's
settings are its defaults. What the sample can't say is chosen here: how fast the emulated replicas
and the emulated provider are and how much is asked of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from spillway.api.quantities import parse_duration
from tests.e2e.rig.cloud import Cloud
from tests.e2e.rig.edge_traffic import EdgePool
from tests.e2e.rig.emulator.settings import LatencyTargets, WorkloadSettings
from tests.e2e.rig.processes import free_ports
from tests.e2e.rig.recording import Phase
from tests.e2e.rig.workloads import service, vllm_deployment

if TYPE_CHECKING:
    from tests.e2e.rig.rig import Rig

SAMPLE: Final = Path(__file__).resolve().parents[3] / "manifests/samples/inferencepool.yaml"
#: From a pod's start to Ready. Real servers take 45 to 90 s for a 7B model; the demo has less time.
STARTUP_SECONDS: Final = 25.0
#: The profile is the H100's, as the sample says; the mix is that of a public trace of chat traffic.
PROFILE: Final = {"preset": "llama-3.1-8b-h100"}
MIX: Final = WorkloadSettings(mix="chat").build()
MINUTES: Final = 7.0
#: (Seconds since the workload began, requests per second) for a demo of `MINUTES`; lines between.
RATES: Final = (
    (0.0, 11.0),
    (60.0, 11.0),
    (160.0, 62.0),
    (222.0, 62.0),
    (225.0, 80.0),
    (243.0, 80.0),
    (255.0, 8.0),
)
PHASES: Final = (
    Phase(0.0, "steady"),
    Phase(60.0, "ramp"),
    Phase(160.0, "busy"),
    Phase(222.0, "spike"),
    Phase(245.0, "quiet"),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The demo's pool and traffic.

    Attributes:
        pool: The sample's InferencePool, at the edge.
        minutes: How long the workload runs; its points of time stretch with it.
        http_port: The emulated pods'.
    """

    pool: dict[str, Any]
    minutes: float
    http_port: int

    @classmethod
    def load(cls, minutes: float) -> Scenario:
        """The scenario of that length."""
        pool = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
        pool["spec"]["burst"]["driver"] = "EdgeEnvoy"
        # Longer than the spike, so that the API alone carries it.
        pool["spec"]["scaling"] = {**pool["spec"].get("scaling", {}), "persistence": "2m"}
        [port] = free_ports(1)
        return cls(pool, minutes, port)

    @property
    def namespace(self) -> str:
        """The pool's namespace."""
        return str(self.pool["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """The pool's name, and the emulator's for it."""
        return str(self.pool["metadata"]["name"])

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def target(self) -> str:
        """The Deployment's name."""
        return str(self.pool["spec"]["variants"][0]["targetRef"]["name"])

    @property
    def usd_per_replica_hour(self) -> float:
        """What the sample says a replica costs."""
        variant = self.pool["spec"]["variants"][0]
        gpus = int(variant["accelerator"]["perReplica"])
        return float(variant["price"]["perAcceleratorHour"]) * gpus

    @property
    def usd_per_million(self) -> tuple[float, float]:
        """What the sample's provider charges for prompt and output tokens."""
        price = self.pool["spec"]["burst"]["providers"][0]["price"]
        return float(price["inputPerMillion"]), float(price["outputPerMillion"])

    @property
    def targets(self) -> dict[str, float]:
        """The latency promise: ttft_seconds and tpot_seconds."""
        latency = self.pool["spec"]["latency"]
        return {f"{name}_seconds": parse_duration(latency[name]) for name in ("ttft", "tpot")}

    @property
    def seconds(self) -> float:
        """How long the workload runs."""
        return 60 * self.minutes

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The workload's parts."""
        stretch = self.minutes / MINUTES
        return tuple(Phase(phase.at * stretch, phase.name) for phase in PHASES)

    @property
    def rates(self) -> list[tuple[float, float]]:
        """Points of (seconds from the begin, requests per second)."""
        stretch = self.minutes / MINUTES
        return [(at * stretch, rate) for at, rate in RATES]

    def deploy(self, rig: Rig) -> None:
        """Create the Deployment, its Service and the emulated servers, without traffic yet."""
        rig.cluster.api.apply(
            vllm_deployment(
                self.target,
                self.namespace,
                replicas=self.pool["spec"]["replicas"]["floor"],
                startup_seconds=STARTUP_SECONDS,
            ),
            service(self.target, self.namespace),
        )
        rig.emulator.set_pool(
            self.namespace,
            self.name,
            selector={"app": self.target},
            model_name=self.pool["spec"]["modelName"],
            profile=PROFILE,
            http_port=self.http_port,
            latency=self.targets,
        )

    def behind_edge(self) -> EdgePool:
        """The pool as its edge and its clients know it."""
        return EdgePool(
            namespace=self.namespace,
            name=self.name,
            service=self.target,
            http_port=self.http_port,
            model=self.pool["spec"]["modelName"],
            mix=MIX,
            targets=LatencyTargets(**self.targets),
        )

    def cloud(self) -> Cloud:
        """The sample's provider, at its prices."""
        prompt, output = self.usd_per_million
        return Cloud(
            self.pool["spec"]["burst"]["providers"][0]["name"],
            input_usd_per_million=prompt,
            output_usd_per_million=output,
        )
