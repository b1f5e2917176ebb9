"""The one formula of exponential forgetting."""

from __future__ import annotations


def gain(elapsed: float, half_life: float) -> float:
    """Weight of what is new where the old has aged by ``elapsed`` (in the half-life's unit)."""
    return float(1 - 0.5 ** (elapsed / half_life))
