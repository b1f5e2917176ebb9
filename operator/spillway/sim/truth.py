"""What a replica of a profile really serves: the world's side of what policies only believe.

A mean-value model of the engine that `spillway.sim.replica` runs request by request. With n of them
in flight on a replica a step takes

    t(n) = c0 + k n,   k = c1 + c2 X + E[w] / E[O]

seconds: c0 for any step, c1 for a sequence, c2 for each of the X tokens of context that it reads,
and its share of the seconds w that a prompt takes to compute. A request of O tokens stays O steps,
so n of them are r(n) = n / (E[O] t(n)) requests per second, up to the n at which the engine's own
bounds are met; from there on requests wait.

Whether a request meets its targets at n in flight: its O - 1 further tokens are (O - 1) d seconds
of work, d = c0 + (c1 + c2 X) n, stretched by the prompts that arrive meanwhile, as a delay busy
period of an M/G/1 queue is: mean (O - 1) t(n), variance (O - 1) d r v / (1 - r E[w])^3, with
v = E[w^2] for Poisson arrivals (Takacs 1962; here as a lognormal of the same mean and variance).
Arrivals scatter, so n does too: with the variance n t / (c0 N) in a pool of N replicas whose router
keeps them level (the diffusion that `spillway.core.capacity` derives for one).

It leaves out preemption, and the step's granularity (a request that arrives waits for the step in
progress: half a step on average is in its time to first token). Where it parts from the engine is
measured in docs/design/simulation.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.profiles import BLOCK_TOKENS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.profiles import ReplicaProfile
    from spillway.sim.trace import Lengths

    Floats = NDArray[np.float64]

#: Rows of the length sample that attainment is averaged over; its standard error is then below a
#: point at any attainment.
_ROWS: Final = 1000
#: Points of the tables up to the engine's bounds, and beyond them while a queue may still be short
#: enough.
_POINTS: Final = 160
_QUEUE_POINTS: Final = 40
#: Quadrature over the scatter of n (Gauss-Hermite): z and their weights.
_NODES, _SUMS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS: Final = _SUMS / _SUMS.sum()
#: Prompts of blocks that are half full on average.
_BLOCK_WASTE: Final = BLOCK_TOKENS / 2
#: Prefill alone can't take all of the time: beyond this the busy period has no finite variance.
_LEAST_REST: Final = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class ReplicaTruth:
    """One replica under one mix of lengths, as it really is.

    Attributes:
        requests_per_second: mu: the largest rate at which the share of requests that meet both
            targets is the one asked for; 0 where no rate is.
        concurrency: B*: requests in flight at that rate.
        max_requests_per_second: What it finishes when saturated.
        max_concurrency: Requests in flight at that rate; more wait.
        base_seconds: c0.
        per_request_seconds: k.
        prompt_tokens: Mean, cached ones included.
        cached_tokens: Mean.
        output_tokens: E[O].
        kv_share_per_request: Share of the KV cache that a running request holds.
        prefill_seconds: Mean time to compute a prompt on an idle replica.
        decode_seconds: What a request that decodes adds to a step, prompts left out: c1 + c2 X.
        prompt_seconds: E[w]: what computing a prompt adds to the steps that do it.
        prompt_tokens_computed: Mean, cached ones left out.
        step_tokens: Most tokens of a step, prompts and decodes together.
        work_variance: Variance of the seconds that a request takes for itself, prompt and answer
            (`gpu_seconds`).
        in_flight: n of the tables of attainment, from 0, ascending; shape (points,).
        attained_exactly: Share of requests that meet both targets where n stays what it is.
        attained: The same with n scattered about its mean, in the pool of the size given.
    """

    requests_per_second: float
    concurrency: float
    max_requests_per_second: float
    max_concurrency: float
    base_seconds: float
    per_request_seconds: float
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    kv_share_per_request: float
    prefill_seconds: float
    decode_seconds: float
    prompt_seconds: float
    prompt_tokens_computed: float
    step_tokens: float
    work_variance: float
    in_flight: Floats
    attained_exactly: Floats
    attained: Floats

    def step_seconds(self, in_flight: float) -> float:
        """t(n)."""
        return self.base_seconds + self.per_request_seconds * min(in_flight, self.max_concurrency)

    def rate_at(self, in_flight: float) -> float:
        """r(n): requests per second finished with n in flight."""
        n = min(in_flight, self.max_concurrency)
        return n / (self.output_tokens * self.step_seconds(n))

    def in_flight_at(self, rate: float) -> float:
        """Mean requests in flight at a rate that lasts; `max_concurrency` where it is too much."""
        if rate >= self.max_requests_per_second:
            return self.max_concurrency
        work = rate * self.output_tokens
        return work * self.base_seconds / (1 - work * self.per_request_seconds)

    def attained_at(self, in_flight: float) -> float:
        """Share of requests that meet both targets with n in flight on average."""
        return float(np.interp(in_flight, self.in_flight, self.attained))


@dataclass(frozen=True, slots=True)
class _Mix:
    """Work of single requests, and their means."""

    further: Floats
    """Output tokens after the first."""
    prefill: Floats
    """Seconds to compute the prompt, without the step's base."""
    computed: Floats
    """Prompt tokens to compute."""
    context: float
    """X."""
    held: float
    """Tokens of KV cache that a running request holds, mean over time."""


