"""What the operator's price files and OpenCost say, looked up for one pool."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Final

from spillway.core.facts import PodPhase
from spillway.core.prices import GpuPrice, Offers, PriceSource, TokenPrice
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spillway.api.inferencepool import CapacityType, InferencePoolSpec, Provider, Variant
    from spillway.core.facts import TargetFacts


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a price list says of a model at an API, in US dollars a million tokens.

    Attributes:
        input_per_million: Prompt tokens.
        output_per_million: Output tokens.
        cached_input_per_million: Prompt tokens that its cache answers; None: it does not cache.
        deprecated_at: When the provider ends the model, seconds since the epoch.
    """

    input_per_million: float
    output_per_million: float
    cached_input_per_million: float | None = None
    deprecated_at: float | None = None


@dataclass(frozen=True, slots=True)
class PriceList:
    """One file's prices.

    Attributes:
        gpus: US dollars for one GPU-hour, by product name and how it is bought.
        models: By entry.
        as_of: Of which day its prices are, or when the file was written, seconds since the epoch.
    """

    gpus: Mapping[tuple[str, CapacityType], float] = field(default_factory=dict)
    models: Mapping[str, ModelPrice] = field(default_factory=dict)
    as_of: float | None = None


_EMPTY: Final = PriceList()


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All that is known of prices outside of the specs.

    Attributes:
        catalog: The operator's own file.
        price_map: LiteLLM's.
        node_usd_per_gpu_hour: OpenCost's price of a GPU, by node.
        problems: Files that can't be read, a sentence each.
    """

    catalog: PriceList = _EMPTY
    price_map: PriceList = _EMPTY
    node_usd_per_gpu_hour: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def offers(book: PriceBook, spec: InferencePoolSpec, targets: Mapping[str, TargetFacts]) -> Offers:
    """What the book says of what the spec declares no price for, the first choice first.

    The catalog is the administrator's word and comes before what OpenCost computes and before a
    list that the world shares.

    Args:
        book: What is known.
        spec: The pool's spec.
        targets: By variant; OpenCost prices the nodes that a variant's pods run on.
    """
    providers = spec.burst.providers if spec.burst is not None else ()
    return Offers(
        gpus={
            v.name: tuple(_gpu_offers(book, v, targets.get(v.name)))
            for v in spec.variants
            if v.price is None
        },
        apis={p.name: tuple(_api_offers(book, p)) for p in providers if p.price is None},
        problems=book.problems,
    )


def _gpu_offers(
    book: PriceBook, variant: Variant, target: TargetFacts | None
) -> Iterator[GpuPrice]:
    usd = book.catalog.gpus.get((variant.accelerator.type or "", variant.capacity_type))
    if usd is not None:
        yield GpuPrice(usd, PriceSource.CATALOG, as_of=book.catalog.as_of)
    nodes = book.node_usd_per_gpu_hour
    if target is None or not nodes:
        return
    # The mean over replicas is what the pool pays, whichever nodes they run on.
    paid = [
        nodes[pod.node]
        for pod in target.pods
        if pod.node is not None and pod.node in nodes and pod.phase is not PodPhase.TERMINATING
    ]
    if paid:
        yield GpuPrice(sum(paid) / len(paid), PriceSource.OPENCOST)


def _api_offers(book: PriceBook, provider: Provider) -> Iterator[TokenPrice]:
    lists = ((PriceSource.CATALOG, book.catalog), (PriceSource.PRICE_MAP, book.price_map))
    for source, prices in lists:
        found = next((prices.models[k] for k in _keys(provider) if k in prices.models), None)
        if found is not None:
            yield TokenPrice(
                found.input_per_million,
                found.output_per_million,
                source,
                found.cached_input_per_million,
                as_of=prices.as_of,
                deprecated_at=found.deprecated_at,
            )


def _keys(provider: Provider) -> tuple[str, ...]:
    """Entries under which a list may have the provider's model.

    Lists name the same model once for each provider, at its own price: an entry of another
    provider's is no guess that may be made.
    """
    if provider.price_key is not None:
        return (provider.price_key,)
    if provider.model is None:
        return ()
    return f"{provider.name}/{provider.model}", provider.model
