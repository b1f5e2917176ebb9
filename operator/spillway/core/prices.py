"""What GPUs and APIs cost: the best source that can be believed, else the last price that could.

A price that is declared in the pool's spec is the user's word and is taken as it stands. Any other
comes from a file or a series that may be gone, empty or wrong by a factor, and the decision turns
dollars into replicas and into spending: so a price must be within what such things cost at all, and
within a factor of the last one that was believed. One that is not is passed over for the next
source; where no source is left the last believed price holds, and the pool's condition PriceKnown
says so, since when and why.

There is no time after which a price that is held is dropped: a GPU's price of last week is a better
guess than none. What can't be held is the price of something else: a variant on another GPU, or a
provider with another model, begins anew.
"""

from __future__ import annotations

import math
from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

from spillway.api.reasons import Reason
from spillway.api.timestamps import format_time
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spillway.api.inferencepool import InferencePoolSpec, Provider, Variant

#: No GPU that serves models is rented for less or more than this an hour: the cheapest shared ones
#: are some cents, the dearest of 2026 below $20.
GPU_USD_PER_HOUR: Final = (0.01, 100.0)
#: Models are sold from about $0.01 to $600 a million tokens.
TOKEN_USD_PER_MILLION: Final = (0.001, 1000.0)
#: Spot prices move by a few times within a day, and a new generation of models has cut API prices
#: by up to this; an error of the unit (cents, thousands, an hour for a month) moves them further.
LARGEST_JUMP: Final = 10.0
#: API prices are cut several times a year: a list older than a quarter is probably out of date.
OLD_SECONDS: Final = 90 * 86_400.0
#: Providers announce the end of a model months ahead; a month is time to react.
DEPRECATION_NOTICE_SECONDS: Final = 30 * 86_400.0


class PriceSource(StrEnum):
    """Who says what something costs."""

    DECLARED = "Declared"
    """The pool's spec."""
    CATALOG = "Catalog"
    """The operator's price catalog file."""
    OPENCOST = "OpenCost"
    """OpenCost's series of the nodes that the variant's pods run on."""
    PRICE_MAP = "PriceMap"
    """A price map file as LiteLLM publishes it."""


@dataclass(frozen=True, slots=True)
class GpuPrice:
    """What one GPU costs an hour.

    Attributes:
        usd_per_gpu_hour: US dollars.
        source: Who says so.
        item: What was looked up; a price holds for it alone.
        as_of: When the source was written or sampled; None where that is not known.
        believed_at: When it was last believed.
    """

    usd_per_gpu_hour: float
    source: PriceSource
    item: str = ""
    as_of: float | None = None
    believed_at: float = 0.0

    @property
    def figures(self) -> tuple[float, ...]:
        """What must be plausible."""
        return (self.usd_per_gpu_hour,)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest plausible figure."""
        return GPU_USD_PER_HOUR

    def __str__(self) -> str:
        """For a person."""
        return f"{_usd(self.usd_per_gpu_hour)} a GPU-hour"


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """What an API charges.

    Attributes:
        input_per_million: US dollars for a million prompt tokens.
        output_per_million: US dollars for a million output tokens.
        source: Who says so.
        cached_input_per_million: For prompt tokens that its cache answers; None: it does not cache.
        item: What was looked up; a price holds for it alone.
        as_of: When the source was written; None where that is not known.
        deprecated_at: When the provider ends the model; None where no date is known.
        believed_at: When it was last believed.
    """

    input_per_million: float
    output_per_million: float
    source: PriceSource
    cached_input_per_million: float | None = None
    item: str = ""
    as_of: float | None = None
    deprecated_at: float | None = None
    believed_at: float = 0.0

    @property
    def figures(self) -> tuple[float, ...]:
        """What must be plausible. The cached price is not: see `believable`."""
        return self.input_per_million, self.output_per_million

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest plausible figure."""
        return TOKEN_USD_PER_MILLION

    def __str__(self) -> str:
        """For a person."""
        prompt, answer = _usd(self.input_per_million), _usd(self.output_per_million)
        return f"{prompt} in, {answer} out a million tokens"


