"""What the serving replicas of a pool can take at once: the bounds that a router checks itself."""

from __future__ import annotations

import math
from dataclasses import field
from typing import TYPE_CHECKING, Final

from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.api.inferencepool import InferencePoolSpec
    from spillway.api.reasons import Reason

#: From this share of the engine's own bound on, B* is that bound: it keeps some room for scatter.
_ENGINE_BOUND: Final = 0.8
#: 95th percentile of the standard normal distribution.
_Z95: Final = 1.645


@dataclass(frozen=True, slots=True)
class LiveLoad:
    """What the fast loop has just seen of the serving replicas.

    Attributes:
        at: When it was sampled.
        in_flight_by_pod: Requests running and waiting, of each replica that was sampled.
        waiting: Of these, requests that wait, over all sampled replicas.
        arrivals_per_second: Requests per second upstream of the split; None if unknown.
        replicas_serving: Replicas that are ready and serving, sampled or not.
    """

    at: float
    in_flight_by_pod: tuple[float, ...]
    waiting: float
    arrivals_per_second: float | None
    replicas_serving: int

    @property
    def in_flight(self) -> float | None:
        """Requests on all serving replicas; replicas that were not sampled count as the mean.

        None when none was sampled.
        """
        if not self.in_flight_by_pod:
            return None
        return sum(self.in_flight_by_pod) * self.replicas_serving / len(self.in_flight_by_pod)


@dataclass(frozen=True, slots=True)
class OverflowInputs:
    """Everything that the next overflow value depends on.

    Attributes:
        spec: The pool's spec.
        mu: Requests per second that one replica serves within the targets; None if unknown.
        concurrency: Requests in flight of one replica at that rate (B*); None if unknown.
        engine_concurrency: Requests that one replica's engine takes into its batch at most, beyond
            which they queue; None if unknown.
        demand_per_second: The slow loop's arrivals, upstream of the split; used where ``live``
            has none.
        live: Load of the serving replicas; None when no fresh sample is there.
        prefill_seconds: Time to prefill a prompt of the usual mix on an unloaded replica.
        p95_cost_usd: 95th percentile of what one request costs at the API; None if unknown.
        price_known: Whether every price that burst needs is known.
        budget_left_usd: What the tightest period has left, reservations taken off; None when no
            period is bounded.
        release: Whether the pool leaves Active: everything goes back to local.
        cost_by_provider: Effective US dollars a request of the usual mix costs at each provider.
            Providers that it lacks come last, in the order of the spec.
        failing_by_provider: Share of the latest attempts at each provider that failed, where a
            gateway tells.
        tokens_per_request: Prompt and output tokens of the mean request, to hold providers'
            tokens-a-minute limits; None leaves those limits unchecked.
        prompt_tokens_per_request: Mean prompt, cached tokens included; None if not measured.
        prompt_cv: Standard deviation of the prompt length over its mean.
        kv_tokens: Tokens that one replica's KV cache holds; None if unknown.
        most_leaving_per_second: Requests per second that may leave while a runaway is suspected;
            None while none is.
    """

    spec: InferencePoolSpec
    mu: float | None
    concurrency: float | None
    demand_per_second: float | None
    live: LiveLoad | None
    prefill_seconds: float
    p95_cost_usd: float | None
    price_known: bool
    budget_left_usd: float | None
    release: bool
    cost_by_provider: Mapping[str, float] = field(default_factory=dict)
    failing_by_provider: Mapping[str, float] = field(default_factory=dict)
    tokens_per_request: float | None = None
    prompt_tokens_per_request: float | None = None
    prompt_cv: float = 0.0
    kv_tokens: float | None = None
    engine_concurrency: float | None = None
    most_leaving_per_second: float | None = None
    route_problem: Reason | None = None


def admitted_in_flight(inputs: OverflowInputs) -> float | None:
    """Requests in flight that the serving replicas can take: N B*, and N w mu that may wait.

    ``w`` is what prefill leaves of the TTFT target, in seconds. It counts only where B* is the
    engine's own bound: below that the engine queues nothing, it takes every request into its batch
    and slows all of them down. (At a constant overload on request-level replicas N (B* + w mu) kept
    the promise for 85 % and N B* for 99 %; docs/design/simulation.md.) None when the load or the
    capacity is unknown.
    """
    if inputs.live is None or inputs.mu is None or inputs.concurrency is None:
        return None
    most = inputs.engine_concurrency
    waits = most is not None and inputs.concurrency >= _ENGINE_BOUND * most
    room = wait_seconds(inputs) * inputs.mu if waits else 0.0
    return inputs.live.replicas_serving * (inputs.concurrency + room)


def admitted_prompt_tokens(inputs: OverflowInputs, admitted: float) -> int | None:
    """Prompt tokens in flight that go with ``admitted`` requests; None where prompts are unknown.

    The 95th percentile of the sum of so many prompts (normal), so that the usual scatter does not
    reach it and a run of long prompts does; at most what the KV caches hold.
    """
    mean = inputs.prompt_tokens_per_request
    if mean is None or inputs.live is None:
        return None
    tokens = mean * (admitted + _Z95 * inputs.prompt_cv * math.sqrt(admitted))
    if inputs.kv_tokens is not None:
        tokens = min(tokens, inputs.kv_tokens * inputs.live.replicas_serving)
    return math.floor(tokens)


def wait_seconds(inputs: OverflowInputs) -> float:
    """What prefill leaves of the TTFT target, in seconds."""
    return max(0.0, inputs.spec.latency.ttft - inputs.prefill_seconds)