def gpu_seconds(profile: ReplicaProfile, lengths: Lengths) -> Floats:
    """Seconds of a replica that each request takes for itself, the base of the steps left out.

    This is what sending it elsewhere frees; shape (n,).
    """
    output = lengths.output_tokens.astype(np.float64)
    decode = profile.per_sequence_seconds * output + profile.per_context_token_seconds * (
        _context_read(lengths)
    )
    return np.asarray(prefill_seconds(profile, lengths) + decode, dtype=np.float64)


def prefill_seconds(profile: ReplicaProfile, lengths: Lengths) -> Floats:
    """Seconds to compute each prompt, without the step's base; shape (n,)."""
    cached = lengths.cached_tokens.astype(np.float64)
    computed = lengths.prompt_tokens - cached
    pairs = computed * (cached + computed / 2)
    return np.asarray(
        profile.per_prefill_token_seconds * computed + profile.per_attention_pair_seconds * pairs,
        dtype=np.float64,
    )


def faster(profile: ReplicaProfile, factor: float) -> ReplicaProfile:
    """The profile with every step ``factor`` times as fast."""
    if factor == 1.0:
        return profile
    return replace(
        profile,
        base_seconds=profile.base_seconds / factor,
        per_sequence_seconds=profile.per_sequence_seconds / factor,
        per_context_token_seconds=profile.per_context_token_seconds / factor,
        per_prefill_token_seconds=profile.per_prefill_token_seconds / factor,
        per_attention_pair_seconds=profile.per_attention_pair_seconds / factor,
    )


def replica_truth(
    profile: ReplicaProfile,
    lengths: Lengths,
    *,
    ttft_seconds: float,
    tpot_seconds: float,
    attainment: float,
    replicas: float = 1.0,
) -> ReplicaTruth:
    """What a replica of ``profile`` serves of requests of these lengths.

    Args:
        profile: The replica.
        lengths: A sample of the requests.
        ttft_seconds: Target.
        tpot_seconds: Target, for a request's mean time per token after the first.
        attainment: Share of requests that must meet both, 0 to 1.
        replicas: Size of the pool that it is one of: the larger, the less n scatters.
    """
    output = float(lengths.output_tokens.mean())
    mix = _mix(profile, lengths)
    decode = profile.per_sequence_seconds + profile.per_context_token_seconds * mix.context
    per_request = decode + float(mix.prefill.mean()) / output
    most = max(
        1.0,
        min(
            float(profile.max_num_seqs),
            profile.kv_capacity_tokens / mix.held,
            profile.max_num_batched_tokens / (1 + float(mix.computed.mean()) / output),
        ),
    )
    saturated = most / (output * (profile.base_seconds + per_request * most))
    truth = ReplicaTruth(
        requests_per_second=0.0,
        concurrency=0.0,
        max_requests_per_second=saturated,
        max_concurrency=most,
        base_seconds=profile.base_seconds,
        per_request_seconds=per_request,
        prompt_tokens=float(lengths.prompt_tokens.mean()),
        cached_tokens=float(lengths.cached_tokens.mean()),
        output_tokens=output,
        kv_share_per_request=mix.held / profile.kv_capacity_tokens,
        prefill_seconds=profile.base_seconds + float(mix.prefill.mean()),
        decode_seconds=decode,
        prompt_seconds=float(mix.prefill.mean()),
        prompt_tokens_computed=float(mix.computed.mean()),
        step_tokens=float(profile.max_num_batched_tokens),
        work_variance=float(gpu_seconds(profile, lengths).var()),
        in_flight=np.concatenate(
            (
                np.linspace(0.0, most, _POINTS, endpoint=False),
                most + np.linspace(0.0, 2 * ttft_seconds * saturated, _QUEUE_POINTS),
            )
        ),
        attained_exactly=np.ones(0),
        attained=np.ones(0),
    )
    sharp = _attained_at_exactly(
        truth, profile, _sampled(mix), ttft_seconds, tpot_seconds, replicas
    )
    truth = replace(truth, attained_exactly=np.minimum.accumulate(sharp))
    n = truth.in_flight
    truth = replace(truth, attained=scattered(truth, n, np.full(len(n), replicas), math.inf))
    best = _last_above(truth, attainment)
    return replace(truth, concurrency=best, requests_per_second=truth.rate_at(best))


