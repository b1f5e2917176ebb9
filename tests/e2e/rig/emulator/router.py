"""Local or cloud: what a gateway does with the operator's overflow value."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tests.e2e.rig.emulator.settings import PoolSettings, ProviderSettings, RouterMode

Count = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Value(BaseModel):
    # Unknown fields are ignored: the value grows by addition.
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Admit(_Value):
    """What the serving replicas can take."""

    in_flight: Count
    prompt_tokens: Count | None = None


class Allowance(_Value):
    """The most that may be spent under one version."""

    requests: Count
    usd: Count


class Share(_Value):
    """A provider's part of the overflow."""

    name: str
    fraction: Count


class OverflowValue(_Value):
    """The operator's overflow value, as it is served."""

    version: int
    epoch: int
    until: AwareDatetime
    fraction: Annotated[float, Field(ge=0, le=1)]
    admit: Admit | None = None
    allowance: Allowance
    providers: list[Share] = []
    reason: str = ""

    @property
    def order(self) -> tuple[int, int]:
        """The highest wins: a new leader's value before an old one's."""
        return self.epoch, self.version


@dataclass(frozen=True)
class LocalLoad:
    """What is in flight to the pool's own replicas."""

    in_flight: int
    prompt_tokens: int


class Router:
    """Decides request by request; keeps the last value until it expires, then stays local.

    Attributes:
        value: The value it holds, expired or not; None before the first.
        used_requests: Requests sent to the cloud under the present version.
        used_usd: What they cost.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self.value: OverflowValue | None = None
        self.used_requests = 0
        self.used_usd = 0.0
        self._mode = settings.router
        self._providers = {provider.name: provider for provider in settings.providers}
        self._rng = random.Random(settings.workload.seed)  # noqa: S311 - not for secrets

    def offer(self, value: OverflowValue, wall_now: float) -> bool:
        """Take a value that is newer than the one held, or any live one once that has expired."""
        held = self.value
        if value.until.timestamp() <= wall_now:
            return False
        if held is not None and self.live(wall_now) is not None and value.order < held.order:
            return False
        if held is None or value.order != held.order:
            self.used_requests, self.used_usd = 0, 0.0
        self.value = value
        return True

    def live(self, wall_now: float) -> OverflowValue | None:
        """The value that holds now, if any."""
        value = self.value
        return value if value is not None and wall_now < value.until.timestamp() else None

    def route(
        self, prompt_tokens: int, output_tokens: int, load: LocalLoad, wall_now: float
    ) -> ProviderSettings | None:
        """The provider that takes this request (its allowance is used up by that), or None: local.

        A value without a provider that is configured here, or without allowance left, is local.
        """
        value = self.live(wall_now)
        if value is None or not self._leaves(value, prompt_tokens, load):
            return None
        provider = self._provider(value)
        if provider is None:
            return None
        usd = provider.usd(prompt_tokens, output_tokens)
        if self.used_requests + 1 > value.allowance.requests:
            return None
        if self.used_usd + usd > value.allowance.usd:
            return None
        self.used_requests += 1
        self.used_usd += usd
        return provider

    def _leaves(self, value: OverflowValue, prompt_tokens: int, load: LocalLoad) -> bool:
        if self._mode is RouterMode.FRACTION:
            return self._rng.random() < value.fraction
        admit = value.admit
        if self._mode is RouterMode.NONE or admit is None:
            return False
        if load.in_flight >= admit.in_flight:
            return True
        return (
            admit.prompt_tokens is not None
            and load.prompt_tokens + prompt_tokens > admit.prompt_tokens
        )

    def _provider(self, value: OverflowValue) -> ProviderSettings | None:
        shares = [share for share in value.providers if share.name in self._providers]
        weights = [share.fraction for share in shares]
        if not shares:
            return None
        if not sum(
            weights
        ):  # Admission overflows while the fraction is still 0: the preferred one.
            return self._providers[shares[0].name]
        return self._providers[self._rng.choices(shares, weights)[0].name]

    def describe(self, wall_now: float) -> dict[str, Any] | None:
        """The value and what is used of it, for /state."""
        if self.value is None:
            return None
        return {
            **self.value.model_dump(mode="json", by_alias=True),
            "live": self.live(wall_now) is not None,
            "used": {"requests": self.used_requests, "usd": self.used_usd},
        }
