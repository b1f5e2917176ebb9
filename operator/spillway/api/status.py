"""Status of an InferencePool: what Spillway answers.

No field has a default in the CRD: what the operator has not said is not there.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from spillway.api.model import Model, map_list

#: Longest message of a condition, as in Kubernetes' own metav1.Condition.
MESSAGE_LIMIT: Final = 32_768


class ReplicaStatus(Model):
    """Replicas by what they do."""

    serving: int = 0
    """Ready and in the Service."""
    warm: int = 0
    """Ready and idle outside the Service."""
    starting: int = 0
    """On the way to Ready."""
    draining: int = 0
    """Finishing their requests before they go."""
    desired: int = 0
    """Serving replicas that the last decision asks for."""


class DemandStatus(Model):
    """Load that arrives upstream of the split."""

    requests_per_second: float = 0.0
    """Arrivals per second, mean over the last minute."""
    queue: float = 0.0
    """Requests waiting on serving replicas."""
    source: str = ""
    """Gateway or Engine."""
    lower_bound: bool = False
    """True where requests that burst are not seen."""
    prefill_tokens_per_second: float | None = None
    """Prompt tokens to compute per second, cached ones taken off; unset where unknown."""
    decode_tokens_per_second: float | None = None
    """Output tokens to generate per second; unset where unknown."""


class ForecastStatus(Model):
    """Demand expected over the decision window."""

    mean: float = 0.0
    """Arrivals per second."""
    low: float = 0.0
    """5 % quantile of arrivals per second."""
    high: float = 0.0
    """95 % quantile of arrivals per second."""
    horizon_seconds: float = 0.0
    """How far ahead, in seconds: the lead time of a replica."""


class CapacityStatus(Model):
    """What one replica serves within the latency promise."""

    requests_per_second: float = 0.0
    """Requests of the present mix that one replica serves per second."""
    concurrency: float = 0.0
    """Requests in flight at that rate."""
    source: str = ""
    """Declared; Learned; Profile: the built-in table's entry for the model and the GPU; Prior: an
    assumption for any model on any GPU."""
    detail: Annotated[str, Field(max_length=256)] = ""
    """What a profile is about: parameters, precision and GPUs."""
    longest_prompt_tokens: float | None = None
    """Prompts beyond this miss the TTFT target even on an idle replica; unset where unknown."""
    relative_error: float | None = None
    """Estimated relative error of requestsPerSecond; unset where unknown."""


class CostStatus(Model):
    """Cost rates in US dollars an hour."""

    gpu_per_hour: float = 0.0
    """US dollars an hour for the GPUs held now."""
    api_per_hour: float = 0.0
    """US dollars an hour for burst at the present rate."""
    total_per_hour: str = ""
    """Both in US dollars an hour, as text for the printer column."""
    all_gpu_per_hour: float | None = None
    """US dollars an hour that serving all of the present load on GPUs would cost."""
    all_api_per_hour: float | None = None
    """US dollars an hour that serving all of the present load at the API would cost."""


class LeversStatus(Model):
    """What the gateway does before requests reach the pool, where it tells: none of it is load."""

    cache_hits_per_second: float = 0.0
    """Requests that its cache answers; they are no arrivals."""
    cache_hit_share: float = 0.0
    """Of all requests, those that its cache answers, 0 to 1."""
    saved_tokens_per_second: float = 0.0
    """Prompt and output tokens of these."""
    saved_per_hour: float | None = None
    """US dollars an hour that serving them as the others are served would cost, at the present mean
    cost of a token; unset where that is not known."""
    routed_share: float = 0.0
    """Of the arrivals, those that its routing by complexity sent here, 0 to 1."""


class SizingStatus(Model):
    """The comparison that sets the number of replicas, and where it would come out differently."""

    proposed: int = 0
    """Serving replicas that the policy asks for, before any limit."""
    reason: str = ""
    """The policy's reason."""
    gpu_per_replica_hour: float | None = None
    """US dollars an hour of one replica; unset where no price is known."""
    api_per_replica_hour: float | None = None
    """US dollars an hour that the API would charge for what one replica serves."""
    provider: str = ""
    """The provider of that price."""
    add_above: float | None = None
    """Mean arrivals per second ahead above which one more replica would be asked for."""
    remove_below: float | None = None
    """Mean arrivals per second ahead below which one less would be asked for."""
    api_add_above: float | None = None
    """US dollars an hour at the API for a replica's work, above which one more would be asked
    for."""
    api_remove_below: float | None = None
    """US dollars an hour at the API for a replica's work, below which one less would be asked
    for."""


class OverflowStatus(Model):
    """The published overflow value, in short."""

    fraction: float = 0.0
    """Share of arrivals that should leave, 0 to 1."""
    percent: str = "0%"
    """The same as text for the printer column."""
    in_flight: int | None = None
    """Requests that the serving replicas together may hold in flight."""
    reason: str = ""
    """CamelCase reason of the value."""
    until: str = ""
    """When the value expires (RFC 3339)."""


