"""What a gateway must know to choose which request leaves, beyond the overflow value itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spillway.core.prices import resolve

if TYPE_CHECKING:
    from spillway.core.capacity import Capacity
    from spillway.core.facts import PoolFacts
    from spillway.core.pool import Outcome
    from spillway.core.tokenmix import TokenMix


def terms(facts: PoolFacts, outcome: Outcome, now: float) -> dict[str, Any]:
    """Prices and limits of the providers and what a token costs in GPU time, as JSON-ready objects.

    Prices are those that the decision goes by, whatever their source; a provider without one is
    left out, and with it goes the right to pay it. GPU time is that of the slowest variant: the
    time to prefill the mean prompt, and the rest of a request's share of a replica for its output;
    None where capacity is declared and prefill is not known.
    """
    spec = facts.spec
    mix = outcome.state.deciding.capacity.mix.mix()
    prices = resolve(spec, facts.offers, outcome.state.deciding.prices, now)
    providers = []
    for provider in () if spec.burst is None else spec.burst.providers:
        price = prices.apis.get(provider.name)
        if price is None:
            continue
        providers.append(
            {
                "name": provider.name,
                "inputUsdPerMillion": price.input_per_million,
                "outputUsdPerMillion": price.output_per_million,
                "maxContextTokens": provider.max_context_tokens,
            }
        )
    known = [c for c in outcome.decision.capacity.values() if c.requests_per_second > 0]
    slowest = min(known, key=lambda c: c.requests_per_second, default=None)
    return {
        "providers": providers,
        "gpuSeconds": None if slowest is None else _gpu_seconds(slowest, mix),
        "p95OutputTokens": mix.at_p95().output_tokens,
    }


def _gpu_seconds(capacity: Capacity, mix: TokenMix) -> dict[str, float] | None:
    if capacity.prefill_seconds is None or mix.computed_tokens <= 0 or mix.output_tokens <= 0:
        return None
    decode = max(0.0, 1 / capacity.requests_per_second - capacity.prefill_seconds)
    return {
        "perPromptToken": capacity.prefill_seconds / mix.computed_tokens,
        "perOutputToken": decode / mix.output_tokens,
    }
