"""The guard: what happens when a loop, not a user, seems to make the load."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from spillway.api.model import Model
from spillway.api.quantities import Money, PositiveDuration


class GuardMode(StrEnum):
    """What becomes of burst while a runaway is suspected."""

    FREEZE = "Freeze"
    """No more is spent than before it began, or than ceiling.usdPerHour or the budget's even pace
    allow."""
    STOP = "Stop"
    """Nothing leaves."""
    OFF = "Off"
    """Nothing is suspected."""


class GuardCeiling(Model):
    """Load below which nothing is suspected, and spend above which it is sooner."""

    tokens_per_minute: Annotated[int, Field(ge=1, le=100_000_000_000)] | None = None
    """Prompt and output tokens a minute; unset: what replicas.max serve, which is what the pool was
    made for."""
    usd_per_hour: Money | None = None
    """US dollars an hour at the API: above it less of a surge is suspected, and burst is frozen
    below it. Unset: what would use up the tightest budget in a quarter of its period, and burst is
    frozen at the budget's even pace; without a budget, none."""


class Guard(Model):
    """When a runaway is suspected, and what then."""

    mode: GuardMode = GuardMode.FREEZE
    """What becomes of burst while a runaway is suspected; Off suspects nothing."""
    ceiling: GuardCeiling = GuardCeiling()
    """Absolute bounds; load must be far beyond its own past as well."""
    release_after: PositiveDuration = 1800.0
    """How long load must be as usual before the suspicion goes by itself."""
