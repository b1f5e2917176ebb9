"""Who of the forecasters is believed, and on how much evidence."""

from __future__ import annotations

import pytest

from spillway.core.blend import Blend, pinball

#: In the order of the pool: last, level, slow, trend, seasonal.
LUCKY_ONCE = (12.0, 10.0, 12.0, 12.0, None)
THEN_WRONG = (10.0, 12.0, 12.0, 12.0, None)


def test_one_lucky_forecast_does_not_outweigh_ten_later_ones() -> None:
    blend = Blend().learned(LUCKY_ONCE, 10.0)
    assert blend.weights[1] > 0.99
    for _ in range(10):
        blend = blend.learned(THEN_WRONG, 10.0)
    assert blend.weights[0] > 0.99


def test_few_losses_are_plain_means() -> None:
    blend = Blend()
    for point in (10.0, 12.0, 8.0, 11.0):
        blend = blend.learned((point, 10.0, 10.0, None, None), 10.0)
    seen = [pinball(point, 10.0) for point in (10.0, 12.0, 8.0, 11.0)]
    assert blend.losses[0] == pytest.approx(sum(seen) / 4)
    assert blend.losses[3] is None


def test_many_losses_fade() -> None:
    blend = Blend()
    for _ in range(500):
        blend = blend.learned((12.0, 10.0, 12.0, None, None), 10.0)
    for _ in range(500):
        blend = blend.learned((10.0, 12.0, 12.0, None, None), 10.0)
    assert blend.weights[0] > 0.99, "the latest three hours count more than the eight before"
