"""A pool beside quotas, price lists, its route, and other pools."""

from __future__ import annotations

import time
from difflib import get_close_matches
from typing import TYPE_CHECKING

from spillway.adapters.kube.nodes import project_quota
from spillway.adapters.kube.routes import project_route
from spillway.api.burst import BurstDriver
from spillway.api.inferencepool import Mode
from spillway.api.timestamps import format_time
from spillway.core.pricebook import PriceBook, offers
from spillway.core.route import RouteProblem, backend_names, locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.api.inferencepool import InferencePoolSpec, Provider
    from spillway.api.validation import InferencePool
    from spillway.cli.manifests.finding import Around, Findings


def gpus_per_replica(spec: InferencePoolSpec) -> int:
    """GPUs of the replica that needs the fewest."""
    return min(variant.accelerator.per_replica for variant in spec.variants)


def check_quotas(
    pool: InferencePool, neighbours: Sequence[InferencePool], around: Around, findings: Findings
) -> None:
    """Compare the floor, and all floors of the namespace, with its ResourceQuotas.

    Args:
        pool: The pool.
        neighbours: All pools of its namespace, itself included.
        around: Objects of the namespace.
        findings: Where to say it.
    """
    floor = pool.spec.replicas.floor * gpus_per_replica(pool.spec)
    most = pool.spec.replicas.max * gpus_per_replica(pool.spec)
    floors = sum(p.spec.replicas.floor * gpus_per_replica(p.spec) for p in neighbours)
    for manifest in around.of("ResourceQuota", ""):
        # What is in use is somebody's present; the file says what may ever be.
        bare = {
            "metadata": {"namespace": pool.namespace, "name": manifest.name},
            "spec": manifest.spec,
        }
        quota = project_quota(bare)
        if quota is None:
            continue
        allows = f"{manifest} allows {quota.left}"
        if floor > quota.left:
            findings.problems.append(
                f"spec.replicas.floor {pool.spec.replicas.floor} needs {floor} GPUs, and {allows}"
            )
        elif floors > quota.left:
            names = ", ".join(sorted(p.name for p in neighbours))
            findings.problems.append(
                f"the floors of {names} together need {floors} GPUs, and {allows}"
            )
        elif most > quota.left:
            findings.warnings.append(
                f"spec.replicas.max {pool.spec.replicas.max} needs {most} GPUs and can't be "
                f"reached: {allows}"
            )


def check_prices(spec: InferencePoolSpec, book: PriceBook | None, findings: Findings) -> None:
    """Look up what the pool declares no price for.

    Args:
        spec: The pool's spec.
        book: The price files; None where none were named.
        findings: Where to say it.
    """
    found = offers(book or PriceBook(), spec, {})
    if book is None:
        asked = [*(f"variant {v}" for v in found.gpus), *(f"provider {p}" for p in found.apis)]
        if asked:
            findings.unchecked.append(
                f"price of {', '.join(asked)}: not declared; name --price-catalog or --price-map"
            )
        return
    for variant in spec.variants:
        if not found.gpus.get(variant.name, True):
            kind = variant.accelerator.type
            text = (
                f"accelerator.type {kind} ({variant.capacity_type}) is not in the price catalog"
                if kind
                else "accelerator.type is unset, so that no catalog can price it"
            )
            findings.problems.append(f"variant {variant.name} has no price: {text}")
    models = {**book.price_map.models, **book.catalog.models}
    for provider in spec.burst.providers if spec.burst else ():
        if provider.price is not None:
            continue
        prices = found.apis[provider.name]
        if not prices:
            findings.problems.append(_unknown_model(provider, list(models)))
            continue
        ends = prices[0].deprecated_at
        if ends is not None and ends <= time.time():
            findings.warnings.append(
                f"provider {provider.name}: the price list says that its model ended "
                f"{format_time(ends)[:10]}"
            )


def _unknown_model(provider: Provider, known: list[str]) -> str:
    text = f"provider {provider.name} has no price: "
    asked = provider.price_key or (provider.model and f"{provider.name}/{provider.model}")
    if not asked:
        return f"{text}neither price, nor model or priceKey to look it up by"
    near = get_close_matches(asked, known, n=3, cutoff=0.7)
    hint = f"; did you mean priceKey: {' or '.join(near)}?" if near else ""
    return f"{text}no price list has {asked}{hint}"


def check_route(pool: InferencePool, around: Around, findings: Findings) -> None:
    """Find the rule and the backends that the split needs, as the operator will.

    Raises:
        KeyError: The route lacks what the Gateway API's schema demands.
        TypeError: Likewise.
    """
    burst = pool.spec.burst
    if burst is None or burst.driver is not BurstDriver.HTTP_ROUTE or burst.route_ref is None:
        return
    ref = burst.route_ref
    manifest = around.named("HTTPRoute", "gateway.networking.k8s.io", ref.name)
    if manifest is None:
        findings.unchecked.append(f"HTTPRoute {ref.name}: not in these files")
        return
    metadata = {**manifest.metadata, "namespace": pool.namespace, "uid": ""}
    try:
        locate(
            project_route({**manifest.raw, "metadata": metadata}), ref.rule, backend_names(burst)
        )
    except RouteProblem as problem:
        findings.problems.append(str(problem))


def check_pools(
    pool: InferencePool, neighbours: Sequence[InferencePool], findings: Findings
) -> None:
    """Find other pools that scale the same workload; one that is not Active scales none."""
    if [other.name for other in neighbours].count(pool.name) > 1:
        findings.problems.append("the pool is there twice; the one applied last would win")
    mine = {variant.target_ref for variant in pool.spec.variants}
    others = {
        other.name
        for other in neighbours
        if other.name != pool.name
        and {other.spec.mode, pool.spec.mode} == {Mode.ACTIVE}
        and mine & {variant.target_ref for variant in other.spec.variants}
    }
    if others:
        findings.problems.append(
            f"InferencePool {', '.join(sorted(others))} scales the same workload: all but the "
            "oldest would hold (TargetContested)"
        )