class _Price(Protocol):
    """What both kinds of price have."""

    @property
    def source(self) -> PriceSource: ...
    @property
    def item(self) -> str: ...
    @property
    def as_of(self) -> float | None: ...
    @property
    def believed_at(self) -> float: ...
    @property
    def figures(self) -> tuple[float, ...]: ...
    @property
    def bounds(self) -> tuple[float, float]: ...


P = TypeVar("P", GpuPrice, TokenPrice)


@dataclass(frozen=True, slots=True)
class Offers:
    """What the sources outside of the spec say now.

    Attributes:
        gpus: Prices by variant, the source to be believed first in front.
        apis: Likewise by provider.
        problems: Sources that can't be read, a sentence each, for a person.
    """

    gpus: Mapping[str, tuple[GpuPrice, ...]] = field(default_factory=dict)
    apis: Mapping[str, tuple[TokenPrice, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


NO_OFFERS: Final = Offers()


@dataclass(frozen=True, slots=True)
class PriceNote:
    """Something that a person should know about a price.

    Attributes:
        reason: PRICE_UNKNOWN, PRICE_HELD, PRICE_OLD or MODEL_DEPRECATED.
        subject: ``variant NAME`` or ``provider NAME``.
        message: A sentence without its full stop, and without a figure that moves from tick to
            tick: it becomes a condition. "" where there is nothing to say beyond the reason.
    """

    reason: Reason
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices to decide by. A value; it is also what is remembered for the next step.

    Attributes:
        gpus: By variant; one without a price is not in it.
        apis: By provider; likewise.
        notes: What a person should know, the gravest first.
    """

    gpus: Mapping[str, GpuPrice] = field(default_factory=dict)
    apis: Mapping[str, TokenPrice] = field(default_factory=dict)
    notes: tuple[PriceNote, ...] = ()

    @classmethod
    def declared(cls, spec: InferencePoolSpec) -> Self:
        """What the spec says, and nothing else."""
        apis = spec.burst.providers if spec.burst is not None else ()
        return cls(
            gpus={v.name: p for v in spec.variants if (p := declared_gpu(v)) is not None},
            apis={p.name: price for p in apis if (price := declared_api(p)) is not None},
        )

    @property
    def unknown(self) -> tuple[str, ...]:
        """Variants and providers without a price."""
        return tuple(n.subject for n in self.notes if n.reason is Reason.PRICE_UNKNOWN)


def declared_gpu(variant: Variant) -> GpuPrice | None:
    """The price in the variant's spec, if any."""
    if variant.price is None:
        return None
    usd = float(variant.price.per_accelerator_hour)
    return GpuPrice(usd, PriceSource.DECLARED, gpu_item(variant))


def declared_api(provider: Provider) -> TokenPrice | None:
    """The price in the provider's spec, if any."""
    price = provider.price
    if price is None:
        return None
    cached = price.cached_input_per_million
    return TokenPrice(
        float(price.input_per_million),
        float(price.output_per_million),
        PriceSource.DECLARED,
        None if cached is None else float(cached),
        api_item(provider),
    )


def gpu_item(variant: Variant) -> str:
    """What a variant's price is looked up by: the GPU, and how it is bought."""
    return f"{variant.accelerator.type or 'any GPU'} {variant.capacity_type}"


def api_item(provider: Provider) -> str:
    """What a provider's price is looked up by."""
    return provider.price_key or provider.model or ""


def resolve(spec: InferencePoolSpec, offers: Offers, last: Prices, now: float) -> Prices:
    """The prices to decide by.

    Args:
        spec: The pool's spec; what it declares is taken as it stands.
        offers: What other sources say now.
        last: What the last step resolved.
        now: Seconds since the epoch.
    """
    gpus: dict[str, GpuPrice] = {}
    apis: dict[str, TokenPrice] = {}
    notes: list[PriceNote] = []
    why = "; ".join(offers.problems)
    for variant in spec.variants:
        name, gpu = variant.name, declared_gpu(variant)
        said: list[tuple[Reason, str]] = []
        if gpu is None:
            item = gpu_item(variant)
            offered, held = _of(offers.gpus.get(name, ()), item), _held(last.gpus.get(name), item)
            gpu, said = _believed(offered, held, why, now)
        if gpu is not None:
            gpus[name] = gpu
        notes += (PriceNote(reason, f"variant {name}", text) for reason, text in said)
    for provider in spec.burst.providers if spec.burst is not None else ():
        name, api = provider.name, declared_api(provider)
        said = []
        if api is None:
            item = api_item(provider)
            quoted, kept = _of(offers.apis.get(name, ()), item), _held(last.apis.get(name), item)
            api, said = _believed(quoted, kept, why, now)
        if api is not None:
            apis[name] = api
            said += _deprecation(api, now)
        notes += (PriceNote(reason, f"provider {name}", text) for reason, text in said)
    notes.sort(key=lambda note: _GRAVITY.index(note.reason))
    return Prices(gpus, apis, tuple(notes))


#: Of several notes the first gives the condition its reason.
_GRAVITY: Final = (
    Reason.PRICE_UNKNOWN,
    Reason.PRICE_HELD,
    Reason.MODEL_DEPRECATED,
    Reason.PRICE_OLD,
)


def _usd(value: float) -> str:
    return f"${value:,.0f}" if 1000 <= abs(value) < math.inf else f"${value:.3g}"


def _of(offered: Sequence[P], item: str) -> tuple[P, ...]:
    """Offers as prices of the item that they were asked for."""
    return tuple(replace(offer, item=item) for offer in offered)


def _held(last: P | None, item: str) -> P | None:
    """The last price, if it is of the same thing and was not the user's own word."""
    if last is None or last.item != item or last.source is PriceSource.DECLARED:
        return None
    return last


def _believed(
    offered: Sequence[P], last: P | None, problems: str, now: float
) -> tuple[P | None, list[tuple[Reason, str]]]:
    """The first offer that can be believed, else the last price; and what is to be said of it."""
    doubts: list[str] = []
    for offer in offered:
        doubt = believable(offer, last)
        if doubt is None:
            price = _tidied(replace(offer, believed_at=now))
            return price, list(_remarks(price, doubts, now))
        doubts.append(f"{offer.source} says {offer}, {doubt}")
    because = "; ".join(filter(None, [*doubts, problems]))
    if last is None:
        return None, [(Reason.PRICE_UNKNOWN, because)]
    because = because or "no source has one now"
    since = format_time(last.believed_at)
    return last, [(Reason.PRICE_HELD, f"{last} of {since} holds, because {because}")]


def believable(price: _Price, last: _Price | None) -> str | None:
    """Why the price can't be believed, in words that follow what it says; None if it can.

    Args:
        price: What a source says.
        last: What was believed last of the same thing; None where there is nothing to compare with.
    """
    low, high = price.bounds
    if not all(math.isfinite(f) and low <= f <= high for f in price.figures):
        return f"which is not from ${low:g} to ${high:g}"
    if last is None:
        return None
    # In logarithms; a last price of 0 can only be a declared one, which is never compared with.
    jumps = (abs(math.log(new / old)) for new, old in zip(price.figures, last.figures, strict=True))
    if max(jumps) > math.log(LARGEST_JUMP) + 1e-9:
        return f"which is more than {LARGEST_JUMP:g} times off the last price, {last}"
    return None


def _tidied(price: P) -> P:
    """Without a cached price that is none: it would only make a prompt look cheaper."""
    if isinstance(price, TokenPrice) and price.cached_input_per_million is not None:
        cached = price.cached_input_per_million
        if not 0 <= cached <= price.input_per_million:
            return replace(price, cached_input_per_million=None)
    return price


def _remarks(price: _Price, doubts: Sequence[str], now: float) -> Iterator[tuple[Reason, str]]:
    if doubts:
        yield Reason.PRICE_HELD, f"{price} of {price.source} is used, because {'; '.join(doubts)}"
    if price.as_of is not None and now - price.as_of > OLD_SECONDS:
        day = format_time(price.as_of)[:10]
        yield Reason.PRICE_OLD, f"{price.source}'s price is of {day}, and prices move"


def _deprecation(price: TokenPrice, now: float) -> Iterator[tuple[Reason, str]]:
    at = price.deprecated_at
    if at is not None and now > at - DEPRECATION_NOTICE_SECONDS:
        verb = "has been deprecated since" if now >= at else "will be deprecated on"
        text = f"its model {price.item} {verb} {format_time(at)[:10]}"
        yield Reason.MODEL_DEPRECATED, text
