from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from spillway.api.reasons import Reason
from spillway.api.schedules import Schedule
from spillway.core.facts import MissingData
from spillway.core.schedules import Scheduled, lasts, scheduled
from tests.unit.core.pools import Pool, reasons, spec

#: START of the pools is 1970-01-12 13:46:40 UTC, a Monday.
HOUR = 3600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def schedule(**changes: Any) -> Schedule:
    values = {"name": "s", "cron": "0 8 * * 1-5", "duration": "1h", "replicas": 4}
    return Schedule.model_validate(
        {key: value for key, value in (values | changes).items() if value is not None}
    )


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-20 07:59:59", False),
        ("2026-11-20 08:00:00", True),
        ("2026-11-20 08:59:59", True),
        ("2026-11-20 09:00:00", False),
        ("2026-11-21 08:30:00", False),  # a Saturday
    ],
)
def test_a_schedule_lasts_from_its_begin_to_its_end(moment: str, *, expected: bool) -> None:
    assert lasts(schedule(), at(moment), at(moment)) is expected


def test_a_time_zone_moves_it_and_daylight_saving_time_with_it() -> None:
    berlin = schedule(timeZone="Europe/Berlin")
    assert lasts(berlin, at("2026-11-20 07:00"), at("2026-11-20 07:00")), "UTC+1"
    assert lasts(berlin, at("2026-07-20 06:00"), at("2026-07-20 06:00")), "UTC+2"
    assert not lasts(berlin, at("2026-07-20 07:00"), at("2026-07-20 07:00"))


def test_a_begin_that_the_clock_skips_is_met_all_the_same() -> None:
    # On 2026-03-29 Berlin's clocks go from 02:00 to 03:00.
    skipped = schedule(cron="30 2 * * *", timeZone="Europe/Berlin", duration="20m")
    assert lasts(skipped, at("2026-03-29 01:00"), at("2026-03-29 01:30"))


def test_one_that_is_longer_than_its_period_never_ends() -> None:
    always = schedule(cron="0 0 * * *", duration="25h")
    assert all(lasts(always, at("2026-11-20") + h * HOUR, 0.0) is False for h in range(3))
    for h in range(48):
        now = at("2026-11-20") + h * HOUR
        assert lasts(always, now, now)


def test_it_counts_a_lead_ahead_and_the_largest_counts() -> None:
    many = [
        schedule(),
        schedule(name="t", replicas=6),
        schedule(name="u", replicas=None, requestsPerSecond="30"),
        schedule(name="v", replicas=9, cron="0 9 * * *"),
    ]
    begin = at("2026-11-20 08:00")
    assert scheduled(many, begin - 135, 120.0) == Scheduled()
    assert scheduled(many, begin - 120, 120.0) == Scheduled(6, 30.0, "t")
    assert scheduled([], begin, 120.0) == Scheduled()


def starting_in(seconds: float, now: float, **what: Any) -> dict[str, Any]:
    moment = datetime.fromtimestamp(now + seconds, UTC)
    cron = f"{moment.minute} {moment.hour} * * *"
    return {"name": "launch", "cron": cron, "duration": "30m", **what}


@pytest.mark.slow
def test_replicas_are_there_when_a_schedule_begins_and_go_when_it_ends() -> None:
    pool = Pool(rps=5.0, replicas=1)
    pool.spec = spec(schedules=[starting_in(1200, pool.now, replicas=4)])
    begin = (pool.now + 1200) // 60 * 60
    decisions = pool.run(2 * HOUR)
    declared = [d for d in decisions if Reason.SCHEDULE in reasons(d)]
    assert all(d.desired == 4 for d in declared)
    lead = declared[0].lead_seconds
    assert begin - lead - 30 <= declared[0].at <= begin - lead
    assert begin + 1785 <= declared[-1].at <= begin + 1800
    assert decisions[-1].desired == 1


def test_a_declared_rate_is_a_floor_of_the_forecast_and_the_policy_serves_it() -> None:
    pool = Pool(rps=5.0, replicas=1)
    pool.spec = spec(schedules=[starting_in(0, pool.now, requestsPerSecond="35")])
    (decision, *_) = pool.run(15)
    assert decision.forecast is not None
    assert decision.forecast.mean == pytest.approx(35)
    assert decision.desired == 4
    assert Reason.SCHEDULE not in reasons(decision)


def test_what_is_declared_needs_no_metrics_and_stays_within_max() -> None:
    pool = Pool(rps=5.0, replicas=1, gateway=False, missing=(MissingData("up", "nothing"),))
    pool.load_changes = {"sampled_at": 0.0}
    pool.spec = spec(schedules=[starting_in(0, pool.now, replicas=4)])
    assert pool.step().desired == 4
    pool.spec = pool.spec.model_copy(
        update={"replicas": pool.spec.replicas.model_copy(update={"max": 3})}
    )
    assert pool.step().desired == 3
