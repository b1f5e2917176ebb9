"""The pages are what Prometheus reads from the real exporters."""

from __future__ import annotations

import math
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.rig.emulator import pages
from tests.e2e.rig.emulator.settings import Fault
from tests.unit.rig.builders import World, value, view

Samples = dict[str, list[tuple[dict[str, str], float]]]
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def parse(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def busy_world(**changes: Any) -> World:
    world = World(requests_per_second=3, **changes)
    world.observe(view("a"))
    world.run(20)
    return world


def page(world: World) -> Samples:
    [(pool, pod)] = world.fleet.pods()
    return parse(pages.vllm(pool, pod))


def test_a_vllm_page_says_what_the_engine_counted() -> None:
    world = busy_world()
    found = page(world)
    [(_, pod)] = world.fleet.pods()
    counters, gauges = pod.engines[0].counters, pod.engines[0].gauges()
    plain = {"engine": "0", "model_name": MODEL}
    assert found["vllm:num_requests_running"] == [(plain, gauges.running)]
    assert found["vllm:num_requests_waiting"] == [(plain, gauges.waiting)]
    assert found["vllm:kv_cache_usage_perc"] == [(plain, gauges.kv_usage)]
    assert found["vllm:prompt_tokens_total"] == [(plain, counters.prompt_tokens)]
    assert found["vllm:generation_tokens_total"] == [(plain, counters.generation_tokens)]
    assert found["vllm:iteration_tokens_total_count"] == [(plain, counters.iteration_tokens.count)]
    success = {labels["finished_reason"]: n for labels, n in found["vllm:request_success_total"]}
    assert success == {"stop": pod.finished, "length": 0, "abort": 0}
    [(info, one)] = found["vllm:cache_config_info"]
    assert (info["block_size"], info["num_gpu_blocks"], one) == ("16", "11749", 1)


def test_histograms_are_cumulative_and_have_vllms_bounds() -> None:
    found = page(busy_world())
    for name, some_bounds in (
        ("vllm:time_to_first_token_seconds", {"0.001", "1.0", "2.5", "2560.0", "+Inf"}),
        ("vllm:inter_token_latency_seconds", {"0.01", "0.05", "0.075", "80.0", "+Inf"}),
        ("vllm:e2e_request_latency_seconds", {"0.3", "1.5", "7680.0", "+Inf"}),
        ("vllm:iteration_tokens_total", {"1.0", "8.0", "16384.0", "+Inf"}),
        ("vllm:request_prompt_tokens", {"1.0", "2.0", "5.0", "1000.0", "50000.0", "+Inf"}),
        ("vllm:request_generation_tokens", {"1.0", "200.0", "50000.0", "+Inf"}),
    ):
        buckets = found[f"{name}_bucket"]
        assert some_bounds <= {labels["le"] for labels, _ in buckets}
        counts = [count for _, count in buckets]
        assert counts == sorted(counts)
        assert [counts[-1]] == [count for _, count in found[f"{name}_count"]]
        assert counts[-1] > 0


def test_old_names_replace_the_new_ones() -> None:
    found = page(busy_world(old_metric_names=True))
    assert "vllm:gpu_cache_usage_perc" in found
    assert "vllm:time_per_output_token_seconds_bucket" in found
    assert not {
        "vllm:kv_cache_usage_perc",
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:num_requests_waiting_by_reason",
        "vllm:prompt_tokens_by_source_total",
    } & set(found)


def test_data_parallel_engines_are_told_apart() -> None:
    found = page(busy_world(data_parallel_size=2))
    running = found["vllm:num_requests_running"]
    assert [labels["engine"] for labels, _ in running] == ["0", "1"]
    assert all(count > 0 for _, count in found["vllm:generation_tokens_total"])


def test_faults_show_on_the_page() -> None:
    world = busy_world()
    world.pool.set_fault(Fault(nan=True, model_name='odd "name"\\'), "a")
    [(labels, running)] = page(world)["vllm:num_requests_running"]
    assert math.isnan(running)
    assert labels["model_name"] == 'odd "name"\\'


def test_dcgm_reports_each_gpu_of_each_pod() -> None:
    world = World(requests_per_second=3)
    world.observe(view("a", gpus=2), view("idle", "warm", node="node-1"))
    world.run(10)
    found = parse(pages.dcgm(world.fleet))
    util = {(labels["pod"], labels["gpu"]): n for labels, n in found["DCGM_FI_DEV_GPU_UTIL"]}
    assert set(util) == {("a", "0"), ("a", "1"), ("idle", "0")}
    assert util["a", "0"] == util["a", "1"] > 50
    assert util["idle", "0"] == 0
    labels = found["DCGM_FI_DEV_GPU_UTIL"][0][0]
    assert labels["namespace"] == "serving"
    assert labels["container"] == "vllm"
    assert labels["modelName"] == "NVIDIA L40S"
    assert labels["Hostname"] == "node-0"
    assert len({labels["UUID"] for labels, _ in found["DCGM_FI_DEV_GPU_UTIL"]}) == 3


def test_dcgm_can_be_made_to_lie_or_to_miss_a_pod() -> None:
    world = World()
    world.observe(view("a"), view("b"))
    world.pool.set_fault(Fault(gpu_utilization=95), "a")
    world.pool.set_fault(Fault(gpu_missing=True), "b")
    found = parse(pages.dcgm(world.fleet))
    assert [(labels["pod"], n) for labels, n in found["DCGM_FI_DEV_GPU_UTIL"]] == [("a", 95)]


def test_the_gateway_counts_both_sides_of_the_split() -> None:
    world = World(requests_per_second=10, router="fraction")
    world.observe(view("a"), view("b"))
    world.pool.router.offer(value(fraction=0.5), world.clock.time)
    world.run(40)
    found = parse(pages.gateway(world.fleet))
    sides = {labels["destination"]: n for labels, n in found["spillway_gateway_requests_total"]}
    assert sides == {"local": world.pool.local.requests, "cloud": world.pool.cloud.requests}
    assert min(sides.values()) > 120
    costs = {labels["destination"]: n for labels, n in found["spillway_gateway_cost_usd_total"]}
    tokens = sum(
        n
        for name in ("prompt", "completion")
        for labels, n in found[f"spillway_gateway_{name}_tokens_total"]
        if labels["destination"] == "cloud"
    )
    assert costs["local"] == 0
    assert abs(costs["cloud"] - tokens * 0.18e-6) < 1e-9
    assert found["spillway_gateway_in_flight"][0][0] == {
        "namespace": "serving",
        "pool": "llama-8b",
        "destination": "local",
    }


def test_service_discovery_lists_running_pods_whatever_their_role() -> None:
    world = World()
    world.observe(view("a"), view("w", "warm"), view("d", "draining"), view("n", ready=False))
    found = pages.discovery(world.fleet, "127.0.0.1:9800")
    assert [target["labels"]["pod"] for target in found] == ["a", "w", "d"]
    assert found[0] == {
        "targets": ["127.0.0.1:9800"],
        "labels": {
            "__metrics_path__": "/pods/serving/a/metrics",
            "namespace": "serving",
            "pod": "a",
        },
    }
