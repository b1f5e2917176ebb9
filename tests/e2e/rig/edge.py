"""The edge as a process: a real Envoy with the configuration that the chart ships."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from spillway.edge.bootstrap import build
from tests.e2e.rig import binaries
from tests.e2e.rig.processes import Custody, ManagedProcess, free_ports

if TYPE_CHECKING:
    from typing import Any

    from spillway.edge.settings import EdgeSettings


class Edge(ManagedProcess):
    """One Envoy before a pool, on loopback.

    Args:
        custody: Whose process it is.
        name: Its own among the edges of the pool.
        settings: Everything but its ports and addresses, which are chosen here.
        workers: Worker threads.
    """

    def __init__(
        self, custody: Custody, name: str, settings: EdgeSettings, *, workers: int = 2
    ) -> None:
        program = binaries.ensure(names=("envoy",))["envoy"]
        listen, metrics, admin = free_ports(3)
        self.url = f"http://127.0.0.1:{listen}"
        self.metrics_url = f"http://127.0.0.1:{metrics}/metrics"
        self.metrics_target = f"127.0.0.1:{metrics}"
        self.workers = workers
        changes: dict[str, Any] = {
            "address": "127.0.0.1",
            "listen": listen,
            "metrics_port": metrics,
            "admin_port": admin,
        }
        config = custody.directory / f"edge-{name}.json"
        bootstrap = build(settings.model_copy(update=changes), name)
        config.write_text(json.dumps(bootstrap), encoding="utf-8")
        super().__init__(
            custody,
            f"edge-{name}",
            [
                str(program), "--config-path", str(config), "--concurrency", str(workers),
                "--use-dynamic-base-id", "--log-level", "warning",
            ],
            ready_url=f"http://127.0.0.1:{metrics}/ready",
        )  # fmt: skip
