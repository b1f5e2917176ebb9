"""Prices on their way from files and OpenCost into a pool's facts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from spillway.adapters.prices import PriceFiles
from spillway.controller.world import World
from spillway.core.prices import Prices, PriceSource, resolve
from tests.unit.controller import fakes
from tests.unit.controller.fakes import Seams

if TYPE_CHECKING:
    from pathlib import Path

    from spillway.adapters.kube.client import Cluster

GPU = "NVIDIA-H100-80GB-HBM3"


def pool() -> Any:
    variant = {"name": "gpu", "targetRef": {"name": "pool"}, "accelerator": {"type": GPU}}
    burst = {"providers": [{"name": "api", "model": "llama"}]}
    return fakes.pool(variants=[variant], burst=burst)


def seams() -> Seams:
    found = Seams()
    fakes.put(found.watches, pool(), fakes.deployment(), fakes.pod("a", node="n1"))
    found.prometheus.put("a")
    return found


def world(found: Seams, files: PriceFiles) -> World:
    return World(
        cast("Cluster", found.cluster),
        found.watches,
        found.observer,
        cast("Any", found.scale),
        found.routes,
        node_lead_seconds=300.0,
        price_files=files,
    )


async def prices(found: Seams, files: PriceFiles) -> Prices:
    here, now = world(found, files), time.time()
    await here.refresh_prices()
    await found.observer.ask_prometheus()
    facts = await here.facts(pool(), now)
    return resolve(facts.spec, facts.offers, Prices(), now)


async def test_files_price_what_the_spec_does_not(tmp_path: Path) -> None:
    catalog, price_map = tmp_path / "catalog.yaml", tmp_path / "map.json"
    catalog.write_text(f"accelerators: {{{GPU}: {{onDemand: 3.5}}}}")
    price_map.write_text('{"llama": {"input_cost_per_token": 2e-7, "output_cost_per_token": 8e-7}}')
    found = await prices(seams(), PriceFiles(catalog, price_map))
    assert found.gpus["gpu"].usd_per_gpu_hour == 3.5
    assert found.apis["api"].source is PriceSource.PRICE_MAP
    assert not found.unknown


async def test_opencost_prices_the_node_of_a_pod() -> None:
    surroundings = seams()
    surroundings.prometheus.more["node_gpu_usd"] = {"n1": 2.75, "other": 9.0}
    found = await prices(surroundings, PriceFiles())
    assert found.gpus["gpu"].usd_per_gpu_hour == 2.75
    assert found.gpus["gpu"].source is PriceSource.OPENCOST


async def test_a_file_that_is_gone_is_told_in_the_pools_condition(tmp_path: Path) -> None:
    found = await prices(seams(), PriceFiles(tmp_path / "gone.yaml"))
    assert found.unknown == ("variant gpu", "provider api")
    assert "gone.yaml: No such file" in found.notes[0].message
