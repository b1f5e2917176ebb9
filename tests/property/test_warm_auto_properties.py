"""warmPool.size: auto is a break-even in dollars: no price may turn it the wrong way."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from spillway.core.memory import PoolMemory
from tests.unit.core.pools import START, Pool, burst, spec, variant

HOUR = 3600.0
cents = st.integers(1, 2000)


def warm(gpu_cents: int, api_cents: int, increases: int) -> int:
    """Warm replicas after a day of so many increases, at these prices a GPU-hour and a million."""
    pool = Pool(
        spec=spec(
            variants=[variant(usd=f"{gpu_cents / 100:.2f}")],
            burst=burst(input_usd=f"{api_cents / 100:.2f}", output_usd=f"{api_cents / 100:.2f}"),
            warmPool={"size": "auto"},
        )
    )
    times = tuple(START - HOUR * (i + 1) / 10 for i in range(increases))
    pool.memory = replace(PoolMemory.initial(), started_at=START - 24 * HOUR, increases=times)
    return pool.step().warm


@given(cents, cents, cents, st.integers(0, 60), st.integers(0, 20))
def test_auto_follows_prices_and_cold_starts_the_right_way(
    gpu: int, api: int, more: int, increases: int, further: int
) -> None:
    before = warm(gpu, api, increases)
    assert before in {0, 1}
    assert warm(gpu, api + more, increases) >= before
    assert warm(gpu + more, api, increases) <= before
    assert warm(gpu, api, increases + further) >= before
