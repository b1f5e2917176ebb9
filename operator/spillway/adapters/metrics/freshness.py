"""Whether a sample is of the present, by the later of the two clocks that are in play."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: HTTP dates are cut to a second: clocks that differ by less can't be told from equal ones.
_TELLS_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Freshness:
    """What counts as fresh in a snapshot.

    Attributes:
        now: The moment that was asked about, seconds since the epoch by this machine's clock.
        max_age_seconds: Samples older than this, or as far in the future, are no samples.
        ahead_seconds: How far Prometheus' clock is ahead of this machine's, 0 or more.
    """

    now: float
    max_age_seconds: float
    ahead_seconds: float = 0.0

    def fault(self, sampled_at: float) -> str:
        """What is wrong with the age of a sample, for a person; "" where it is fresh."""
        age = self.now + self.ahead_seconds - sampled_at
        if abs(age) <= self.max_age_seconds:
            return ""
        if age < 0:
            return f"the last sample is {-age:.0f} s in the future: check the clocks"
        why = f"stale: the last sample is {age:.0f} s old (limit {self.max_age_seconds:g} s)"
        if self.ahead_seconds < _TELLS_SECONDS:
            return why
        ahead = f"Prometheus' clock is {self.ahead_seconds:.0f} s ahead of this machine's"
        return f"{why}; {ahead}: check the clocks"
