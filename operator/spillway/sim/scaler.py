"""The seam between a simulated world and whoever scales it: Spillway's core or a rival.

An engine steps K copies of the world at once, one for each of a scaler's K configurations (its
tuning grid); every array here has the shape (K,). Spillway itself has K = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spillway.sim.trace import Lengths


class BurstActuator(StrEnum):
    """How requests leave for the API."""

    NONE = "none"
    """Nothing leaves."""
    FRACTION = "fraction"
    """A share of arrivals, set each period from metrics as old as the metrics' lag."""
    ADMISSION = "admission"
    """The router sends away what would wait longer than the bound, request by request."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a scaler is told before it begins; the world may turn out different (drift).

    Attributes:
        requests_per_second: Capacity of one replica within the latency targets (mu).
        concurrency: Requests in flight at that rate (B*).
        max_requests_per_second: What one replica finishes when saturated, targets missed.
        max_concurrency: Requests in flight at that rate; more wait in the engine's queue.
        lengths: Prompt and answer lengths to be expected.
        gpu_usd_per_replica_hour: Price of a replica.
        api_usd_per_request: Price of a mean request at the API.
        lead_seconds: Median time from a replica's creation to Ready.
        floor: Fewest serving replicas.
        max: Most replicas.
        ttft_seconds: Target.
        tpot_seconds: Target.
        attainment: Share of requests that must meet both.
        actuator: How its requests leave; what only the other one uses need not be computed.
        kv_capacity_tokens: Tokens that a replica's KV cache holds (``vllm:cache_config_info``);
            None where it is not known.
        input_usd_per_million: The API's price of a million prompt tokens.
        output_usd_per_million: The API's price of a million output tokens.
        api_requests_per_minute: The API's rate limit.
        api_max_context_tokens: Longer prompts can't leave.
    """

    requests_per_second: float
    concurrency: float
    max_requests_per_second: float
    max_concurrency: float
    lengths: Lengths
    gpu_usd_per_replica_hour: float
    api_usd_per_request: float
    lead_seconds: float
    floor: int
    max: int
    ttft_seconds: float
    tpot_seconds: float
    attainment: float
    actuator: BurstActuator = BurstActuator.NONE
    kv_capacity_tokens: int | None = None
    input_usd_per_million: float = 0.0
    output_usd_per_million: float = 0.0
    api_requests_per_minute: float = math.inf
    api_max_context_tokens: int = 131_072


@dataclass(slots=True)
class Seen:
    """What metrics show at a moment, as old as the world's metric lag says.

    Rates are means over the last 60 s. Gauges of engines are sums over ready replicas, as
    Prometheus would give them.

    Attributes:
        now: The moment of the decision, seconds from the trace's begin (not of the sample).
        requested: spec.replicas; shape (K,) like all that follow.
        ready: Replicas that serve (not lagged: the API server says so).
        unready: Replicas created and not Ready yet (not lagged).
        arrivals_per_second: At the gateway, before the split.
        cloud_per_second: Of these, sent to the API.
        completions_per_second: Finished by local replicas.
        running: Requests in the engines' batches.
        waiting: Requests in the engines' queues.
        kv_usage: Mean share of the KV cache in use, 0 to 1.
        gpu_utilization: Mean DCGM_FI_DEV_GPU_UTIL over ready replicas, 0 to 1.
        attainment: Share of local requests of the last 5 minutes within the targets; NaN if none.
        unschedulable: Of the unready ones, those that find no GPU (not lagged); None: none.
        prompt_tokens_per_second: Of requests that local replicas finished, cached ones included;
            None, here and below, where the world does not count it.
        cached_tokens_per_second: Of these, answered by the prefix cache.
        output_tokens_per_second: Sent by local replicas.
        steps_per_second: Engine steps.
        cloud_requests_total: Requests sent to the API since the run began.
        api_price_factor: The API's prices now, over those told (not lagged).
    """

    now: float
    requested: NDArray[np.int64]
    ready: NDArray[np.int64]
    unready: NDArray[np.int64]
    arrivals_per_second: NDArray[np.float64]
    cloud_per_second: NDArray[np.float64]
    completions_per_second: NDArray[np.float64]
    running: NDArray[np.float64]
    waiting: NDArray[np.float64]
    kv_usage: NDArray[np.float64]
    gpu_utilization: NDArray[np.float64]
    attainment: NDArray[np.float64]
    unschedulable: NDArray[np.int64] | None = None
    prompt_tokens_per_second: NDArray[np.float64] | None = None
    cached_tokens_per_second: NDArray[np.float64] | None = None
    output_tokens_per_second: NDArray[np.float64] | None = None
    steps_per_second: NDArray[np.float64] | None = None
    cloud_requests_total: NDArray[np.float64] | None = None
    api_price_factor: float = 1.0


@dataclass(slots=True)
class Asked:
    """What a scaler wants from now on; shape (K,) each.

    Attributes:
        replicas: spec.replicas.
        fraction: Share of arrivals to send to the API, 0 to 1; used by `BurstActuator.FRACTION`.
        admit_in_flight: Bound on requests in flight here; used by `BurstActuator.ADMISSION`.
        reason: For a person, of configuration 0; "" where nothing changed.
    """

    replicas: NDArray[np.int64]
    fraction: NDArray[np.float64]
    admit_in_flight: NDArray[np.float64]
    reason: str = ""


class Scaler(Protocol):
    """A policy under test. It keeps its own state between calls of `decide`."""

    @property
    def name(self) -> str:
        """Short name for tables."""
        ...

    @property
    def configurations(self) -> int:
        """K."""
        ...

    @property
    def period_seconds(self) -> float:
        """Time between decisions; the engine rounds it up to its step."""
        ...

    def describe(self, configuration: int) -> str:
        """The parameters of one configuration, for tables."""
        ...

    def begin(self, told: Told) -> None:
        """Forget everything; a run begins."""
        ...

    def decide(self, seen: Seen) -> Asked:
        """What is wanted from now on."""
        ...
