"""The paid API, request by request."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from spillway.sim.conditions import Api


@dataclass(frozen=True, slots=True)
class CloudAnswer:
    """What became of a request that was sent away.

    Attributes:
        usd: What it cost.
        answered: Whether any attempt succeeded.
        in_time: Whether the answer met the pool's targets.
    """

    usd: float
    answered: bool
    in_time: bool


class Cloud:
    """An API with errors, late answers and a rate limit (a token bucket of a minute)."""

    def __init__(self, api: Api, rng: random.Random) -> None:
        self._api = api
        self._rng = rng
        self._per_second = api.requests_per_minute / 60
        self._left = api.requests_per_minute
        self._at = 0.0

    def takes(self, prompt_tokens: int) -> bool:
        """Whether a prompt fits its context."""
        return prompt_tokens <= self._api.max_context_tokens

    def send(
        self, now: float, prompt_tokens: int, output_tokens: int, price_factor: float
    ) -> CloudAnswer | None:
        """Answer a request, with the gateway's retries; None where the rate limit refuses it."""
        api = self._api
        if math.isfinite(self._left):
            refill = (now - self._at) * self._per_second
            self._left = min(max(1.0, api.requests_per_minute), self._left + refill)
            self._at = now
            if self._left < 1:
                return None
        price = (
            prompt_tokens * api.input_usd_per_million + output_tokens * api.output_usd_per_million
        ) * (price_factor / 1e6)
        billed = 0
        for _ in range(api.retries + 1):
            self._left -= 1
            if self._rng.random() >= api.error_share:
                in_time = self._rng.random() >= api.late_share
                return CloudAnswer((billed + 1) * price, answered=True, in_time=in_time)
            billed += self._rng.random() < api.billed_error_share
        return CloudAnswer(billed * price, answered=False, in_time=False)
