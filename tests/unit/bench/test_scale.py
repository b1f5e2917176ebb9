"""The scale benchmark's own arithmetic: a wrong quantile would be a wrong claim."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from bench.scale import figures
from spillway.adapters.metrics.page import parse_page
from tests.e2e.rig.fleet import load, looking, pages

if TYPE_CHECKING:
    from pathlib import Path

_VALUES: dict[str, Any] = {f.name: 1 if f.type == "int" else 0.5 for f in fields(figures.Figures)}
FIGURES = figures.Figures(**_VALUES)


def test_a_quantile_is_of_what_came_between_two_looks() -> None:
    before = {0.1: 10.0, 0.5: 10.0, math.inf: 10.0}
    after = {0.1: 60.0, 0.5: 110.0, math.inf: 110.0}
    # Of a hundred new ones half are below 0.1, and the rest between 0.1 and 0.5.
    assert looking.quantile(before, after, 0.5) == pytest.approx(0.1)
    assert looking.quantile(before, after, 0.75) == pytest.approx(0.3)


def test_beyond_the_last_bound_that_bound_is_what_is_known() -> None:
    assert looking.quantile({}, {0.1: 1.0, math.inf: 100.0}, 0.99) == 0.1
    assert math.isnan(looking.quantile({0.1: 5.0}, {0.1: 5.0}, 0.5))


def test_the_99th_percentile_of_a_few_is_the_longest() -> None:
    assert looking.at_rank([3.0, 1.0, 2.0], 0.99) == 3.0
    assert looking.at_rank([3.0, 1.0, 2.0], 0.5) == 2.0
    assert math.isnan(looking.at_rank([], 0.5))


def test_a_page_is_read_for_what_matters() -> None:
    text = 'a_total{x="1"} 2.0\na_total{x="2"} 3.0\nb 1.0\nc_bucket{le="+Inf"} 4.0\n'
    page = looking.Page(text, ["a_total", "c"])
    assert page.total("a_total") == 5.0
    assert page.total("a_total", 'x="2"') == 3.0
    assert page.value("b") == 0.0
    assert page.buckets("c") == {math.inf: 4.0}


def test_an_engine_s_figures_fit_each_other() -> None:
    state = load.engine_at(10.0)
    # Little: what runs is the rate times the time of an answer.
    seconds = load.OUTPUT_TOKENS * state.step_seconds
    assert state.running == pytest.approx(10.0 * seconds)
    full = load.engine_at(load.SHORT)
    assert (full.running, full.waiting) == (load.MOST_RUNNING, load.QUEUE)
    assert full.per_second < load.SHORT


def test_counters_go_on_where_a_load_changes() -> None:
    pool = load.PoolLoad(load.engine_at(10.0), since=100.0)
    pool.change(load.engine_at(20.0), now=110.0)
    finished, arrived, _ = pool.totals(111.0)
    assert finished == arrived == pytest.approx(120.0)


def test_a_pod_s_page_is_one_that_the_operator_reads() -> None:
    pool = load.PoolLoad(load.engine_at(10.0), since=0.0)
    # Millions of tokens, and a second later a few thousand more.
    before, after = (
        parse_page(pages.own_page(pages.FleetPod("ns", "p", pool, (0.0, 0.0, 0.0)), at), at)
        for at in (1e6, 1e6 + 1)
    )
    assert before.running == pytest.approx(pool.state.running, abs=1e-3)
    assert before.prompt_tokens is not None
    assert after.prompt_tokens is not None
    assert after.prompt_tokens - before.prompt_tokens == pytest.approx(10_000, abs=0.01)
    assert len(pages.own_page(pages.FleetPod("ns", "p", pool, (0.0, 0.0, 0.0)), 1.0)) > 30_000


def test_a_goal_that_is_missed_is_told_and_what_is_unknown_is_not_met() -> None:
    good = replace(FIGURES, leaderships=1, errors=0, cpu_share=0.1, lag_p99_seconds=0.05)
    assert "event-loop lag p99, ms" not in figures.missed(good)
    assert "event-loop lag p99, ms" in figures.missed(replace(good, lag_p99_seconds=0.2))
    assert "pass p99, s" in figures.missed(replace(good, tick_p99_seconds=math.nan))


def test_growth_beyond_the_pools_own_is_called_so() -> None:
    small = replace(FIGURES, pools=10, tick_p50_seconds=0.1, cpu_share=0.01)
    large = replace(FIGURES, pools=100, tick_p50_seconds=0.5, cpu_share=0.2)
    said = {line.partition(": ")[2] for line in figures.growth([large, small])}
    assert "pass p50, s x5.0, linear or better" in said
    assert "CPU, % of a core, 100 pods/min replaced x20.0, WORSE THAN LINEAR" in said


def test_figures_of_another_run_are_kept_by_size(tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    figures.save(path, {1: FIGURES})
    assert figures.load(path) == {1: FIGURES}
    path.write_text('[{"pools": 1}]', encoding="utf-8")
    assert figures.load(path) == {}
