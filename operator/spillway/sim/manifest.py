"""The world that an InferencePool describes: its prices, targets, limits and GPUs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from spillway.sim.profiles import PROFILES

if TYPE_CHECKING:
    from spillway.api.burst import Provider, ProviderPrice
    from spillway.api.inferencepool import InferencePoolSpec, Variant
    from spillway.sim.conditions import Api, Conditions
    from spillway.sim.profiles import ReplicaProfile

POLICY_FIELDS: Final = ("guard", "policy", "scaling", "schedules", "utilization")
"""Fields of a spec that steer Spillway itself; they go to it as they are."""


def conditions_of(
    spec: InferencePoolSpec, model_name: str, base: Conditions
) -> tuple[Conditions, list[str]]:
    """The world, and what of it could not be taken from the pool, a sentence each.

    Args:
        spec: The pool.
        model_name: Of the model, to find the replica's profile.
        base: What stands for what the pool does not say.
    """
    remarks: list[str] = []
    variant = spec.variants[0]
    if len(spec.variants) > 1:
        remarks.append(f"Only the first variant, {variant.name}, is replayed.")
    profile = _profile(variant, model_name)
    if profile is None:
        profile = base.profile
        remarks.append(
            f"No built-in profile fits {model_name} on {variant.accelerator.type or 'its GPUs'}; "
            f"a replica is taken to be {profile.name}."
        )
    price = base.gpu_usd_per_replica_hour
    if variant.price is None:
        remarks.append(f"The pool states no GPU price; ${price:g} a replica-hour is assumed.")
    else:
        price = float(variant.price.per_accelerator_hour) * variant.accelerator.per_replica
    world = replace(
        base,
        profile=profile,
        gpu_usd_per_replica_hour=price,
        floor=spec.replicas.floor,
        max=spec.replicas.max,
        ttft_seconds=spec.latency.ttft,
        tpot_seconds=spec.latency.tpot,
        attainment=spec.latency.attainment,
    )
    if spec.burst is not None:
        world = replace(world, api=_api(spec.burst.providers, base.api, remarks))
        budget = spec.burst.budget
        if {budget.per_hour, budget.per_day, budget.per_month} != {None}:
            remarks.append("The budget is not replayed: burst may spend what it needs.")
    if spec.warm_pool.size != 0:
        remarks.append("The warm pool is not replayed: every replica starts cold.")
    return world, remarks


def _profile(variant: Variant, model_name: str) -> ReplicaProfile | None:
    """The profile whose model and GPUs are the variant's; node labels have - for spaces."""
    gpu = (variant.accelerator.type or "").replace("-", " ").lower()
    model = model_name.rpartition("/")[2].lower()
    return next(
        (
            profile
            for profile in PROFILES.values()
            if profile.gpu.lower() == gpu
            and profile.gpus == variant.accelerator.per_replica
            and model.startswith(profile.name.rpartition("-")[0])
        ),
        None,
    )


def _api(providers: list[Provider], base: Api, remarks: list[str]) -> Api:
    """The cheapest provider whose price is stated."""
    priced = [(p.price, p) for p in providers if p.price is not None]
    if not priced:
        names = ", ".join(p.name for p in providers)
        remarks.append(
            f"The pool states no price for {names}; ${base.input_usd_per_million:g} and "
            f"${base.output_usd_per_million:g} a million tokens are assumed."
        )
        return base
    if len(providers) > 1:
        remarks.append("Only the cheapest provider is replayed.")
    price, provider = min(priced, key=lambda pair: _usd(pair[0]))
    limits = provider.limits.requests_per_minute
    return replace(
        base,
        input_usd_per_million=float(price.input_per_million),
        output_usd_per_million=float(price.output_per_million),
        error_share=provider.error_share,
        billed_error_share=provider.billed_error_share,
        retries=math.prod(layer.most + 1 for layer in provider.retries) - 1,
        requests_per_minute=math.inf if limits is None else float(limits),
        max_context_tokens=provider.max_context_tokens or base.max_context_tokens,
    )


def _usd(price: ProviderPrice) -> float:
    return float(price.input_per_million + price.output_per_million)
