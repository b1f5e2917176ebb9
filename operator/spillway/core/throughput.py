"""The largest rate at which one replica meets both latency targets for the attainment share.

*The mean.* A replica steps c0 seconds whatever it carries, and a request takes w seconds of its
own: w_p to compute its prompt and O times w_d for its O output tokens. At r requests a second the
share rho = r w of the time is the requests', so a step takes t = c0 / (1 - rho), and its mean meets
a target T up to rho = 1 - c0/T. That is the mean-value line: r = (1 - c0/T) / w.

*Requests.* The promise is of each request's own mean time per token, and a request lasts only O
steps. Prompts that others send meanwhile lengthen these in lumps, and the batch wanders. So the
step must be shorter than T on average, by a headroom h = T/t - 1. A first guess of it is where

    t (1 + z sqrt(L + S)) = T,   L = q w_p^2 (1/m + cv^2) / ((1 - q w_p) t (1 - q w_p) O),
                                 S = w_d^2 n (t/c0) / (N t^2),   n = q O t,   q = r

with z the normal quantile of the attainment: L is the variance of a delay busy period (Takacs 1962)
of Poisson prompts over a request's O steps, S the scatter of the batch n by diffusion, N over how
many replicas the router evens out arrivals, and m how much of that shows within one request. The
guess is then corrected by a surface that was fitted to simulations of the engine request by request
(`spillway.core.headroom`): h is multiplied by the exponential of a quadratic in the logarithms of
what describes the work. How far that is from the simulations it was not fitted to is in
docs/concepts/capacity.md.

*Time to first token.* A prompt waits for the step in progress and for the prompts before it: an
M/G/1 queue whose server computes prompts, shared out evenly among N replicas.

*Bounds.* The batch is bounded by max_num_seqs and by the tokens that the KV cache holds; near such
a bound requests wait, so n stays below it by sqrt(n) (Halfin and Whitt 1981). On average a step
carries at most max_num_batched_tokens.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from spillway.core import headroom
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.api.inferencepool import Latency

#: 2^-16 of the rate that the mean would allow.
_BISECTIONS: Final = 16
#: A normal distribution has no largest value; beyond this a mean tells nothing of the tail. Below
#: half of the requests it is the mean that counts.
_LEAST_QUANTILE: Final = 0.1
_LARGEST_ATTAINMENT: Final = 0.999
_SMALLEST_ATTAINMENT: Final = 0.5


@dataclass(frozen=True, slots=True)
class RequestWork:
    """What a request of the mix costs a replica.

    Attributes:
        base_seconds: c0.
        prefill_seconds: w_p, mean time to compute a prompt.
        token_seconds: w_d, mean time that an output token adds to a step.
        output_tokens: O, mean.
        prefill_cv: Standard deviation of the time to compute a prompt over its mean.
        output_cv: The same of the output tokens.
        pooling: N, over how many replicas the router evens out the arrivals; 1 where it does not.
    """

    base_seconds: float
    prefill_seconds: float
    token_seconds: float
    output_tokens: float
    prefill_cv: float
    output_cv: float
    pooling: float = 1.0

    @property
    def seconds(self) -> float:
        """W: what one request takes of a replica's time, the base of the steps left out."""
        return self.prefill_seconds + self.output_tokens * self.token_seconds

    def step_seconds(self, rate: float) -> float:
        """Mean step at a rate that lasts, in requests per second."""
        return self.base_seconds / (1 - rate * self.seconds)

    def batch(self, rate: float) -> float:
        """Mean requests that decode at a rate that lasts."""
        return rate * self.output_tokens * self.step_seconds(rate)


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """What the engine itself allows.

    Attributes:
        sequences: Most requests in a step.
        step_tokens: Most tokens computed in a step.
        computed_tokens: Prompt tokens of a request that are computed, mean.
    """

    sequences: float
    step_tokens: float
    computed_tokens: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a replica serves.

    Attributes:
        requests_per_second: mu; 0 where no rate meets the targets.
        concurrency: Requests in flight at mu, those whose prompt is computed included.
    """

    requests_per_second: float
    concurrency: float


UNREACHABLE: Final = Throughput(0.0, 0.0)


def throughput(work: RequestWork, latency: Latency, bounds: BatchBounds) -> Throughput:
    """Mu and B* of a replica."""
    fastest = work.base_seconds + work.token_seconds
    if fastest >= latency.tpot or fastest >= latency.ttft:
        return UNREACHABLE
    rate = _tpot_rate(work, latency.tpot, latency.attainment)
    rate = min(rate, _ttft_rate(work, latency.ttft, latency.attainment, rate))
    rate = min(rate, _bounded_rate(work, bounds))
    in_flight = work.batch(rate) + rate * work.prefill_seconds
    return Throughput(rate, max(1.0, in_flight))


@cache
def _quantile(attainment: float) -> float:
    share = min(max(attainment, _SMALLEST_ATTAINMENT), _LARGEST_ATTAINMENT)
    return max(NormalDist().inv_cdf(share), _LEAST_QUANTILE)


def _tpot_rate(work: RequestWork, tpot: float, attainment: float) -> float:
    """The largest rate at which the attainment share of requests meets ``tpot``."""
    base = work.base_seconds / tpot
    guess = guessed_share(work, tpot, attainment)
    room = (1 - guess * (1 - base)) / base - 1
    room *= headroom.correction(
        headroom.Point(
            base=base,
            output_tokens=work.output_tokens,
            prefill=work.prefill_seconds / tpot,
            token=work.token_seconds / tpot,
            pooling=work.pooling,
            prefill_cv=work.prefill_cv,
            output_cv=work.output_cv,
            attainment=attainment,
            guess=room,
        )
    )
    share = (1 - base * (1 + room)) / (1 - base)
    share = min(max(share, headroom.LEAST_SHARE), 1.0)
    return share * (1 - base) / work.seconds


def guessed_share(work: RequestWork, tpot: float, attainment: float) -> float:
    """The guess of the module, as a share of the mean-value line's rate, 0 to 1."""
    z = _quantile(attainment)
    base, prefill = work.base_seconds / tpot, work.prefill_seconds / tpot
    token, output, pool = work.token_seconds / tpot, work.output_tokens, work.pooling
    seconds = work.seconds / tpot
    spread = work.prefill_cv * work.prefill_cv
    low, high = 0.0, 1 - base
    for _ in range(_BISECTIONS):
        rho = (low + high) / 2
        step, rate = base / (1 - rho), rho / seconds
        rest = 1 - rate * prefill
        batch = rate * output * step
        even = 1 / pool + (1 - 1 / pool) / (1 + batch)
        lumps = rate * prefill * prefill * (even + spread) / (rest * step * rest * output)
        scatter = token * token * batch / (base * pool * step)
        if step * (1 + z * math.sqrt(lumps + scatter)) > 1:
            high = rho
        else:
            low = rho
    return low / (1 - base)


