"""What leaves for the API in a step of the fluid engine, what becomes of it and what it costs.

Order of what happens to a request that is to leave: a prompt beyond the API's context limit stays;
so does what the rate limit refuses (429) and everything while the API is down, because the gateway
fails over; an attempt that fails is repeated, each attempt counting against the rate limit, and
one that fails to the last is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.conditions import Api
    from spillway.sim.setting import Phase, Setting

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Attempts:
    """Means over requests sent to the API.

    Attributes:
        made: Attempts a request.
        billed: Times that a request is paid for.
        lost: Share that is never answered.
    """

    made: float
    billed: float
    lost: float


def attempts(api: Api) -> Attempts:
    """What the API's errors and the gateway's retries make of a request.

    With a share p of attempts failing and R retries, p^(R+1) of the requests are lost, and each
    makes (1 - p^(R+1)) / (1 - p) attempts.
    """
    share = api.error_share
    lost = share ** (api.retries + 1)
    made = float(api.retries + 1) if share == 1 else (1 - lost) / (1 - share)
    return Attempts(made, (1 - lost) + api.billed_error_share * made * share, lost)


@dataclass(frozen=True, slots=True)
class Left:
    """What left in a step; shape (K,) each.

    Attributes:
        freed: Share of the arrivals' GPU time.
        requests: Share of the arrivals.
        sent: Requests.
        lost: Of these, never answered.
        attained: Of these, within the targets.
        usd: Cost.
    """

    freed: Floats
    requests: Floats
    sent: Floats
    lost: Floats
    attained: Floats
    usd: Floats


class BurstFlow:
    """The way to the API of K worlds, with its rate limit.

    Attributes:
        nobody: What comes back where nothing leaves in any world.
    """

    def __init__(self, setting: Setting, worlds: int) -> None:
        api = setting.conditions.api
        self._blind = setting.conditions.burst_blind
        self._attempts = attempts(api)
        self._in_time = (1 - self._attempts.lost) * (1 - api.late_share)
        self._refill = api.requests_per_minute / 60 * setting.step_seconds
        self._most = max(api.requests_per_minute, self._refill)
        self._limited = np.isfinite(api.requests_per_minute)
        # Attempts that the rate limit still allows.
        self._left = np.full(worlds, self._most)
        zero = np.zeros(worlds)
        self.nobody = Left(zero, zero, zero, zero, zero, zero)

    def nothing(self) -> Left:
        """Nothing leaves in this step."""
        self._refilled()
        return self.nobody

    def share(self, phase: Phase, arriving: float, share: Floats) -> Left:
        """A share of all arrivals leaves, blindly: whoever only weighs can't choose.

        Args:
            phase: What holds now.
            arriving: Requests that arrive in the step; above 0.
            share: Shape (K,).
        """
        self._refilled()
        if phase.api_down or not share.any():
            return self.nobody
        order = phase.order
        requests = np.clip(share, 0.0, 1.0) * order.eligible
        return self._left_with(phase, arriving, requests, requests * order.mean_freed, None)

    def freeing(self, phase: Phase, arriving: float, freed: Floats) -> Left:
        """As many requests leave as free a share of the arrivals' GPU time.

        Args:
            phase: What holds now.
            arriving: Requests that arrive in the step; above 0.
            freed: Shape (K,).
        """
        self._refilled()
        if phase.api_down or not freed.any():
            return self.nobody
        order = phase.order
        if self._blind:
            if order.mean_freed == 0:
                return self.nobody
            requests = np.minimum(freed / order.mean_freed, order.eligible)
            return self._left_with(phase, arriving, requests, requests * order.mean_freed, None)
        freed = np.minimum(freed, order.freed[-1])
        requests = np.interp(freed, order.freed, order.requests)
        usd = np.interp(freed, order.freed, order.usd)
        return self._left_with(phase, arriving, requests, freed, usd)

    def _refilled(self) -> None:
        if self._limited:
            self._left = np.minimum(self._most, self._left + self._refill)

    def _left_with(
        self, phase: Phase, arriving: float, requests: Floats, freed: Floats, usd: Floats | None
    ) -> Left:
        """What leaves after the rate limit; ``usd`` is for one arrival, None: of mean requests."""
        if usd is None:
            usd = requests * phase.order.mean_usd
        if self._limited:
            wanted = requests * (arriving * self._attempts.made)
            with np.errstate(divide="ignore", invalid="ignore"):
                kept = np.where(wanted > self._left, self._left / wanted, 1.0)
            self._left = self._left - wanted * kept
            # The limit strikes whoever comes, not the dearest.
            requests, freed, usd = requests * kept, freed * kept, usd * kept
        sent = requests * arriving
        return Left(
            freed=freed,
            requests=requests,
            sent=sent,
            lost=sent * self._attempts.lost,
            attained=sent * self._in_time,
            usd=usd * (arriving * phase.api_price_factor * self._attempts.billed),
        )
