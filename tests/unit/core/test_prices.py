"""Which price is believed, which one holds, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from spillway.api.inferencepool import CapacityType, InferencePoolSpec
from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.api.timestamps import parse_time
from spillway.core.economics import api_usd_per_request, gpu_usd_per_replica_hour
from spillway.core.facts import PodFacts, PodPhase, TargetFacts, TargetKind
from spillway.core.price_status import restored, to_status
from spillway.core.pricebook import ModelPrice, PriceBook, PriceList, offers
from spillway.core.prices import GpuPrice, Offers, Prices, PriceSource, TokenPrice, resolve
from spillway.core.tokenmix import TokenMix

from .pools import START, burst, spec, variant

H100 = "NVIDIA-H100-80GB-HBM3"
DAY = 86_400.0


def unpriced(**changes: Any) -> InferencePoolSpec:
    """A pool that declares no price: one variant of four H100, one provider."""
    gpu = variant(usd=None) | {"accelerator": {"type": H100, "perReplica": 4}} | changes
    return spec(variants=[gpu], burst=burst(input_usd=None, provider={"model": "llama"}))


def book(gpu: float = 3.5, prompt: float = 0.2, answer: float = 0.8, **changes: Any) -> PriceBook:
    catalog = PriceList({(H100, CapacityType.ON_DEMAND): gpu}, as_of=START)
    models = PriceList(models={"llama": ModelPrice(prompt, answer)}, as_of=START)
    return PriceBook(**({"catalog": catalog, "price_map": models} | changes))


def step(pool: InferencePoolSpec, says: PriceBook, last: Prices, now: float = START) -> Prices:
    return resolve(pool, offers(says, pool, {}), last, now)


def reasons(prices: Prices) -> list[tuple[Reason, str]]:
    return [(note.reason, note.subject) for note in prices.notes]


def test_a_declared_price_is_the_users_word() -> None:
    pool = spec(variants=[variant(usd="0")], burst=burst(input_usd="5000"))
    prices = step(pool, book(), Prices())
    assert prices == Prices.declared(pool)
    assert prices.gpus["gpu"].usd_per_gpu_hour == 0
    assert not prices.notes


def test_what_is_not_declared_comes_from_the_lists() -> None:
    pool = unpriced()
    prices = step(pool, book(), Prices())
    assert gpu_usd_per_replica_hour(pool.variants[0], prices) == 14.0
    assert pool.burst is not None
    usd = api_usd_per_request(pool.burst.providers[0], TokenMix(1000, 200), prices)
    assert usd == pytest.approx(0.00036)
    assert prices.gpus["gpu"].source is PriceSource.CATALOG
    assert prices.apis["api"].source is PriceSource.PRICE_MAP
    assert not prices.notes


def test_spot_and_on_demand_are_two_prices() -> None:
    both = {(H100, CapacityType.ON_DEMAND): 3.5, (H100, CapacityType.SPOT): 1.25}
    says = book(catalog=PriceList(both))
    spot = step(unpriced(capacityType="Spot"), says, Prices())
    assert spot.gpus["gpu"].usd_per_gpu_hour == 1.25


def test_a_price_that_nobody_has_is_unknown() -> None:
    prices = step(unpriced(), PriceBook(problems=("f.yaml: not YAML",)), Prices())
    assert prices.unknown == ("variant gpu", "provider api")
    assert prices.notes[0].message == "f.yaml: not YAML"
    assert step(unpriced(), PriceBook(), Prices()).notes[0].message == ""


@pytest.mark.parametrize("absurd", [0.0, -3.5, 3500.0, 0.0035, float("nan"), float("inf")])
def test_an_absurd_gpu_price_is_not_decided_by(absurd: float) -> None:
    good = step(unpriced(), book(), Prices())
    later = step(unpriced(), book(gpu=absurd), good, START + 600)
    assert later.gpus["gpu"].usd_per_gpu_hour == 3.5
    assert reasons(later) == [(Reason.PRICE_HELD, "variant gpu")]
    assert "$3.5 a GPU-hour of 1970-01-12T13:46:40Z holds" in later.notes[0].message
    assert "Catalog says" in later.notes[0].message


@pytest.mark.parametrize("absurd", [0.0, -0.2, 200.0, 0.0002])
def test_an_absurd_api_price_is_not_decided_by(absurd: float) -> None:
    good = step(unpriced(), book(), Prices())
    later = step(unpriced(), book(prompt=absurd), good, START + 600)
    assert later.apis["api"].input_per_million == 0.2
    assert reasons(later) == [(Reason.PRICE_HELD, "provider api")]


def test_an_absurd_price_at_first_sight_is_no_price() -> None:
    prices = step(unpriced(), book(gpu=3500.0, prompt=0.0), Prices())
    assert prices.unknown == ("variant gpu", "provider api")
    assert not prices.gpus


def test_a_source_that_is_gone_leaves_its_last_price_for_as_long_as_it_is_gone() -> None:
    prices = step(unpriced(), book(), Prices())
    for day in range(1, 8):
        prices = step(unpriced(), PriceBook(), prices, START + day * DAY)
        assert prices.gpus["gpu"].usd_per_gpu_hour == 3.5
    # Since when it is held does not move: the message becomes a condition.
    message = prices.notes[0].message
    assert message == "$3.5 a GPU-hour of 1970-01-12T13:46:40Z holds, because no source has one now"


def test_a_price_follows_its_source_again_when_it_is_back() -> None:
    prices = step(unpriced(), book(), Prices())
    prices = step(unpriced(), PriceBook(), prices, START + DAY)
    prices = step(unpriced(), book(gpu=2.5), prices, START + 2 * DAY)
    assert prices.gpus["gpu"].usd_per_gpu_hour == 2.5
    assert not prices.notes


def test_a_price_holds_for_what_it_was_a_price_of_alone() -> None:
    prices = step(unpriced(), book(), Prices())
    other_gpu = unpriced(accelerator={"type": "NVIDIA-L40S"})
    assert step(other_gpu, book(), prices).unknown == ("variant gpu",)
    spot = unpriced(capacityType="Spot")
    assert step(spot, book(), prices).unknown == ("variant gpu",)


def test_a_declared_price_that_was_taken_back_is_not_held() -> None:
    declared = spec(variants=[variant(usd="9")], burst=burst())
    prices = step(declared, PriceBook(), Prices())
    assert step(unpriced(), PriceBook(), prices).unknown == ("variant gpu", "provider api")


def node_pods(*nodes: str) -> dict[str, TargetFacts]:
    pods = tuple(PodFacts(n, n, "1", Role.SERVING, PodPhase.READY, 0.0, 0.0, node=n) for n in nodes)
    return {"gpu": TargetFacts(TargetKind.DEPLOYMENT, pods=pods)}


def test_opencost_prices_the_nodes_that_the_pods_run_on() -> None:
    says = PriceBook(node_usd_per_gpu_hour={"a": 2.0, "b": 4.0, "other": 90.0})
    pool = unpriced()
    prices = resolve(pool, offers(says, pool, node_pods("a", "a", "b", "none")), Prices(), START)
    assert prices.gpus["gpu"].usd_per_gpu_hour == pytest.approx(8 / 3)
    assert prices.gpus["gpu"].source is PriceSource.OPENCOST


def test_an_absurd_catalog_gives_way_to_the_next_source_and_says_so() -> None:
    says = book(gpu=0.0, node_usd_per_gpu_hour={"a": 2.0})
    pool = unpriced()
    prices = resolve(pool, offers(says, pool, node_pods("a")), Prices(), START)
    assert prices.gpus["gpu"].usd_per_gpu_hour == 2.0
    assert reasons(prices) == [(Reason.PRICE_HELD, "variant gpu")]
    assert "$2 a GPU-hour of OpenCost is used, because Catalog says $0" in prices.notes[0].message


def test_a_lists_entry_of_another_provider_is_not_taken() -> None:
    models = {"other/llama": ModelPrice(9, 9), "api/llama": ModelPrice(0.1, 0.3)}
    prices = step(unpriced(), book(price_map=PriceList(models=models)), Prices())
    assert prices.apis["api"].input_per_million == 0.1
    del models["api/llama"]
    assert (
        "provider api"
        in step(unpriced(), book(price_map=PriceList(models=models)), Prices()).unknown
    )


def test_a_price_key_names_the_entry() -> None:
    named = spec(
        burst=burst(input_usd=None, provider={"model": "llama", "priceKey": "other/llama"})
    )
    models = {"other/llama": ModelPrice(9, 9), "llama": ModelPrice(1, 1)}
    prices = step(named, book(price_map=PriceList(models=models)), Prices())
    assert prices.apis["api"].input_per_million == 9


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("2026-03-01", "its model llama has been deprecated since 2026-03-01"),
        ("2026-07-20", "its model llama will be deprecated on 2026-07-20"),
        ("2026-09-01", None),
    ],
)
def test_a_model_that_ends_is_told_of_a_month_ahead(date: str, said: str | None) -> None:
    now = parse_time("2026-07-01T00:00:00Z")
    model = ModelPrice(0.2, 0.8, deprecated_at=parse_time(f"{date}T00:00:00Z"))
    prices = step(unpriced(), book(price_map=PriceList(models={"llama": model})), Prices(), now)
    assert prices.apis["api"].input_per_million == 0.2
    assert [n.message for n in prices.notes if n.reason is Reason.MODEL_DEPRECATED] == (
        [] if said is None else [said]
    )


def test_a_list_older_than_a_quarter_is_told_of() -> None:
    prices = step(unpriced(), book(), Prices(), START + 91 * DAY)
    assert set(reasons(prices)) == {
        (Reason.PRICE_OLD, "variant gpu"),
        (Reason.PRICE_OLD, "provider api"),
    }
    assert "1970-01-12" in prices.notes[0].message


@pytest.mark.parametrize("cached", [-0.1, 0.5])
def test_a_cached_price_that_is_none_is_no_discount(cached: float) -> None:
    says = book(price_map=PriceList(models={"llama": ModelPrice(0.2, 0.8, cached)}))
    assert step(unpriced(), says, Prices()).apis["api"].cached_input_per_million is None


def test_prices_hold_across_a_restart() -> None:
    before = step(unpriced(), book(), Prices())
    held = step(unpriced(), PriceBook(), before, START + 60)
    after = restored(to_status(held), START + 3600)
    later = step(unpriced(), book(gpu=3500.0), after, START + 3600)
    assert later.gpus["gpu"].usd_per_gpu_hour == 3.5
    assert later.apis["api"].output_per_million == 0.8
    assert "1970-01-12T13:46:40Z" in later.notes[0].message


def test_declared_prices_are_not_repeated_in_the_status() -> None:
    pool = spec(burst=burst())
    assert to_status(step(pool, book(), Prices())) == []


def test_a_strange_status_is_no_price() -> None:
    (gpu, api) = to_status(step(unpriced(), book(), Prices()))
    strange = [
        gpu.model_copy(update={"source": "Oracle"}),
        gpu.model_copy(update={"per_accelerator_hour": 0.0}),
        api.model_copy(update={"held_since": "yesterday"}),
        api.model_copy(update={"name": "nobody"}),
    ]
    assert restored(strange, START) == Prices()


def test_of_two_offers_the_first_that_can_be_believed_counts() -> None:
    pool = unpriced()
    said = Offers(
        gpus={"gpu": (GpuPrice(3.0, PriceSource.CATALOG), GpuPrice(2.0, PriceSource.OPENCOST))},
        apis={"api": (TokenPrice(1, 2, PriceSource.CATALOG),)},
    )
    prices = resolve(pool, said, Prices(), START)
    assert prices.gpus["gpu"].usd_per_gpu_hour == 3.0
