"""The fleet emulator as a process, and a client of its control API."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import requests

from tests.e2e.rig.processes import ManagedProcess, RigError, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.e2e.rig.processes import Custody


class Emulator(ManagedProcess):
    """Serves every pod's metrics page, DCGM's and the gateway's, and takes orders.

    Args:
        custody: Whose process it is.
        kubeconfig: The cluster whose pods it plays.
    """

    def __init__(self, custody: Custody, kubeconfig: Path) -> None:
        port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            custody,
            "emulator",
            [
                sys.executable, "-m", "tests.e2e.rig.emulator",
                "--port", str(port), "--kubeconfig", str(kubeconfig),
            ],
            ready_url=f"{self.url}/healthz",
        )  # fmt: skip

    @property
    def scrape_url_template(self) -> str:
        """SPILLWAY_SCRAPE_URL_TEMPLATE for an operator: where each pod's page is."""
        return self.url + "/pods/{namespace}/{pod}/metrics"

    def set_pool(self, namespace: str, name: str, **settings: Any) -> str:
        """Define a pool, or replace it; returns its key, ``namespace/name``.

        Args:
            namespace: Of its pods.
            name: What it is called here.
            settings: The other fields of ``emulator.settings.PoolSettings``.
        """
        self._post("/pools", {"namespace": namespace, "name": name, **settings})
        return f"{namespace}/{name}"

    def set_rate(
        self,
        pool: str,
        requests_per_second: float | None = None,
        *,
        profile: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        """Set the arrivals of a pool.

        Args:
            pool: Its key.
            requests_per_second: A constant rate; or
            profile: Points of (seconds from now, requests per second), joined by lines.
        """
        body = {"pool": pool, "requests_per_second": requests_per_second, "profile": profile}
        self._post("/rate", {key: value for key, value in body.items() if value is not None})

    def set_fault(self, pool: str, pod: str | None = None, **fault: Any) -> None:
        """Make a pod, or all of a pool's, faulty; without ``fault`` healthy again.

        Args:
            pool: Its key.
            pod: The pod's name; None is every pod, present and future.
            fault: Fields of ``emulator.settings.Fault``.
        """
        self._post("/faults", {"pool": pool, **({"pod": pod} if pod else {}), **fault})

    def set_operators(self, urls: Sequence[str]) -> None:
        """Say where the operators serve the overflow value, which the routers poll."""
        self._post("/operators", {"urls": list(urls)})

    def state(self) -> dict[str, Any]:
        """What it plays at this moment."""
        answer = requests.get(f"{self.url}/state", timeout=10)
        answer.raise_for_status()
        state: dict[str, Any] = answer.json()
        return state

    def _post(self, path: str, body: Any) -> None:
        answer = requests.post(f"{self.url}{path}", json=body, timeout=10)
        if answer.status_code >= 400:
            msg = f"emulator refused POST {path}: {answer.status_code} {answer.text}"
            raise RigError(msg)
