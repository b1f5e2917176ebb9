from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from spillway.api.validation import InferencePool, parse

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"


def _sample(name: str) -> InferencePool:
    return parse(yaml.safe_load((SAMPLES / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_pool_among_the_samples_parses(path: Path) -> None:
    pools = [
        document
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document.get("apiVersion", "").startswith("spillway.dev/")
    ]
    assert all(parse(pool).namespace == "serving" for pool in pools)


def test_the_full_sample_says_what_the_readme_tells() -> None:
    spec = _sample("inferencepool.yaml").spec
    assert spec.model_name == "meta-llama/Llama-3.1-8B-Instruct"
    assert (spec.replicas.floor, spec.replicas.max, spec.warm_pool.size) == (2, 12, 1)
    assert spec.burst is not None
    assert spec.burst.budget.per_day == Decimal(250)


def test_the_minimal_sample_leaves_burst_off() -> None:
    spec = _sample("minimal.yaml").spec
    assert (spec.burst, spec.warm_pool.size, spec.replicas.floor) == (None, 0, 2)
