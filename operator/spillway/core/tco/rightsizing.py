"""Which GPUs, how many of them and which precision hold a model, and what a token then costs.

    weights    parameters x bits / 8 bytes, shared out over the GPUs of a replica
    KV cache   what is left of the GPUs' memory, in tokens of context

A replica must hold its weights, and the longest context at least once. How fast it is comes from
the built-in table (`spillway.core.profiles`) by the rule that the operator itself starts from. That
is a table, not a measurement of your engine, and it does not price what GPUs say to each other:
trust the order of the rows more than the figures. What a precision does to answers can't be
computed: the declared quality stands beside the price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.core.capacity import of_profile
from spillway.core.economics import SECONDS_PER_HOUR
from spillway.core.profiles import engine_profile
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spillway.api.inferencepool import Latency
    from spillway.core.profiles import Gpu, ModelShape
    from spillway.core.tokenmix import TokenMix

#: Tensor parallelism divides heads, so powers of two; a node has eight GPUs.
PARALLEL: Final = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Precision:
    """How weights are stored.

    Attributes:
        name: As flags and tables say it.
        bits: Of a weight, scales included.
        eight_bits: Whether it computes in 8 bits where the GPU can.
    """

    name: str
    bits: float
    eight_bits: bool = False


#: AWQ and GPTQ keep a scale and a zero point for each group of 128 weights: a quarter of a bit.
PRECISIONS: Final = (
    Precision("fp16", 16),
    Precision("fp8", 8, eight_bits=True),
    Precision("int4", 4.25),
)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be served.

    Attributes:
        shape: The model.
        mix: The mean request.
        latency: The promise.
        longest_tokens: Longest context of a request, prompt and answer.
    """

    shape: ModelShape
    mix: TokenMix
    latency: Latency
    longest_tokens: float


@dataclass(frozen=True, slots=True)
class Option:
    """One way to hold the model.

    Attributes:
        gpu: Name of the GPU.
        gpus: How many a replica has.
        precision: Of the weights.
        weight_gigabytes: Of the whole replica.
        kv_tokens: Tokens of context that it holds; below 0 where not even the weights fit.
        requests_per_second: mu; 0 where it can't serve.
        concurrency: Requests in flight at that rate.
        usd_per_hour: Of the replica.
        usd_per_million: Of prompt and output tokens together; None where it can't serve.
        quality: Declared, against the unquantized model; None where nobody declared it.
        obstacle: Why it can't serve, for a person; "" where it can.
    """

    gpu: str
    gpus: int
    precision: str
    weight_gigabytes: float
    kv_tokens: float
    usd_per_hour: float
    requests_per_second: float = 0.0
    concurrency: float = 0.0
    usd_per_million: float | None = None
    quality: float | None = None
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A GPU to be had.

    Attributes:
        gpu: Its data sheet.
        usd_per_hour: What one costs.
    """

    gpu: Gpu
    usd_per_hour: float


def options(
    work: Work, offers: Iterable[Offer], quality: Mapping[str, float] | None = None
) -> tuple[Option, ...]:
    """Every way to hold the model, cheapest $ a token first, those that can't serve last.

    Args:
        work: What is to be served.
        offers: The GPUs to be had.
        quality: Declared by precision.
    """
    declared = quality or {}
    every = [
        _option(work, offer, gpus, precision, declared.get(precision.name))
        for offer in offers
        for precision in PRECISIONS
        for gpus in PARALLEL
    ]
    return tuple(sorted(every, key=lambda o: (o.usd_per_million is None, o.usd_per_million or 0.0)))


def best_of_each(every: Iterable[Option]) -> tuple[Option, ...]:
    """Of each GPU and precision the first: the cheapest that serves, else the smallest replica."""
    best: dict[tuple[str, str], Option] = {}
    for option in every:
        best.setdefault((option.gpu, option.precision), option)
    return tuple(best.values())


def _option(
    work: Work, offer: Offer, gpus: int, precision: Precision, quality: float | None
) -> Option:
    gpu, shape, mix = offer.gpu, work.shape, work.mix
    weights = shape.billions * 1e9 * precision.bits / 8
    kv_tokens = (gpus * gpu.room - weights) / shape.kv_bytes_per_token
    bare = Option(
        gpu=gpu.name,
        gpus=gpus,
        precision=precision.name,
        weight_gigabytes=weights / 1e9,
        kv_tokens=kv_tokens,
        usd_per_hour=gpus * offer.usd_per_hour,
        quality=quality,
    )
    if kv_tokens <= 0:
        return replace(bare, obstacle=f"weights need {weights / 1e9:.0f} GB")
    if kv_tokens < work.longest_tokens:
        return replace(bare, obstacle=f"holds {kv_tokens:,.0f} tokens of context")
    profile = engine_profile(
        shape,
        gpu,
        gpus,
        precision.bits / 8,
        eight_bits=precision.eight_bits,
        precision=precision.name,
    )
    found = of_profile(profile, work.latency, mix)
    mu = found.requests_per_second
    if mu <= 0:
        return replace(bare, obstacle="no rate meets the targets")
    tokens_per_hour = mu * SECONDS_PER_HOUR * (mix.prompt_tokens + mix.output_tokens)
    return replace(
        bare,
        requests_per_second=mu,
        concurrency=found.concurrency,
        usd_per_million=bare.usd_per_hour / tokens_per_hour * 1e6,
    )
