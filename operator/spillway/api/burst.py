"""Burst: which paid APIs may serve overflow, who diverts it, and what it may cost."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field

from spillway.api.model import Model, Rule, map_list
from spillway.api.quantities import (
    Money,
    NotAcceptedError,
    Ratio,
    matching,
    text_schema,
)
from spillway.api.references import Name, ObjectName


class BurstDriver(StrEnum):
    """Who turns the overflow value into traffic."""

    ANNOTATION = "Annotation"
    HTTP_ROUTE = "HTTPRoute"
    EDGE_ENVOY = "EdgeEnvoy"
    LITELLM = "LiteLLM"


class RouteRef(Model):
    """The HTTPRoute rule whose weights carry the split."""

    name: ObjectName
    """Name of the HTTPRoute."""
    rule: ObjectName | None = None
    """Name of the rule; unset: the only rule."""
    local: Name
    """Name of the backendRef that is the pool's own Service."""


class BackendRef(Model):
    """A backend of the route, in the pool's namespace."""

    name: Name
    """Name of the Service."""


class ProviderPrice(Model):
    """What a provider charges."""

    input_per_million: Money
    """US dollars for a million prompt tokens."""
    output_per_million: Money
    """US dollars for a million output tokens."""
    cached_input_per_million: Money | None = None
    """US dollars for a million prompt tokens that its cache answers; unset: it does not cache."""


class ProviderLimits(Model):
    """The provider's rate limits."""

    requests_per_minute: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Requests a minute; unset: none known."""
    tokens_per_minute: Annotated[int, Field(ge=1, le=100_000_000_000)] | None = None
    """Tokens a minute, prompt and output; unset: none known."""


class RetryLayer(Model):
    """Something between user and provider that tries failed requests again."""

    layer: Name
    """Name of it, such as gateway or client."""
    most: Annotated[int, Field(ge=0, le=20)]
    """Most attempts after the first."""


class Provider(Model):
    """A paid API that serves the same kind of model."""

    rules: ClassVar = (
        Rule(
            field="errorShare",
            message='must be below "1"',
            cel="!self.errorShare.startsWith('1')",
            holds=lambda provider: provider.error_share < 1,
        ),
    )

    name: Name
    """Name of the provider, unique in the pool."""
    backend_ref: BackendRef | None = None
    """The route's backend that leads to it."""
    model: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Model name there."""
    price: ProviderPrice | None = None
    """What it charges; without it the price catalog is asked."""
    price_key: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Its entry in the price catalog or price map; unset: name/model, then model."""
    caches_prefix: bool = True
    """Whether prompts that the local prefix cache would answer count at its cached price, where it
    has one."""
    error_share: Ratio = 0.0
    """Share of the attempts there that fail."""
    billed_error_share: Ratio = 0.0
    """Share of the failed attempts that it bills all the same (refusals by rate limit are not)."""
    retries: Annotated[list[RetryLayer], map_list("layer", least=0, most=4)] = Field(default=[])
    """Who retries failed attempts; layers multiply, and attempts count against its rate limits."""
    limits: ProviderLimits = ProviderLimits()
    """Its rate limits."""
    max_context_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Longest prompt it takes; unset: any."""


_TIME_ZONE_PATTERN: Final = r"^[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}$"
_TIME_ZONE: Final = 'an IANA time zone such as "UTC" or "Europe/Berlin"'


def _known_time_zone(value: object) -> str:
    name = matching(value, _TIME_ZONE_PATTERN, _TIME_ZONE)
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise NotAcceptedError(_TIME_ZONE, value) from None
    return name


#: A time zone by its IANA name. The API server asks its own zone database: its answer to an
#: unknown one names the field and says "unknown time zone".
TimeZone = Annotated[
    str,
    BeforeValidator(_known_time_zone),
    text_schema(
        _TIME_ZONE_PATTERN,
        64,
        _TIME_ZONE,
        "self != 'Local' && timestamp('2000-01-01T00:00:00Z').getHours(self) >= 0",
    ),
]


class Budget(Model):
    """Most that burst may cost. Unset periods are not bounded."""

    per_hour: Money | None = None
    """US dollars an hour."""
    per_day: Money | None = None
    """US dollars a day."""
    per_month: Money | None = None
    """US dollars a calendar month."""
    time_zone: TimeZone = "UTC"
    """IANA time zone in which days and months begin."""


def _backends_given(burst: Burst) -> bool:
    return burst.driver is not BurstDriver.HTTP_ROUTE or all(p.backend_ref for p in burst.providers)


def _backends_distinct(burst: Burst) -> bool:
    names = [p.backend_ref.name for p in burst.providers if p.backend_ref]
    if burst.route_ref:
        names.append(burst.route_ref.local)
    return len(names) == len(set(names))


class Burst(Model):
    """What may leave for a paid API, and for how much."""

    rules: ClassVar = (
        Rule(
            field="providers",
            message="must have names that are unique in the pool",
            cel="self.providers.all(a, self.providers.exists_one(b, b.name == a.name))",
            holds=lambda burst: len({p.name for p in burst.providers}) == len(burst.providers),
        ),
        Rule(
            field="routeRef",
            message="is required with driver HTTPRoute",
            cel="self.driver != 'HTTPRoute' || has(self.routeRef)",
            holds=lambda burst: burst.driver is not BurstDriver.HTTP_ROUTE or burst.route_ref,
        ),
        Rule(
            field="providers",
            message="must each have a backendRef with driver HTTPRoute",
            cel="self.driver != 'HTTPRoute' || self.providers.all(p, has(p.backendRef))",
            holds=_backends_given,
        ),
        Rule(
            field="providers",
            message="must each have a backendRef of their own, other than routeRef.local",
            cel=(
                "self.providers.all(a, !has(a.backendRef) || ("
                "(!has(self.routeRef) || a.backendRef.name != self.routeRef.local) && "
                "self.providers.exists_one(b, has(b.backendRef) && "
                "b.backendRef.name == a.backendRef.name)))"
            ),
            holds=_backends_distinct,
        ),
    )

    driver: BurstDriver = BurstDriver.ANNOTATION
    """Who turns the overflow value into traffic."""
    route_ref: RouteRef | None = None
    """The route, for driver HTTPRoute."""
    providers: Annotated[list[Provider], map_list("name", most=8)]
    """Where overflow may go."""
    budget: Budget = Budget()
    """Most that it may cost."""
    max_fraction: Ratio = 1.0
    """Most of the arrivals that may leave."""