class BudgetStatus(Model):
    """Spend within the current periods, in US dollars."""

    spent_hour: float = 0.0
    """US dollars this hour, reservations included."""
    spent_day: float = 0.0
    """US dollars this day, reservations included."""
    spent_month: float = 0.0
    """US dollars this month, reservations included."""
    lasts_until: str = ""
    """When a period's budget would be spent at the present rate (RFC 3339); unset: not within any
    period."""


class GuardStatus(Model):
    """What the guard takes for usual, and what it suspects."""

    usual_tokens_per_minute: float = 0.0
    """Prompt and output tokens a minute that are usual by now."""
    usual_requests_per_second: float = 0.0
    """Arrivals per second that are usual by now."""
    suspected_since: str = ""
    """When the sign of a runaway began (RFC 3339); empty while nothing is suspected."""
    sign: str = ""
    """What the suspicion rests on: surge, spend or context loop."""
    evidence: str = ""
    """The same with its figures, for a person."""
    replicas_before: int = 0
    """Serving replicas before it began."""
    usd_per_hour_before: float = 0.0
    """US dollars an hour at the API before it began."""


class LeadTimeStatus(Model):
    """How long a replica takes from creation to first Ready."""

    p95_seconds: float | None = None
    """Measured 95th percentile, seconds; unset until one start was seen."""
    recent_seconds: list[float] = Field(default_factory=list)
    """The latest ones in seconds, oldest first; they restore the estimate after a restart."""


class PriceStatus(Model):
    """A price that the spec does not declare, in US dollars."""

    name: Annotated[str, Field(max_length=80)]
    """``variant NAME`` or ``provider NAME``."""
    item: Annotated[str, Field(max_length=253)] = ""
    """What was looked up."""
    source: Annotated[str, Field(max_length=32)] = ""
    """Catalog, OpenCost or PriceMap."""
    per_accelerator_hour: float | None = None
    """One GPU for one hour, of a variant."""
    input_per_million: float | None = None
    """A million prompt tokens, of a provider."""
    output_per_million: float | None = None
    """A million output tokens, of a provider."""
    cached_input_per_million: float | None = None
    """A million prompt tokens from its cache; unset: it does not cache."""
    held_since: Annotated[str, Field(max_length=32)] = ""
    """When the price was last believed (RFC 3339), where no source gives one that can be now."""


class DecisionStatus(Model):
    """The last decision that changed something."""

    id: str = ""
    """Identifier that logs and events carry."""
    time: str = ""
    """When it was made (RFC 3339)."""
    reasons: list[str] = Field(default_factory=list)
    """The policy's reason, then the limits that changed its proposal, in order."""
    message: str = ""
    """One sentence for a person."""


class Condition(Model):
    """A standard Kubernetes condition."""

    type: Annotated[str, Field(max_length=316)]
    """Condition type."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """CamelCase reason."""
    message: Annotated[str, Field(max_length=MESSAGE_LIMIT)] = ""
    """Details for a person."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When status last changed (RFC 3339)."""
    observed_generation: int | None = None
    """Generation of the spec that the condition speaks of."""


class InferencePoolStatus(Model):
    """What Spillway answers."""

    observed_generation: int = 0
    """Generation of the spec that this status speaks of."""
    replicas: ReplicaStatus = ReplicaStatus()
    """Replicas by what they do."""
    demand: DemandStatus | None = None
    """Load upstream of the split; unset while unknown."""
    forecast: ForecastStatus | None = None
    """Demand expected over the decision window."""
    capacity: CapacityStatus | None = None
    """What one replica serves within the latency promise."""
    cost: CostStatus | None = None
    """Cost rates in US dollars an hour."""
    levers: LeversStatus | None = None
    """What the gateway's cache and routing do; unset while they do nothing."""
    sizing: SizingStatus | None = None
    """What the policy compares, and what would change its answer."""
    overflow: OverflowStatus = OverflowStatus()
    """The published overflow value, in short."""
    budget: BudgetStatus | None = None
    """Spend on burst within the current periods, in US dollars."""
    guard: GuardStatus | None = None
    """What the guard takes for usual, and what it suspects; unset while it is off."""
    lead_time: LeadTimeStatus = LeadTimeStatus()
    """How long a replica takes from creation to first Ready."""
    prices: Annotated[list[PriceStatus], map_list("name", least=0, most=16)] = Field(
        default_factory=list
    )
    """Prices that the spec does not declare; declared ones are not repeated."""
    last_decision: DecisionStatus | None = None
    """The last decision that changed something."""
    conditions: Annotated[list[Condition], map_list("type", least=0, most=32)] = Field(
        default_factory=list
    )
    """Standard conditions, one of each type."""
