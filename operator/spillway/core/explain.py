"""Why a pool is where it is, in some ten lines, from its spec and status alone.

Nothing here decides: each line says what the operator wrote into the status. So it works on a
cluster, on a saved ``kubectl get -o yaml``, and on a pool whose operator is down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.api.inferencepool import Policy
from spillway.api.quantities import format_duration
from spillway.api.reasons import ConditionType
from spillway.api.timestamps import parse_time
from spillway.core.periods import local_time
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spillway.api.inferencepool import (
        Condition,
        InferencePoolSpec,
        InferencePoolStatus,
        SizingStatus,
    )

#: Conditions whose False, or whose True, is worth a line.
_BAD_WHEN: Final = {
    ConditionType.READY: "False",
    ConditionType.METRICS_AVAILABLE: "False",
    ConditionType.WARM_POOL_READY: "False",
    ConditionType.BUDGET_AVAILABLE: "False",
    ConditionType.PRICE_KNOWN: "False",
    ConditionType.RUNAWAY_SUSPECTED: "True",
    ConditionType.TARGET_CONTESTED: "True",
    ConditionType.PAUSED: "True",
}
#: A condition that is off because nobody asked for it.
_NOT_ASKED_FOR: Final = frozenset({"WarmDisabled", "BurstDisabled"})


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that explains the pool.

    Attributes:
        topic: What it speaks of, one or two words.
        text: For a person.
        trouble: Whether it asks for somebody's attention.
    """

    topic: str
    text: str
    trouble: bool = False


def explain(spec: InferencePoolSpec, status: InferencePoolStatus | None) -> tuple[Line, ...]:
    """The pool in lines, the most telling first.

    Args:
        spec: What was asked for.
        status: What the operator last said; None before it said anything.
    """
    if status is None:
        text = "the operator has said nothing yet: see that it runs and watches this namespace"
        return (Line("status", text, trouble=True),)
    lines = [
        _replicas(spec, status),
        _load(status),
        _expected(status),
        _capacity(status),
        _policy(spec, status),
        _comparison(status),
        _limit(status),
        _overflow(spec, status),
        _cost(status),
        _levers(status),
        _budget(spec, status),
        _change(spec, status),
        *_trouble(status),
    ]
    return tuple(line for line in lines if line is not None)


def _replicas(spec: InferencePoolSpec, status: InferencePoolStatus) -> Line:
    now = status.replicas
    others = [
        f"{count} {name}"
        for name, count in (
            ("warm", now.warm),
            ("starting", now.starting),
            ("draining", now.draining),
        )
        if count
    ]
    text = ", ".join([f"{now.serving} serve", *others, f"{now.desired} asked for"])
    return Line("replicas", f"{text} (floor {spec.replicas.floor}, max {spec.replicas.max})")


def _load(status: InferencePoolStatus) -> Line | None:
    demand = status.demand
    if demand is None:
        return Line("load", "not known, so the number of replicas stays", trouble=True)
    least = "at least " if demand.lower_bound else ""
    source = f"by the {demand.source.lower()}'s count" if demand.source else "source not known"
    text = f"{least}{demand.requests_per_second:g} req/s arrive ({source}), {demand.queue:g} wait"
    return Line("load", text)


def _expected(status: InferencePoolStatus) -> Line | None:
    ahead = status.forecast
    if ahead is None:
        return None
    when = format_duration(round(ahead.horizon_seconds))
    text = f"{ahead.mean:g} req/s in {when}, with 90 % from {ahead.low:g} to {ahead.high:g}"
    return Line("expected", text)


def _capacity(status: InferencePoolStatus) -> Line | None:
    each = status.capacity
    if each is None:
        return None
    if each.requests_per_second <= 0:
        return Line("capacity", "no batch size meets the latency targets", trouble=True)
    error = "" if each.relative_error is None else f", give or take {each.relative_error:.0%}"
    text = (
        f"a replica serves {each.requests_per_second:g} req/s within the targets, "
        f"{each.concurrency:g} at a time ({each.source}{error})"
    )
    return Line("capacity", text)


def _policy(spec: InferencePoolSpec, status: InferencePoolStatus) -> Line | None:
    sizing = status.sizing
    if sizing is None:
        return None
    text = f"{spec.policy} asks for {sizing.proposed} to serve ({sizing.reason})"
    return Line("policy", text)


def _comparison(status: InferencePoolStatus) -> Line | None:
    sizing = status.sizing
    if sizing is None or sizing.gpu_per_replica_hour is None:
        return None
    gpu, api = sizing.gpu_per_replica_hour, sizing.api_per_replica_hour
    if api is None:
        text = f"a replica costs ${gpu:.2f}/h; no API price to compare it with"
        return _priced(status, text)
    text = f"a replica costs ${gpu:.2f}/h, its work at {sizing.provider} ${api:.2f}/h"
    if api <= gpu:
        text = f"{text}: beyond the floor the API is cheaper, even than a full one"
        return _priced(status, text)
    return _priced(status, f"{text}: it pays when used above {gpu / api:.0%}")


