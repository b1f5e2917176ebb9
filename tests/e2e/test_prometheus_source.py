"""PrometheusSource against a real Prometheus that scrapes the recorded pages.

The pages' counters grow at known rates, so that what comes out can be checked by hand. Windows are
shortened, not assertions.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from spillway.adapters.metrics import MetricsSnapshot, PrometheusSource, missing_for
from spillway.adapters.metrics.queries import Signal
from tests.e2e.rig import binaries
from tests.e2e.rig.processes import Custody, ManagedProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DATA = Path(__file__).parent.parent / "contract" / "data"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
WINDOW_SECONDS = 4.0
INTERVAL = "500ms"
#: By which part of a series' name, and how much each such series grows a second.
GROWTH = {
    "vllm:prompt_tokens_total": 100.0,
    "vllm:iteration_tokens_total_count": 50.0,
    'finished_reason="stop"': 2.0,
    # Buckets are cumulative: half of the lengths are within 1,000 to 2,000, half within the next.
    'le="2000.0"': 1.0,
    **dict.fromkeys(
        [f'le="{le}"' for le in ("5000.0", "10000.0", "20000.0", "50000.0", "100000.0", "+Inf")],
        2.0,
    ),
    'destination="local"': 10.0,
    'destination="cloud"': 5.0,
}
GATEWAY = """\
spillway_gateway_requests_total{namespace="serving",pool="llama",destination="local"} 1000
spillway_gateway_requests_total{namespace="serving",pool="llama",destination="cloud"} 100
spillway_gateway_cost_usd_total{namespace="serving",pool="llama"} 1.25
spillway_gateway_in_flight{namespace="serving",pool="llama",destination="local"} NaN
"""
#: Pod, and the page it serves.
PODS = {
    "llama-8b-6d4c9-aaaaa": "vllm-current.txt",
    "llama-8b-6d4c9-bbbbb": "vllm-0.11-data-parallel.txt",
    "old-1": "vllm-0.6.txt",
    "between-1": "vllm-0.9.txt",
    "small-7f9d-ccccc": "vllm-current.txt",
}


def growing(text: str, seconds: float) -> str:
    """The page as it would be ``seconds`` later."""

    def grow(match: re.Match[str]) -> str:
        if match[1].startswith("spillway_gateway_in_flight"):
            return match[0]
        more = sum(rate for part, rate in GROWTH.items() if part in match[1])
        return f"{match[1]} {float(match[2]) + more * seconds}"

    return re.sub(r"^([^#\n].*) (\S+)$", grow, text, flags=re.MULTILINE)


class Targets:
    """Serves the pages at /{job}/{name}; pods in ``gone`` are not found."""

    def __init__(self) -> None:
        self.began = time.time()
        self.gone: set[str] = set()

    async def page(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name in self.gone:
            raise web.HTTPNotFound
        page = PODS.get(name, name)
        text = GATEWAY if page == "gateway" else (DATA / page).read_text("utf-8")
        return web.Response(text=growing(text, time.time() - self.began))


def configuration(address: str) -> dict[str, object]:
    def job(
        name: str, path: str, labels: dict[str, str], *, honor: bool = False
    ) -> dict[str, object]:
        return {
            "job_name": name,
            "metrics_path": path,
            "honor_labels": honor,
            "static_configs": [{"targets": [address], "labels": labels}],
        }

    monitored = [
        job(f"{kind}-{pod}", f"/{kind}/{pod}", {"namespace": "serving", "pod": pod})
        # The last pod has a ServiceMonitor and a PodMonitor.
        for kind, pods in (("service", list(PODS)), ("podmonitor", list(PODS)[:1]))
        for pod in pods
    ]
    exporter = {"namespace": "gpu-operator", "pod": "dcgm-exporter-x"}
    gateway = {"namespace": "gateways", "pod": "gateway-1"}
    return {
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL},
        "scrape_configs": [
            *monitored,
            job("dcgm", "/dcgm/dcgm-exporter.txt", exporter),
            job("dcgm-mig", "/dcgm/dcgm-exporter-mig.txt", exporter),
            job("gateway", "/gateway/gateway", gateway),
        ],
    }


@pytest.fixture
async def targets() -> AsyncIterator[tuple[Targets, str]]:
    targets = Targets()
    app = web.Application()
    app.router.add_get("/{job}/{name}", targets.page)
    async with TestServer(app, host="127.0.0.1") as server:
        yield targets, f"127.0.0.1:{server.port}"


@pytest.fixture
async def source(targets: tuple[Targets, str]) -> AsyncIterator[PrometheusSource]:
    program = binaries.ensure(names=["prometheus"])["prometheus"]
    with Custody() as custody:
        config = custody.directory / "prometheus.yml"
        config.write_text(yaml.safe_dump(configuration(targets[1])), "utf-8")
        address = f"127.0.0.1:{free_ports(1)[0]}"
        server = ManagedProcess(
            custody,
            "prometheus",
            [
                str(program),
                f"--config.file={config}",
                f"--storage.tsdb.path={custody.directory / 'data'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
            ready_url=f"http://{address}/-/ready",
        )
        await asyncio.to_thread(server.start)
        source = PrometheusSource(
            f"http://{address}", rate_window_seconds=WINDOW_SECONDS, max_age_seconds=3.0
        )
        yield source
        await source.close()
        await asyncio.to_thread(server.stop)


async def until(
    source: PrometheusSource, reached: Callable[[MetricsSnapshot], bool], seconds: float = 20.0
) -> MetricsSnapshot:
    """The first snapshot for which ``reached`` holds."""
    deadline = time.time() + seconds
    while True:
        snapshot = await source.snapshot(time.time())
        if reached(snapshot):
            return snapshot
        assert time.time() < deadline, f"not reached: {snapshot}"
        await asyncio.sleep(0.3)


def all_have_rates(snapshot: MetricsSnapshot) -> bool:
    loads = [snapshot.loads.get(("serving", pod)) for pod in PODS]
    return ("serving", "llama") in snapshot.gateways and all(
        load is not None and load.steps_per_second is not None for load in loads
    )


async def test_a_real_prometheus_gives_every_signal(
    source: PrometheusSource, targets: tuple[Targets, str]
) -> None:
    await until(source, all_have_rates)
    await asyncio.sleep(WINDOW_SECONDS)
    snapshot = await until(source, all_have_rates)

    # Every query is valid PromQL and its answer carries no warning.
    assert snapshot.failures == ()
    loads = {pod: snapshot.loads["serving", pod] for pod in PODS}
    current = loads["llama-8b-6d4c9-aaaaa"]
    assert 0 <= snapshot.at - current.sampled_at < 3
    # It is scraped by two jobs and counts once; of its queue only the part that waits for capacity.
    assert (current.running, current.waiting, current.kv_usage) == (37.0, 9.0, 0.8125)
    assert current.prompt_tokens_per_second == pytest.approx(100, rel=0.1)
    assert current.finished_per_second == pytest.approx(2, rel=0.1)
    assert current.steps_per_second == pytest.approx(50, rel=0.1)
    assert current.running_mean == pytest.approx(37)
    assert current.in_flight_change_per_second == 0
    assert current.prefix_hit_tokens_per_second == 0
    # Two GPUs at 98 and 90 %, named by exported_pod.
    assert current.gpu_utilization == pytest.approx(0.94)

    parallel = loads["llama-8b-6d4c9-bbbbb"]
    assert (parallel.running, parallel.waiting) == (48.0, 4.0)
    assert parallel.kv_usage == pytest.approx(0.7)
    assert parallel.prompt_tokens_per_second == pytest.approx(200, rel=0.1)
    assert parallel.gpu_utilization == pytest.approx(0.03)

    old = loads["old-1"]
    assert (old.running, old.waiting, old.kv_usage) == (12.0, 3.0, 0.4375)
    assert old.prefix_hit_tokens_per_second is None
    assert old.gpu_utilization is None
    assert loads["between-1"].kv_usage == 0.5
    assert loads["between-1"].prompt_tokens_per_second == pytest.approx(100, rel=0.1)
    # A MIG slice has no DCGM_FI_DEV_GPU_UTIL.
    assert loads["small-7f9d-ccccc"].gpu_utilization == 0.5

    lengths = snapshot.lengths["serving", MODEL]
    assert lengths.prompt_p50 == pytest.approx(2000, rel=0.05)
    assert lengths.output_p50 == pytest.approx(2000, rel=0.05)
    assert lengths.prompt_p95 is not None
    assert 2000 < lengths.prompt_p95 <= 5000

    gateway = snapshot.gateways["serving", "llama"]
    assert gateway.arrivals_per_second == pytest.approx(15, rel=0.1)
    assert gateway.cloud_per_second == pytest.approx(5, rel=0.1)
    assert gateway.cloud_usd_total == 1.25
    assert gateway.in_flight is None

    assert missing_for(snapshot, "serving", MODEL, list(PODS), gateway_pool="llama") == ()
    (wrong,) = missing_for(snapshot, "serving", "llama", ["old-1"])
    assert MODEL in wrong.seen

    servers, _ = targets
    servers.gone = {"old-1"}
    snapshot = await until(source, lambda seen: ("serving", "old-1") not in seen.loads)
    (missing,) = missing_for(snapshot, "serving", MODEL, list(PODS))
    assert missing.query == source.queries[Signal.RUNNING]
    assert "1 of 5 pods (old-1)" in missing.seen


async def test_a_hostile_cluster_label_is_only_a_label(source: PrometheusSource) -> None:
    await until(source, lambda seen: bool(seen.loads))
    hostile = PrometheusSource(
        source._connect.url, matchers={"cluster": 'x"} or vector(1) or up{a="\\\n🚀'}
    )
    snapshot = await hostile.snapshot(time.time())
    await hostile.close()
    assert (snapshot.failures, snapshot.loads) == ((), {})