def _ttft_rate(work: RequestWork, ttft: float, attainment: float, most: float) -> float:
    """The largest rate up to ``most`` at which that share of first tokens comes in time.

    A wait has an exponential tail of mean E[w^2] / (2 E[w] (1 - rho_p)) (heavy traffic), which N
    replicas under one router shorten N times. A prompt's own time is taken at its mean: long
    prompts that can't make it alone are counted apart, as unattainable.
    """
    if work.prefill_seconds <= 0:
        return most
    size = work.prefill_seconds * (1 + work.prefill_cv**2) / 2

    def in_time(rate: float) -> bool:
        busy = rate * work.prefill_seconds
        if busy >= 1:
            return False
        step = work.step_seconds(rate)
        left = ttft - work.prefill_seconds - 1.5 * step
        if left <= 0:
            return False
        wait = size / (1 - busy) / work.pooling
        # A prompt of next to no time waits for none: the smallest numbers round to nothing.
        return wait <= 0 or busy * math.exp(-left / wait) <= 1 - attainment

    if in_time(most):
        return most
    low, high = 0.0, most
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if in_time(middle):
            low = middle
        else:
            high = middle
    return low


def _bounded_rate(work: RequestWork, bounds: BatchBounds) -> float:
    """The rate at which the mean batch reaches the engine's own bounds."""
    sequences = bounds.sequences - math.sqrt(bounds.sequences)
    # Each sequence brings a decode token a step and its share of a prompt to compute.
    share = 1 + bounds.computed_tokens / work.output_tokens
    batch = max(1.0, min(sequences, bounds.step_tokens / share))
    # B = r O c0 / (1 - r w), solved for r.
    return batch / (work.output_tokens * work.base_seconds + batch * work.seconds)
