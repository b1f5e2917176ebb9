"""What is remembered of a pool, and when it is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from spillway.api.names import OVERFLOW_ANNOTATION
from spillway.api.reasons import Reason
from spillway.controller.runtime import Runtimes
from spillway.core.overflow import Allowance, OverflowValue, to_json
from tests.unit.controller import fakes

NOW = 1_800_000_000.0
TEXT = to_json(OverflowValue(4, 7, NOW + 45, 0.3, None, Allowance(9, 1.0), (), Reason.SHORTAGE))


def runtimes() -> tuple[Runtimes, list[Any]]:
    forgotten: list[Any] = []
    return Runtimes(forgotten.append), forgotten


def test_at_first_sight_the_annotation_is_taken_over() -> None:
    made, _ = runtimes()
    runtime = made.of(fakes.pool(annotations={OVERFLOW_ANNOTATION: TEXT}), NOW)
    assert runtime.overflow is not None
    assert (runtime.overflow.version, runtime.overflow.fraction) == (4, 0.3)
    assert runtime.annotated == runtime.overflow


def test_an_unreadable_annotation_is_none_and_told_once() -> None:
    made, _ = runtimes()
    pool = fakes.pool(annotations={OVERFLOW_ANNOTATION: '{"version": "x"}'})
    with capture_logs() as logs:
        runtime = made.of(pool, NOW)
        for _ in range(5):
            runtime.read_annotation(pool)
    assert runtime.overflow is None
    (line,) = logs
    assert (line["pool"], line["log_level"]) == ("serving/pool", "warning")
    assert "must be an object" in line["error"]


def test_the_same_pool_keeps_its_memory_and_another_of_its_name_gets_its_own() -> None:
    made, _ = runtimes()
    first = made.of(fakes.pool(), NOW)
    assert made.of(fakes.pool(generation=2), NOW) is first
    second = made.of(fakes.pool(uid="made-anew"), NOW)
    assert second is not first
    assert (first.gone, second.gone) == (True, False)


def test_pools_that_are_gone_are_forgotten_and_the_others_are_not() -> None:
    made, forgotten = runtimes()
    gone, kept = made.of(fakes.pool("gone"), NOW), made.of(fakes.pool("kept"), NOW)
    made.retain([fakes.pool("kept")])
    assert made.all() == [kept]
    assert gone.gone
    assert forgotten == [(fakes.NAMESPACE, "gone")]


@pytest.mark.parametrize(
    ("burst", "readable", "left"),
    [
        (None, True, False),
        (fakes.burst_spec(), True, True),
        (fakes.burst_spec(budget={"perDay": "10"}), True, True),
        (fakes.burst_spec(budget={"perDay": "0"}), True, False),
        (fakes.burst_spec(), False, False),
    ],
)
def test_whether_budget_is_left(burst: Any, readable: bool, left: bool) -> None:  # noqa: FBT001
    made, _ = runtimes()
    pool = fakes.pool(burst=burst)
    runtime = made.of(pool, NOW)
    runtime.ledger_readable = readable
    assert runtime.budget_left(pool.spec, NOW) is left
