"""The end-to-end tests' rig with a fleet's exporter in the emulator's place, at usual intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.e2e.rig.fleet.process import PARTS, FleetExporter
from tests.e2e.rig.prometheus import Prometheus
from tests.e2e.rig.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from tests.e2e.rig.operator_process import OperatorProcess

#: The chart's ServiceMonitor, and what most clusters have.
SCRAPE_SECONDS = 15.0
_PATIENCE_SECONDS = 120.0
#: The operator's periods and deadlines as shipped; what the rig shortens is set back.
AS_SHIPPED: dict[str, Any] = dict.fromkeys(
    (
        "slow_tick_seconds",
        "fast_tick_seconds",
        "lease_duration_seconds",
        "lease_renew_seconds",
        "lease_retry_seconds",
        "overflow_lease_seconds",
        "rate_window_seconds",
    )
)


class ScaleRig(Rig):
    """A control plane, the exporter, Prometheus, and an operator as it is shipped."""

    exporter: FleetExporter

    def __init__(self, pods: int, console: Console) -> None:
        super().__init__(nodes=0, scrape_interval_seconds=SCRAPE_SECONDS, console=console)
        self._pods = pods

    def _start_sources(self, program: Path) -> None:
        # A list of ten thousand objects takes its time where all share two cores.
        self.cluster.api.timeout = _PATIENCE_SECONDS
        self.exporter = FleetExporter(self._owner, self.cluster.kubeconfig, self._pods)
        self._timed("exporter", self.exporter.start)
        self.prometheus = Prometheus(
            self._owner,
            program,
            self.exporter.url,
            scrape_interval_seconds=SCRAPE_SECONDS,
            jobs=_jobs(self.exporter.url.removeprefix("http://")),
        )
        self._timed("prometheus", self.prometheus.start)

    @property
    def _scrape_url_template(self) -> str:
        return self.exporter.scrape_url_template

    def _tell_operators(self, urls: Sequence[str]) -> None:
        self.prometheus.set_operators(urls)

    def start_shipped(self, name: str) -> OperatorProcess:
        """Start an operator with the periods that it is shipped with; it may not be ready yet."""
        return self.start_operator(name, wait=False, **AS_SHIPPED)


def _jobs(address: str) -> list[dict[str, Any]]:
    paths = [f"/fleet/{part}" for part in range(PARTS)] + ["/gateway/metrics"]
    return [
        {
            "job_name": path.strip("/").replace("/", "-"),
            "metrics_path": path,
            "honor_labels": True,
            "static_configs": [{"targets": [address]}],
        }
        for path in paths
    ]
