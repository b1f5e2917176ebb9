"""The cheap version of bench/bench_capacity.py: one mix, two replicas, less time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from spillway.sim.profiles import profile_named
from spillway.sim.workload import mix_named

BENCH = Path(__file__).parents[3] / "bench" / "bench_capacity.py"


@pytest.fixture(name="bench")
def bench_of_two_replicas(monkeypatch: pytest.MonkeyPatch) -> Any:
    description = importlib.util.spec_from_file_location("bench_capacity", BENCH)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    monkeypatch.setitem(sys.modules, "bench_capacity", module)
    description.loader.exec_module(module)
    monkeypatch.setattr(module, "REPLICAS", 2)
    return module


@pytest.mark.slow
def test_what_is_learned_in_the_emulator_is_about_where_it_begins_to_miss_the_promise(
    bench: Any,
) -> None:
    """RAG on a GPU that nobody told of: only what the engines counted can tell."""
    profile, mix = profile_named("llama-3.1-8b-h100"), mix_named("rag")
    world = bench.World(bench.Case("rag", profile, mix, mix, None, "m"), seed=5)
    world.run(mix, 2.5, 600.0)
    found = world.capacity()
    assert found.source == "Learned"
    mu = found.requests_per_second
    assert bench.attained(profile, mix, 0.85 * mu, 900.0) > bench.ATTAINMENT
    assert bench.attained(profile, mix, 1.15 * mu, 900.0) < bench.ATTAINMENT
