"""How long to wait before asking the API server again."""

from __future__ import annotations

import random
from typing import Final

#: A first quick try (a rolling API server is back at once), then a steady pace for ever: an outage
#: of any length ends within two seconds of its end.
FIRST_SECONDS: Final = 0.5
NEXT_SECONDS: Final = 2.0
#: The longest Retry-After that is followed.
CAP_SECONDS: Final = 30.0
#: Each pause is this much shorter or longer, so that clients don't come back in step.
JITTER: Final = 0.2


class Backoff:
    """An endless row of pauses: 0.5, 2, 2, ... seconds, with jitter.

    Attributes:
        failures: How many pauses were taken since the last success.
    """

    def __init__(self) -> None:
        self.failures = 0

    def success(self) -> None:
        """Begin anew with the short pause."""
        self.failures = 0

    def next_seconds(self, retry_after_seconds: float | None = None) -> float:
        """The next pause, at least as long as the server asked for (up to the cap)."""
        pause = FIRST_SECONDS if self.failures == 0 else NEXT_SECONDS
        self.failures += 1
        pause *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter
        return max(pause, min(retry_after_seconds or 0.0, CAP_SECONDS))