def _context_read(lengths: Lengths) -> Floats:
    """Tokens of context that all decode steps of a request read together."""
    output = lengths.output_tokens.astype(np.float64)
    return np.asarray((output - 1) * (lengths.prompt_tokens + output / 2), dtype=np.float64)


def _mix(profile: ReplicaProfile, lengths: Lengths) -> _Mix:
    output = lengths.output_tokens.astype(np.float64)
    held = output * (lengths.prompt_tokens + output / 2 + _BLOCK_WASTE)
    return _Mix(
        further=output - 1,
        prefill=prefill_seconds(profile, lengths),
        computed=(lengths.prompt_tokens - lengths.cached_tokens).astype(np.float64),
        context=float(_context_read(lengths).mean() / output.mean()),
        held=float(held.mean() / output.mean()),
    )


def _sampled(mix: _Mix) -> _Mix:
    """Fewer rows, evenly from those in order of output length, so that no seed is needed."""
    if len(mix.further) <= _ROWS:
        return mix
    order = np.argsort(mix.further, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, _ROWS).astype(np.int64)]
    return replace(
        mix, further=mix.further[rows], prefill=mix.prefill[rows], computed=mix.computed[rows]
    )


def _attained_at_exactly(
    truth: ReplicaTruth,
    profile: ReplicaProfile,
    mix: _Mix,
    ttft_seconds: float,
    tpot_seconds: float,
    replicas: float,
) -> Floats:
    """Share of requests within both targets while exactly n are in flight; shape (points,)."""
    mean, square = float(mix.prefill.mean()), float((mix.prefill**2).mean())
    # A router that keeps N replicas level deals arrivals out nearly in turn: of the variance that
    # Poisson arrivals would have at one of them, 1/N stays.
    lumps = square - mean**2 + mean**2 / max(1.0, replicas)
    running = np.minimum(truth.in_flight, truth.max_concurrency)[:, None]
    step = truth.base_seconds + truth.per_request_seconds * running
    rate = running / (truth.output_tokens * step)
    rest = np.maximum(_LEAST_REST, 1 - rate * mean)
    work = step * rest
    # Time per token after the first.
    further = np.maximum(mix.further, 1.0)[None, :]
    # Variance over squared mean.
    relative = work * rate * lumps / (rest**3 * step**2 * further)
    width = np.sqrt(np.log1p(relative))
    z = (np.log(tpot_seconds / step) + width**2 / 2) / np.maximum(width, 1e-9)
    in_time = np.where(mix.further[None, :] < 1, 1.0, _normal(z))
    # Time to first token: the queue, half a step, then the prompt's chunks, one a step.
    waiting = np.maximum(0.0, truth.in_flight - truth.max_concurrency)[:, None]
    budget = np.maximum(1.0, profile.max_num_batched_tokens - running)
    chunks = np.ceil(mix.computed[None, :] / budget)
    first = waiting / truth.max_requests_per_second + step / 2 + chunks * work
    first = first + mix.prefill[None, :] / rest
    return np.asarray((in_time * (first <= ttft_seconds)).mean(axis=1), dtype=np.float64)


def scattered(
    truth: ReplicaTruth, in_flight: Floats, replicas: Floats, bound: Floats | float
) -> Floats:
    """Share of requests that meet both targets where n scatters about its mean.

    Args:
        truth: The replica.
        in_flight: Means, on one replica.
        replicas: Sizes of the pools, of the same shape.
        bound: What n never exceeds, because the router sends more away; inf: nothing.
    """
    running = np.minimum(in_flight, truth.max_concurrency)
    step = truth.base_seconds + truth.per_request_seconds * running
    width = np.sqrt(running * step / (truth.base_seconds * np.maximum(1.0, replicas)))
    at = np.minimum(in_flight + width * _NODES[:, None], np.maximum(bound, in_flight))
    share: Floats = _WEIGHTS @ np.interp(at, truth.in_flight, truth.attained_exactly)
    return share


def _last_above(truth: ReplicaTruth, attainment: float) -> float:
    """The largest n at which the share is met, within the engine's bounds; 0 if there is none."""
    if truth.attained[0] < attainment:
        return 0.0
    # More in flight never helps: where the table rises (its ends) it is an artefact of the spread.
    falling = np.minimum.accumulate(truth.attained)
    last = float(np.interp(-attainment, -falling, truth.in_flight))
    return min(last, truth.max_concurrency)


@lru_cache(maxsize=1)
def _normal_table() -> tuple[Floats, Floats]:
    """(z, cumulative standard normal); linear between is exact to 1e-6."""
    z = np.linspace(-6.0, 6.0, 4801)
    normal = NormalDist()
    return z, np.array([normal.cdf(float(each)) for each in z])


def _normal(z: Floats) -> Floats:
    at, cumulative = _normal_table()
    return np.asarray(np.interp(z, at, cumulative), dtype=np.float64)
