"""Hand-made metrics and promises for the rivals' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spillway.sim.scaler import Seen, Told
from spillway.sim.trace import Lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: 1,000 prompt and 200 output tokens each.
LENGTHS = Lengths.of(np.full(4, 1000), np.full(4, 200))


def told(**changes: Any) -> Told:
    """Replicas that serve 2 requests/s with 20 in flight, floor 1, max 100."""
    values: dict[str, Any] = {
        "requests_per_second": 2.0,
        "concurrency": 20.0,
        "max_requests_per_second": 3.0,
        "max_concurrency": 60.0,
        "lengths": LENGTHS,
        "gpu_usd_per_replica_hour": 3.5,
        "api_usd_per_request": 0.0004,
        "lead_seconds": 180.0,
        "floor": 1,
        "max": 100,
        "ttft_seconds": 2.0,
        "tpot_seconds": 0.06,
        "attainment": 0.95,
        "kv_capacity_tokens": 100_000,
    }
    return Told(**values | changes)


def seen(now: float = 0.0, configurations: int = 1, **values: float) -> Seen:
    """Metrics at a moment: what is not given is 0; ``requested`` is ready and unready together."""
    values.setdefault("requested", values.get("ready", 0) + values.get("unready", 0))
    unknown = values.keys() - Seen.__dataclass_fields__.keys()
    assert not unknown, f"no such metric: {unknown}"

    def count(name: str) -> NDArray[np.int64]:
        return np.full(configurations, values.get(name, 0), dtype=np.int64)

    def gauge(name: str) -> NDArray[np.float64]:
        return np.full(configurations, values.get(name, 0.0), dtype=np.float64)

    return Seen(
        now=now,
        requested=count("requested"),
        ready=count("ready"),
        unready=count("unready"),
        arrivals_per_second=gauge("arrivals_per_second"),
        cloud_per_second=gauge("cloud_per_second"),
        completions_per_second=gauge("completions_per_second"),
        running=gauge("running"),
        waiting=gauge("waiting"),
        kv_usage=gauge("kv_usage"),
        gpu_utilization=gauge("gpu_utilization"),
        attainment=gauge("attainment"),
        prompt_tokens_per_second=gauge("prompt_tokens_per_second"),
        output_tokens_per_second=gauge("output_tokens_per_second"),
    )
