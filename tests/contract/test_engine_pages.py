"""The line filter reads what engines of four generations export."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from spillway.adapters.metrics import parse_page

DATA = Path(__file__).parent / "data"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
PAGES = sorted(DATA.glob("vllm-*.txt"))


def read(name: str) -> str:
    return (DATA / name).read_text("utf-8")


def test_vllm_0_6_has_old_names_and_no_prefix_counters() -> None:
    page = parse_page(read("vllm-0.6.txt"), at=100.0)
    assert (page.running, page.waiting, page.waiting_all) == (12.0, 3.0, 3.0)
    assert page.kv_usage == 0.4375
    assert page.finished == 1000.0
    assert (page.prompt_tokens, page.generation_tokens) == (512000.0, 249100.0)
    assert page.prefix_hit_tokens is None
    assert page.steps == 31000.0
    assert (page.at, page.engines) == (100.0, 1)
    assert page.model_names == {MODEL}


def test_vllm_0_9_exports_old_and_new_names_which_count_once() -> None:
    page = parse_page(read("vllm-0.9.txt"), at=0.0)
    assert page.kv_usage == 0.5
    assert page.prefix_hit_tokens == 128000.0
    assert page.prompt_tokens == 512000.0


def test_vllm_0_11_data_parallel_ranks_are_summed_and_kv_usage_weighed_by_blocks() -> None:
    page = parse_page(read("vllm-0.11-data-parallel.txt"), at=0.0)
    assert page.engines == 2
    assert (page.running, page.waiting) == (48.0, 4.0)
    # 90 % of 20,000 blocks and 30 % of 10,000: 21,000 of 30,000.
    assert page.kv_usage == pytest.approx(0.7)
    assert page.finished == 1005 + 2010
    assert page.steps == 31000 + 62000


def test_current_vllm_only_the_queue_for_capacity_is_a_queue() -> None:
    page = parse_page(read("vllm-current.txt"), at=0.0)
    assert page.waiting == 9.0
    assert page.waiting_all == 12.0
    # Cached locally and brought by a KV connector: neither is computed.
    assert page.prefix_hit_tokens == 160000.0
    assert page.kv_usage == 0.8125


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_full_parser_of_prometheus_client_finds_the_same(path: Path) -> None:
    text = path.read_text("utf-8")
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    page = parse_page(text, at=0.0)
    assert page.running == totals["vllm:num_requests_running"]
    assert page.waiting_all == totals["vllm:num_requests_waiting"]
    assert page.prompt_tokens == totals["vllm:prompt_tokens_total"]
    assert page.generation_tokens == totals["vllm:generation_tokens_total"]
    assert page.finished == totals["vllm:request_success_total"]
    assert page.steps == totals["vllm:iteration_tokens_total_count"]