def _priced(status: InferencePoolStatus, text: str) -> Line:
    """The comparison, and which of its prices only hold for want of one that can be believed."""
    held = [f"{price.name} since {price.held_since}" for price in status.prices if price.held_since]
    text += f"; held for want of a better price: {', '.join(held)}" if held else ""
    return Line("prices", text, trouble=bool(held))


def _limit(status: InferencePoolStatus) -> Line | None:
    limited = _condition(status, ConditionType.SCALING_LIMITED)
    if limited is None or limited.status != "True":
        return None
    return Line("limit", f"{limited.message} ({limited.reason})")


def _overflow(spec: InferencePoolSpec, status: InferencePoolStatus) -> Line | None:
    if spec.burst is None:
        return None
    value = status.overflow
    if value.fraction <= 0:
        return Line("overflow", f"nothing leaves ({value.reason or 'no value yet'})")
    text = f"{value.percent} of arrivals leave ({value.reason})"
    return Line("overflow", f"{text}, until {value.until}" if value.until else text)


def _levers(status: InferencePoolStatus) -> Line | None:
    seen = status.levers
    if seen is None:
        return None
    parts = []
    if seen.cache_hits_per_second > 0:
        worth = "" if seen.saved_per_hour is None else f", worth ${seen.saved_per_hour:.2f}/h"
        parts.append(
            f"its cache answers {seen.cache_hit_share:.0%} of all requests "
            f"({seen.cache_hits_per_second:g} req/s{worth}), none of which is load"
        )
    if seen.routed_share > 0:
        parts.append(f"routing by complexity sends {seen.routed_share:.0%} of what arrives")
    return Line("gateway", "; ".join(parts)) if parts else None


def _cost(status: InferencePoolStatus) -> Line | None:
    cost = status.cost
    if cost is None:
        return None
    text = f"${cost.gpu_per_hour:.2f}/h for GPUs and ${cost.api_per_hour:.2f}/h for the API"
    others = [
        f"{name} ${usd:.2f}/h"
        for name, usd in (
            ("all on GPUs", cost.all_gpu_per_hour),
            ("all at the API", cost.all_api_per_hour),
        )
        if usd is not None
    ]
    return Line("cost", f"{text}; {', '.join(others)}" if others else text)


def _budget(spec: InferencePoolSpec, status: InferencePoolStatus) -> Line | None:
    if spec.burst is None or status.budget is None:
        return None
    bounds, spent = spec.burst.budget, status.budget
    parts = [
        f"${used:.2f} of ${bound} this {name}"
        for name, used, bound in (
            ("hour", spent.spent_hour, bounds.per_hour),
            ("day", spent.spent_day, bounds.per_day),
            ("month", spent.spent_month, bounds.per_month),
        )
        if bound is not None
    ]
    if not parts:
        return Line("budget", f"${spent.spent_day:.2f} today; no period is bounded")
    text = ", ".join(parts)
    if spent.lasts_until:
        when = _when(spent.lasts_until, bounds.time_zone)
        return Line("budget", f"{text}; at this rate, out by {when}", trouble=True)
    return Line("budget", text)


def _when(moment: str, time_zone: str) -> str:
    """A time of the status on the budget's clock; as it stands where it can't be read."""
    try:
        return local_time(parse_time(moment), time_zone)
    except ValueError:
        return moment


def _change(spec: InferencePoolSpec, status: InferencePoolStatus) -> Line | None:
    sizing = status.sizing
    if sizing is None:
        return None
    if spec.policy is Policy.UTILIZATION:
        figures = spec.utilization
        text = (
            f"doubles above {figures.scale_up_percent} % for "
            f"{format_duration(figures.scale_up_after)}, one less below "
            f"{figures.scale_down_percent} % for {format_duration(figures.scale_down_after)}"
        )
        return Line("would change", text)
    parts = list(_turning_points(sizing))
    return Line("would change", "; ".join(parts)) if parts else None


def _turning_points(sizing: SizingStatus) -> Iterator[str]:
    for change, side, load, price in (
        ("one more", "above", sizing.add_above, sizing.api_add_above),
        ("one less", "below", sizing.remove_below, sizing.api_remove_below),
    ):
        points = []
        if load is not None:
            points.append(f"{side} {load:g} req/s expected")
        if price is not None:
            points.append(f"with the API {side} ${price:.2f}/h")
        if points:
            yield f"{change} {' or '.join(points)}"


def _trouble(status: InferencePoolStatus) -> Iterator[Line]:
    for condition in status.conditions:
        bad = _BAD_WHEN.get(ConditionType(condition.type)) if _known(condition.type) else None
        if condition.status != bad or condition.reason in _NOT_ASKED_FOR:
            continue
        text = f"{condition.reason}: {condition.message}" if condition.message else condition.reason
        yield Line(condition.type, text, trouble=True)


def _known(name: str) -> bool:
    return name in ConditionType.__members__.values()


def _condition(status: InferencePoolStatus, kind: ConditionType) -> Condition | None:
    return next((c for c in status.conditions if c.type == kind), None)
