"""Prices that vanish or turn absurd while a pool bursts: the last believed ones hold."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from spillway.api.reasons import Reason
from tests.e2e.faults import BURSTING, bursting, never_below, within_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.faults import Faults
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

TRUE_PRICE = "20"


def catalog(usd: str) -> str:
    """A price catalog with the cloud's model."""
    entry = f'{{inputPerMillion: "{usd}", outputPerMillion: "{usd}"}}'
    return f"models:\n  cloud/big: {entry}\n"


def more_left(pool: Scenario, sent: int) -> bool:
    """Whether more requests have left than these."""
    return int(pool.traffic()["cloud_total"]) > sent


@pytest.fixture(scope="module")
def prices(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The price catalog of this module's operator."""
    path = tmp_path_factory.mktemp("prices") / "catalog.yaml"
    path.write_text(catalog(TRUE_PRICE), encoding="utf-8")
    rig.start_operator(price_catalog_file=path)
    yield path
    rig.stop_operators()


def test_a_price_that_is_gone_or_absurd_leaves_the_last_one_that_was_believed(
    scenario: Callable[..., Scenario], prices: Path, faults: Faults
) -> None:
    providers = [{"name": "cloud", "model": "big"}]
    pool = scenario(spec={**BURSTING, "burst": {**BURSTING["burst"], "providers": providers}})
    bursting(pool)
    began = time.time()

    for fault, usd in (
        ("gone", None),
        ("zero", "0"),
        ("negative", "-20"),
        ("1000 times as high", "20000"),
        ("1000 times as low", "0.02"),
    ):
        if usd is None:
            prices.unlink()
        else:
            prices.write_text(catalog(usd), encoding="utf-8")
        said = pool.wait_condition("PriceKnown", "True", Reason.PRICE_HELD.value)
        assert "provider cloud" in said["message"]
        sent = pool.traffic()["cloud_total"]
        pool.wait("burst goes on", partial(more_left, pool, sent))
        prices.write_text(catalog(TRUE_PRICE), encoding="utf-8")
        mended = time.time()
        pool.wait(
            "the price is known again",
            lambda: pool.condition("PriceKnown").get("reason"),
            lambda reason: reason != Reason.PRICE_HELD.value,
        )
        faults.survived(
            f"price catalog: {fault}", "the last believed price holds", time.time() - mended
        )
    never_below(pool, 2, began)
    within_ledger(pool)
