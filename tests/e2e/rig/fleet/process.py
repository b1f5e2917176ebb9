"""The fleet's exporter as a process, and a client of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import requests

from tests.e2e.rig.processes import ManagedProcess, free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.rig.processes import Custody

#: Pages that Prometheus reads, each with a part of the pods.
PARTS: Final = 8


class FleetExporter(ManagedProcess):
    """The fleet's metrics as a process.

    Args:
        custody: Whose process it is.
        kubeconfig: The cluster whose pods it plays.
        pods: Of a pool.
    """

    def __init__(self, custody: Custody, kubeconfig: Path, pods: int) -> None:
        port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            custody,
            "exporter",
            [
                sys.executable, "-m", "tests.e2e.rig.fleet",
                "--port", str(port), "--kubeconfig", str(kubeconfig), "--pods", str(pods),
            ],
            ready_url=f"{self.url}/healthz",
        )  # fmt: skip

    @property
    def scrape_url_template(self) -> str:
        """Where an operator finds each pod's page."""
        return self.url + "/pods/{namespace}/{pod}/metrics"

    def set_rate(self, namespace: str, pool: str, rate: float) -> float:
        """Requests a second and pod from now on; returns since when (seconds since the epoch)."""
        body = {"namespace": namespace, "pool": pool, "rate": rate}
        answer = requests.post(f"{self.url}/load", json=body, timeout=10)
        answer.raise_for_status()
        return float(answer.json()["at"])
