"""The router obeys the overflow value, its expiry and its allowance."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.e2e.rig.emulator.router import LocalLoad, OverflowValue, Router
from tests.unit.rig.builders import T0, settings, value

IDLE = LocalLoad(0, 0)


def cloud(router: Router, load: LocalLoad = IDLE, count: int = 1, at: float = T0) -> int:
    """How many of ``count`` requests of 1,000 and 100 tokens leave."""
    return sum(router.route(1000, 100, load, at) is not None for _ in range(count))


def test_without_a_value_everything_is_local() -> None:
    assert cloud(Router(settings(router="fraction")), count=100) == 0


def test_mode_none_never_leaves() -> None:
    router = Router(settings(router="none"))
    router.offer(value(fraction=1, admit={"inFlight": 0}), T0)
    assert cloud(router, count=100) == 0


@pytest.mark.parametrize(
    ("fraction", "least", "most"), [(0, 0, 0), (0.3, 240, 360), (1, 1000, 1000)]
)
def test_the_fraction_leaves(fraction: float, least: int, most: int) -> None:
    router = Router(settings(router="fraction"))
    router.offer(value(fraction=fraction), T0)
    assert least <= cloud(router, count=1000) <= most


def test_admit_keeps_local_what_fits_and_sends_the_rest() -> None:
    router = Router(settings(router="admit"))
    router.offer(value(admit={"inFlight": 40, "promptTokens": 50_000}), T0)
    assert cloud(router, LocalLoad(39, 49_000)) == 0
    assert cloud(router, LocalLoad(40, 10)) == 1
    assert cloud(router, LocalLoad(1, 49_001)) == 1


def test_admit_mode_ignores_the_fraction() -> None:
    router = Router(settings(router="admit"))
    router.offer(value(fraction=1), T0)
    assert cloud(router, count=10) == 0


def test_an_expired_value_sends_nothing() -> None:
    router = Router(settings(router="fraction"))
    router.offer(value(fraction=1), T0)
    assert cloud(router, at=T0 + 44.9) == 1
    assert cloud(router, at=T0 + 45) == 0


def test_it_stops_at_the_allowance_of_requests_and_a_new_version_brings_a_new_one() -> None:
    router = Router(settings(router="fraction"))
    router.offer(value(fraction=1, allowance={"requests": 7, "usd": 100}), T0)
    assert cloud(router, count=20) == 7
    router.offer(value(fraction=1, allowance={"requests": 7, "usd": 100}), T0)
    assert cloud(router, count=20) == 0  # The same version again.
    router.offer(value(version=2, fraction=1, allowance={"requests": 5, "usd": 100}), T0)
    assert cloud(router, count=20) == 5


def test_it_stops_at_the_allowance_of_dollars() -> None:
    router = Router(settings(router="fraction"))
    # 1,100 tokens at $0.18 per million are $0.000198 a request: five fit into a tenth of a cent.
    router.offer(value(fraction=1, allowance={"requests": 100, "usd": 0.001}), T0)
    assert cloud(router, count=20) == 5
    assert router.used_usd == pytest.approx(5 * 0.000198)


def test_the_highest_epoch_wins_then_the_highest_version() -> None:
    router = Router(settings(router="fraction"))
    assert router.offer(value(epoch=2, version=5), T0)
    assert not router.offer(value(epoch=1, version=99), T0)
    assert not router.offer(value(epoch=2, version=4), T0)
    assert router.offer(value(epoch=2, version=6), T0)
    assert router.offer(value(epoch=3, version=1), T0)


def test_once_it_has_expired_any_live_value_will_do() -> None:
    router = Router(settings(router="fraction"))
    router.offer(value(epoch=2), T0)
    later = value(epoch=1, until="2023-11-14T22:30:00Z", fraction=1)  # T0 is 22:13:20 that day.
    assert router.offer(later, T0 + 60)
    assert cloud(router, at=T0 + 60) == 1


def test_providers_share_by_their_fractions_and_unknown_ones_get_nothing() -> None:
    prices = {"input_usd_per_million": 1, "output_usd_per_million": 1}
    router = Router(
        settings(router="fraction", providers=[{"name": n, **prices} for n in ("a", "b")])
    )
    shares = [{"name": n, "fraction": f} for n, f in (("a", 0.3), ("b", 0.1), ("nobody", 9))]
    router.offer(value(fraction=1, providers=shares), T0)
    taken = [router.route(10, 10, IDLE, T0) for _ in range(1000)]
    names = [provider.name for provider in taken if provider]
    assert len(names) == 1000
    assert 680 < names.count("a") < 820


def test_admission_overflows_to_the_preferred_provider_while_the_fraction_is_zero() -> None:
    prices = {"input_usd_per_million": 1, "output_usd_per_million": 1}
    router = Router(settings(router="admit", providers=[{"name": n, **prices} for n in ("a", "b")]))
    shares = [{"name": n, "fraction": 0} for n in ("b", "a")]
    router.offer(value(admit={"inFlight": 5}, providers=shares), T0)
    taken = router.route(10, 10, LocalLoad(5, 0), T0)
    assert taken is not None
    assert taken.name == "b"


def test_a_value_that_names_no_known_provider_is_local() -> None:
    router = Router(settings(router="fraction"))
    router.offer(value(fraction=1, providers=[{"name": "nobody", "fraction": 1}]), T0)
    assert cloud(router, count=10) == 0


@pytest.mark.parametrize("missing", ["version", "epoch", "until", "fraction", "allowance"])
def test_a_value_without_its_bounds_is_refused(missing: str) -> None:
    payload = value().model_dump(mode="json", by_alias=True)
    del payload[missing]
    with pytest.raises(ValidationError, match=missing):
        OverflowValue.model_validate(payload)
