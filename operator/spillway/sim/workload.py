"""Seeded traffic: when requests arrive and how long they are.

Arrivals are a Poisson process whose rate follows a piecewise-linear profile (drawn by thinning,
Lewis and Shedler 1979); lengths are lognormal. Each second of time has its own random stream, made
from the seed and the second alone, so any window can be asked for in any order and in any pieces
and is always the same.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from spillway.sim.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_PER_SECOND: Final = 1_000_000
"""Room for request ids within a second; no profile may ask for more arrivals than that."""


@dataclass(frozen=True, slots=True)
class TokenMix:
    """How long prompts and answers are; both lognormal.

    Attributes:
        prompt_mean: Mean prompt length in tokens.
        prompt_sigma: Standard deviation of the logarithm of the prompt length.
        output_mean: Mean answer length in tokens.
        output_sigma: Standard deviation of the logarithm of the answer length.
        max_prompt_tokens: Longer prompts are cut to this.
        max_output_tokens: Longer answers are cut to this.
        prefix_hit_ratio: Share of each prompt that the prefix cache answers, 0 to 1.
    """

    prompt_mean: float
    prompt_sigma: float
    output_mean: float
    output_sigma: float
    max_prompt_tokens: int = 16_384
    max_output_tokens: int = 4_096
    prefix_hit_ratio: float = 0.0

    def __post_init__(self) -> None:
        """Refuse lengths that can't be drawn."""
        for name in ("prompt_mean", "output_mean", "max_prompt_tokens", "max_output_tokens"):
            if not 1 <= getattr(self, name) < math.inf:
                msg = f"{name} must be a number from 1 up, got {getattr(self, name)}"
                raise ValueError(msg)
        for name, most in (("prompt_sigma", 4), ("output_sigma", 4), ("prefix_hit_ratio", 1)):
            if not 0 <= getattr(self, name) <= most:
                msg = f"{name} must be from 0 to {most}, got {getattr(self, name)}"
                raise ValueError(msg)

    def draw(self, rng: random.Random) -> tuple[int, int, int]:
        """Prompt, output and cached tokens of one request."""
        prompt = _lognormal(rng, self.prompt_mean, self.prompt_sigma, self.max_prompt_tokens)
        output = _lognormal(rng, self.output_mean, self.output_sigma, self.max_output_tokens)
        return prompt, output, min(prompt - 1, int(prompt * self.prefix_hit_ratio))


def _lognormal(rng: random.Random, mean: float, sigma: float, most: int) -> int:
    # The mean of a lognormal is exp(mu + sigma^2 / 2).
    return min(most, max(1, round(rng.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma))))


MIXES: Final = {
    # chat and code have the means and coefficients of variation of the conversation and the coding
    # service in the Azure LLM inference trace 2023 (CC-BY-4.0; Splitwise, ISCA 2024).
    "chat": TokenMix(prompt_mean=1155, prompt_sigma=0.81, output_mean=211, output_sigma=0.68),
    "code": TokenMix(prompt_mean=2048, prompt_sigma=0.81, output_mean=28, output_sigma=1.31),
    # 5,000 in and 100 out is the usual shape of retrieval-augmented generation; its spread is
    # assumed: retrieved passages fill a prompt to about the same length each time.
    "rag": TokenMix(prompt_mean=5000, prompt_sigma=0.3, output_mean=100, output_sigma=0.5),
}
"""Built-in mixes by name."""


def mix_named(name: str) -> TokenMix:
    """The built-in mix of that name.

    Raises:
        ValueError: There is none; the message lists what there is.
    """
    try:
        return MIXES[name]
    except KeyError:
        msg = f"mix must be one of {', '.join(MIXES)}, got {name!r}"
        raise ValueError(msg) from None


class RateProfile:
    """Requests per second over time: straight lines between points, constant beyond the ends."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        """Take (time, requests per second) points in ascending order of time.

        Raises:
            ValueError: No point, times that don't ascend, or a rate that is negative or not finite.
        """
        self._times = [time for time, _ in points]
        self._rates = [rate for _, rate in points]
        if not points:
            msg = "a rate profile needs at least one (time, rate) point"
            raise ValueError(msg)
        if not all(map(math.isfinite, self._times)) or any(
            later <= earlier for earlier, later in pairwise(self._times)
        ):
            msg = f"times of a rate profile must be finite and ascend, got {self._times}"
            raise ValueError(msg)
        bad = [rate for rate in self._rates if not 0 <= rate < _MAX_PER_SECOND]
        if bad:
            msg = f"a rate must be from 0 to {_MAX_PER_SECOND} requests/s, got {bad[0]}"
            raise ValueError(msg)

    @classmethod
    def constant(cls, requests_per_second: float) -> RateProfile:
        """The same rate at all times."""
        return cls([(0.0, requests_per_second)])

    def at(self, time: float) -> float:
        """Requests per second at ``time``."""
        index = bisect_right(self._times, time)
        if index == 0:
            return self._rates[0]
        if index == len(self._times):
            return self._rates[-1]
        start, end = self._times[index - 1], self._times[index]
        share = (time - start) / (end - start)
        return self._rates[index - 1] * (1 - share) + self._rates[index] * share

    def peak(self, start: float, end: float) -> float:
        """The highest rate in ``[start, end]``."""
        inside = [
            rate for time, rate in zip(self._times, self._rates, strict=True) if start < time < end
        ]
        return max(self.at(start), self.at(end), *inside)


class Workload:
    """Requests of one pool, the same for the same seed, profile and mix."""

    def __init__(self, mix: TokenMix, profile: RateProfile, seed: int) -> None:
        self.mix = mix
        self.profile = profile
        self.seed = seed
        self._second: tuple[int, list[Request]] = (-1, [])

    def requests_between(self, start: float, end: float) -> list[Request]:
        """Requests that arrive in ``[start, end)``, in order of arrival."""
        found: list[Request] = []
        for second in range(math.floor(start), math.ceil(end)):
            found.extend(r for r in self._in_second(second) if start <= r.arrived_at < end)
        return found

    def _in_second(self, second: int) -> list[Request]:
        # Callers ask for the same second many times in a row, in small pieces.
        if self._second[0] != second:
            self._second = (second, self._draw(second))
        return self._second[1]

    def _draw(self, second: int) -> list[Request]:
        peak = self.profile.peak(second, second + 1)
        found: list[Request] = []
        if peak <= 0:
            return found
        rng = random.Random(f"{self.seed}/{second}")  # noqa: S311 - not for secrets
        time = second + rng.expovariate(peak)
        while time < second + 1:
            if rng.random() * peak < self.profile.at(time):
                prompt, output, cached = self.mix.draw(rng)
                found.append(
                    Request(second * _MAX_PER_SECOND + len(found), time, prompt, output, cached)
                )
            time += rng.expovariate(peak)
        return found
