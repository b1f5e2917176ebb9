"""What each request-level lever saves of an API bill, alone and after the ones before it.

The levers belong to an LLM gateway; here they are priced. They are not additive: a request that a
semantic cache answers is no request to route, and what routing has made cheap compression can't
save again. So they are applied in the order of a request's way through a gateway.

    semantic cache   the share of hits costs nothing but the look-up
    routing          a share of the rest goes to a model at a fraction of the price
    shorter system   so many prompt tokens less
    compression      what is left of the prompt shrinks by a share
    prefix caching   a share of the prompt is billed at the cached price
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.core.tco.load import require
from spillway.core.tokenmix import TokenMix
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillway.core.tco.costs import ApiTerms


@dataclass(frozen=True, slots=True)
class Levers:
    """How far each lever is pulled; 0 leaves it alone.

    Attributes:
        semantic_hit_share: Share of the requests that a semantic cache answers.
        lookup_usd: What each look-up costs.
        routed_share: Share of the requests that are easy enough for a cheap model.
        routed_price_share: The cheap model's price over the other's.
        system_tokens_saved: Prompt tokens that a shorter system prompt has less.
        compressed_share: Share by which compression shrinks the prompt.
        prefix_share: Share of the prompt that a provider's prefix cache answers.
        cached_price_share: Its price over that of other prompt tokens.
    """

    semantic_hit_share: float = 0.0
    lookup_usd: float = 0.0
    routed_share: float = 0.0
    routed_price_share: float = 0.1
    system_tokens_saved: float = 0.0
    compressed_share: float = 0.0
    prefix_share: float = 0.0
    cached_price_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises:
            NotPlannableError: Naming the figure.
        """
        require("the share of semantic hits", self.semantic_hit_share, least=0, most=1)
        require("the price of a look-up", self.lookup_usd, least=0)
        require("the routed share", self.routed_share, least=0, most=1)
        require("the cheap model's price share", self.routed_price_share, least=0, most=1)
        require("system prompt tokens saved", self.system_tokens_saved, least=0)
        require("the share that compression takes", self.compressed_share, least=0, most=1)
        require("the share of prefix hits", self.prefix_share, least=0, most=1)
        require("the cached price share", self.cached_price_share, least=0, most=1)


NO_LEVERS = Levers()


@dataclass(frozen=True, slots=True)
class Saving:
    """What a lever saves of a month's bill.

    Attributes:
        lever: Its name.
        alone: US dollars saved where it is the only one.
        after: US dollars saved on top of the levers before it.
        left: US dollars of the bill with it and those before it.
    """

    lever: str
    alone: float
    after: float
    left: float


def request_usd(api: ApiTerms, mix: TokenMix, levers: Levers) -> float:
    """What a request costs on the mean with the levers pulled."""
    prompt = max(0.0, mix.prompt_tokens - levers.system_tokens_saved)
    prompt *= 1 - levers.compressed_share
    hit = prompt * levers.prefix_share
    price = replace(api, cached_input_per_million=api.input_per_million * levers.cached_price_share)
    each = price.usd_per_request(TokenMix(prompt, mix.output_tokens, hit))
    each *= 1 - levers.routed_share * (1 - levers.routed_price_share)
    looked_up = levers.lookup_usd if levers.semantic_hit_share > 0 else 0.0
    return looked_up + (1 - levers.semantic_hit_share) * each


#: In the order of a request's way through a gateway: what each lever has of a `Levers`.
_STEPS: tuple[tuple[str, Callable[[Levers, Levers], Levers]], ...] = (
    (
        "semantic cache",
        lambda on, to: replace(
            to, semantic_hit_share=on.semantic_hit_share, lookup_usd=on.lookup_usd
        ),
    ),
    (
        "routing",
        lambda on, to: replace(
            to, routed_share=on.routed_share, routed_price_share=on.routed_price_share
        ),
    ),
    (
        "shorter system prompt",
        lambda on, to: replace(to, system_tokens_saved=on.system_tokens_saved),
    ),
    ("compression", lambda on, to: replace(to, compressed_share=on.compressed_share)),
    (
        "prefix caching",
        lambda on, to: replace(
            to, prefix_share=on.prefix_share, cached_price_share=on.cached_price_share
        ),
    ),
)


def savings(
    api: ApiTerms, mix: TokenMix, requests_per_month: float, levers: Levers
) -> tuple[Saving, ...]:
    """Each lever's saving, in order.

    Raises:
        NotPlannableError: The number of requests is no number above 0.
    """
    require("requests a month", requests_per_month, above=0)

    def monthly(pulled: Levers) -> float:
        return requests_per_month * request_usd(api, mix, pulled)

    before, pulled, found = monthly(NO_LEVERS), NO_LEVERS, []
    whole = before
    for name, pull in _STEPS:
        pulled = pull(levers, pulled)
        left = monthly(pulled)
        found.append(Saving(name, whole - monthly(pull(levers, NO_LEVERS)), before - left, left))
        before = left
    return tuple(found)
