"""Builds burst inputs for the overflow, ledger and fast-loop tests."""

from __future__ import annotations

from typing import Any

from spillway.api.inferencepool import InferencePoolSpec
from spillway.core.overflow import LiveLoad, OverflowInputs

NOW = 1_800_000_000.0


def spec(mode: str = "Active", **burst: Any) -> InferencePoolSpec:
    """A pool with TTFT 2 s and one provider without limits."""
    return InferencePoolSpec.model_validate(
        {
            "modelName": "m",
            "mode": mode,
            "variants": [{"name": "a", "targetRef": {"name": "a"}}],
            "replicas": {"floor": 1, "max": 8},
            "burst": {"providers": [{"name": "cloud"}], **burst},
        }
    )


def live(
    in_flight: tuple[float, ...] = (10.0, 10.0),
    arrivals: float | None = 4.0,
    *,
    waiting: float = 0.0,
    serving: int | None = None,
) -> LiveLoad:
    return LiveLoad(
        NOW, in_flight, waiting, arrivals, len(in_flight) if serving is None else serving
    )


def inputs(**changes: Any) -> OverflowInputs:
    """Two replicas of 5 requests/s and 20 in flight each; a prompt takes half a second.

    Their engines take no more than that into a batch: what is beyond it queues.
    """
    values: dict[str, Any] = {
        "spec": spec(),
        "mu": 5.0,
        "concurrency": 20.0,
        "demand_per_second": None,
        "live": live(),
        "prefill_seconds": 0.5,
        "p95_cost_usd": 0.01,
        "price_known": True,
        "budget_left_usd": 100.0,
        "release": False,
        "engine_concurrency": 20.0,
    }
    return OverflowInputs(**{**values, **changes})
