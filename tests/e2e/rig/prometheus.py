"""A real Prometheus that scrapes the emulator as it would scrape vLLM, DCGM and a gateway."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import requests
import yaml

from tests.e2e.rig.processes import ManagedProcess, RigError, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.e2e.rig.processes import Custody


class Prometheus(ManagedProcess):
    """A server with a folder of its own; works with Debian's 2.42 and with 3.x.

    It can be stopped, killed and paused like any process; started again it has its data.

    Args:
        custody: Whose process it is.
        program: Path of ``prometheus``.
        emulator_url: Where the fleet emulator serves.
        scrape_interval_seconds: How often each target is asked.
        jobs: Scrape jobs in the place of those that read the emulator; the operators' stays.
    """

    def __init__(
        self,
        custody: Custody,
        program: Path,
        emulator_url: str,
        *,
        scrape_interval_seconds: float = 1.0,
        jobs: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        folder = custody.directory / "prometheus"
        folder.mkdir()
        self.config = folder / "prometheus.yml"
        self.scrape_interval_seconds = scrape_interval_seconds
        self._emulator_url = emulator_url
        self._jobs = jobs
        self._operators = folder / "operators.json"
        self._gateways = folder / "gateways.json"
        self.set_operators([])
        self.set_gateways([])
        self._write_config()
        address = f"127.0.0.1:{free_ports(1)[0]}"
        self.url = f"http://{address}"
        super().__init__(
            custody,
            "prometheus",
            [
                str(program),
                f"--config.file={self.config}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--storage.tsdb.retention.time=6h",
                f"--web.listen-address={address}",
                "--web.enable-lifecycle",
                "--log.level=warn",
            ],
            ready_url=f"{self.url}/-/ready",
        )

    def reload(self, *, scrape_interval_seconds: float) -> None:
        """Scrape at another interval from now on.

        Raises:
            RigError: The server refused the configuration.
        """
        self.scrape_interval_seconds = scrape_interval_seconds
        self._write_config()
        answer = requests.post(f"{self.url}/-/reload", timeout=10)
        if answer.status_code != 200:
            msg = f"prometheus did not reload: {answer.text}"
            raise RigError(msg)

    def set_operators(self, urls: Sequence[str]) -> None:
        """Scrape these operators from now on."""
        targets = [url.removeprefix("http://") for url in urls]
        made = self._operators.with_suffix(".new")
        made.write_text(json.dumps([{"targets": targets}]), encoding="utf-8")
        # At once: the server must never read half a file.
        made.replace(self._operators)

    def set_gateways(self, targets: Sequence[str], path: str = "/metrics/") -> None:
        """Scrape these gateways (host and port) from now on, beside the emulated one.

        Args:
            targets: Host and port of each.
            path: Of their pages; LiteLLM redirects without its last slash.
        """
        made = self._gateways.with_suffix(".new")
        group = {"targets": list(targets), "labels": {"__metrics_path__": path}}
        made.write_text(json.dumps([group]), encoding="utf-8")
        made.replace(self._gateways)

    def query(self, promql: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant query: a list of ``{"metric": {...}, "value": [time, text]}``.

        Args:
            promql: The query.
            at: Seconds since the epoch; None is now.

        Raises:
            RigError: The query is not valid.
        """
        answer = requests.get(
            f"{self.url}/api/v1/query",
            params={"query": promql, "time": str(time.time() if at is None else at)},
            timeout=10,
        ).json()
        if answer["status"] != "success":
            msg = f"query {promql!r}: {answer.get('error')}"
            raise RigError(msg)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def _write_config(self) -> None:
        config = configuration(
            self._emulator_url,
            self.scrape_interval_seconds,
            str(self._operators),
            str(self._gateways),
        )
        if self._jobs is not None:
            operators = [j for j in config["scrape_configs"] if j["job_name"] == "spillway"]
            config["scrape_configs"] = [*self._jobs, *operators]
        self.config.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def configuration(
    emulator_url: str,
    scrape_interval_seconds: float,
    operators: str = "operators.json",
    gateways: str = "gateways.json",
) -> dict[str, Any]:
    """The scrape configuration, with the labels that a cluster's usual one would give.

    vLLM's series get ``namespace`` and ``pod`` from discovery. DCGM's exporter is a pod of its own
    that names the pods which use its GPUs; without honorLabels (the usual way) these become
    ``exported_namespace`` and ``exported_pod``. A gateway's own labels are kept, and
    the operators', as the chart's ServiceMonitor has it; their file changes with them.
    """
    address = emulator_url.removeprefix("http://")
    interval = f"{round(scrape_interval_seconds * 1000)}ms"
    exporter = {"namespace": "gpu-operator", "pod": "dcgm-exporter-x"}
    discovery = {"url": f"{emulator_url}/sd/pods", "refresh_interval": "1s"}
    return {
        "global": {
            "scrape_interval": interval,
            # A page that hangs must not make its target look alive for longer than an interval.
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "scrape_configs": [
            {"job_name": "vllm", "http_sd_configs": [discovery]},
            {
                "job_name": "dcgm",
                "metrics_path": "/dcgm/metrics",
                "honor_labels": False,
                "static_configs": [{"targets": [address], "labels": exporter}],
            },
            {
                "job_name": "spillway",
                "honor_labels": True,
                "file_sd_configs": [{"files": [operators], "refresh_interval": "1s"}],
            },
            {
                "job_name": "gateway",
                "metrics_path": "/gateway/metrics",
                "honor_labels": True,
                "static_configs": [{"targets": [address]}],
            },
            {
                "job_name": "gateways",
                "honor_labels": True,
                "file_sd_configs": [{"files": [gateways], "refresh_interval": "1s"}],
            },
        ],
    }
