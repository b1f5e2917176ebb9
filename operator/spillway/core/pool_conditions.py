"""The conditions of a pool: which there are, whether each holds, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.api.conditions import WantedCondition
from spillway.api.inferencepool import GuardMode, Mode
from spillway.api.reasons import ConditionType, Reason
from spillway.core.periods import local_time
from spillway.core.reporting import expects_gateway, gateway_lost

if TYPE_CHECKING:
    from spillway.core.facts import PoolFacts, RouteFacts, TargetFacts
    from spillway.core.reported import Report

#: Reasons that explain why a warm pool can't exist, whatever its size.
_NO_WARM_POOL: Final = frozenset(
    {
        Reason.ROLE_IN_SELECTOR,
        Reason.SERVICE_IGNORES_ROLE,
        Reason.NO_SERVICE,
        Reason.UNSUPPORTED_TARGET,
    }
)


def conditions(facts: PoolFacts, report: Report, now: float) -> list[WantedCondition]:
    """Every condition that this pool should show, each with its reason and a message."""
    wanted = [
        _ready(facts, report),
        _metrics(facts, report),
        _limited(report),
        _latency(facts, report),
        _overflow(facts, report, now),
        _warm(report),
        _price(report),
        _contested(facts),
        _paused(facts, report),
        _runaway(facts, report),
    ]
    if facts.spec.burst is not None:
        wanted.append(_budget(facts, report, now))
    if facts.route is not None:
        wanted.append(_route(facts.route))
    if expects_gateway(facts):
        wanted += _gateway(facts, now)
    return wanted


def _true(kind: ConditionType, reason: Reason, message: str = "") -> WantedCondition:
    return WantedCondition(kind, status=True, reason=reason, message=message)


def _false(kind: ConditionType, reason: Reason, message: str = "") -> WantedCondition:
    return WantedCondition(kind, status=False, reason=reason, message=message)


def _ready(facts: PoolFacts, report: Report) -> WantedCondition:
    floor = facts.spec.replicas.floor
    serving = report.outcome.plan.counts.serving
    gone = [name for name, target in facts.targets.items() if not target.exists]
    message = f"{serving} of at least {floor} replicas serve"
    if gone:
        refs = {v.name: v.target_ref for v in facts.spec.variants}
        where = ", ".join(f"{refs[name].kind} {facts.namespace}/{refs[name].name}" for name in gone)
        return _false(ConditionType.READY, Reason.TARGET_NOT_FOUND, f"{where} does not exist")
    if report.problem:
        return _false(ConditionType.READY, Reason.WRITE_FAILED, report.problem)
    unprobed = [name for name, target in facts.targets.items() if _lacks_probe(target)]
    if unprobed:
        message = (
            f"pods of variant {', '.join(unprobed)} have no readinessProbe, so they count as Ready "
            "before the model is loaded; give the engine's container one on its /health"
        )
        return _false(ConditionType.READY, Reason.NO_READINESS_PROBE, message)
    if serving >= floor:
        return _true(ConditionType.READY, Reason.RECONCILED, message)
    reason = Reason.GPU_SHORTAGE if report.outcome.decision.shortage else Reason.STARTING
    return _false(ConditionType.READY, reason, message)


def _lacks_probe(target: TargetFacts) -> bool:
    """Whether the newest pod, after which a rollout makes the others, has no readiness probe."""
    newest = max(target.pods, key=lambda pod: pod.created_at, default=None)
    return newest is not None and not newest.has_readiness_probe


def _metrics(facts: PoolFacts, report: Report) -> WantedCondition:
    if facts.missing:
        first, *rest = facts.missing
        more = f" (and {len(rest)} more)" if rest else ""
        return _false(
            ConditionType.METRICS_AVAILABLE,
            Reason.METRICS_MISSING,
            f"{first.query}: {first.seen}{more}",
        )
    if report.outcome.decision.hung:
        return _true(
            ConditionType.METRICS_AVAILABLE,
            Reason.HUNG_ENGINE,
            "requests get nowhere while the GPUs idle: an engine may hang",
        )
    return _true(ConditionType.METRICS_AVAILABLE, Reason.METRICS_PRESENT)


def _latency(facts: PoolFacts, report: Report) -> WantedCondition:
    """Whether the latency promise can be kept at all, by as many replicas as may be."""
    kind = ConditionType.LATENCY_ATTAINABLE
    targets = facts.spec.latency
    capacities = report.outcome.decision.capacity
    slow = [name for name, each in capacities.items() if each.unreachable]
    if slow:
        message = (
            f"no batch meets ttft {targets.ttft:g}s and tpot {targets.tpot:g}s on {', '.join(slow)}"
        )
        return _false(kind, Reason.TARGET_UNREACHABLE, message)
    long = [
        name
        for name, each in capacities.items()
        if each.unattainable_share > 1 - targets.attainment
    ]
    if long:
        message = (
            f"more than {1 - targets.attainment:.0%} of the prompts are too long to be computed "
            f"within ttft {targets.ttft:g}s, even on an idle replica of {', '.join(long)}; see "
            "status.capacity.longestPromptTokens"
        )
        return _false(kind, Reason.PROMPTS_UNATTAINABLE, message)
    return _true(kind, Reason.LATENCY_ATTAINABLE)


def _limited(report: Report) -> WantedCondition:
    limits = report.outcome.decision.notes[1:]
    if not limits:
        return _false(ConditionType.SCALING_LIMITED, Reason.STEADY)
    last = limits[-1]
    return _true(ConditionType.SCALING_LIMITED, last.reason, last.message)


def _overflow(facts: PoolFacts, report: Report, now: float) -> WantedCondition:
    value = report.overflow
    if value is None and facts.spec.burst is None:
        return _false(ConditionType.OVERFLOW_ACTIVE, Reason.BURST_DISABLED)
    if value is None or value.lapsed(now):
        message = "the operator has no value in force, so everything stays local"
        return _false(ConditionType.OVERFLOW_ACTIVE, Reason.NO_OVERFLOW_VALUE, message)
    # No figure in the message: it would be a write at every tick.
    if value.fraction > 0:
        return _true(ConditionType.OVERFLOW_ACTIVE, value.reason)
    return _false(ConditionType.OVERFLOW_ACTIVE, value.reason)


def _warm(report: Report) -> WantedCondition:
    size = report.outcome.decision.warm
    for note in report.outcome.plan.notes:
        if note.reason in _NO_WARM_POOL:
            return _false(ConditionType.WARM_POOL_READY, note.reason, note.message)
    if size == 0:
        return _false(ConditionType.WARM_POOL_READY, Reason.WARM_DISABLED)
    warm = report.outcome.plan.counts.warm
    message = f"{warm} of {size} replicas are warm"
    if warm >= size:
        return _true(ConditionType.WARM_POOL_READY, Reason.WARM, message)
    return _false(ConditionType.WARM_POOL_READY, Reason.WARM_BACKFILL, message)


def _price(report: Report) -> WantedCondition:
    prices = report.outcome.state.deciding.prices
    text = "; ".join(f"{n.subject}: {n.message}" for n in prices.notes if n.message)
    if prices.unknown:
        message = f"no price for {', '.join(prices.unknown)}: burst is off until there is one"
        message += f" ({text})" if text else ""
        return _false(ConditionType.PRICE_KNOWN, Reason.PRICE_UNKNOWN, message)
    if prices.notes:
        return _true(ConditionType.PRICE_KNOWN, prices.notes[0].reason, text)
    return _true(ConditionType.PRICE_KNOWN, Reason.PRICES_KNOWN)


def _contested(facts: PoolFacts) -> WantedCondition:
    for variant, target in facts.targets.items():
        if target.contention is not None:
            other = target.contention
            message = (
                f"{other.kind} {other.name} also scales the target of variant {variant}; Spillway "
                "holds until one of the two is removed"
            )
            return _true(ConditionType.TARGET_CONTESTED, Reason.TARGET_CONTESTED, message)
    return _false(ConditionType.TARGET_CONTESTED, Reason.RECONCILED)


def _paused(facts: PoolFacts, report: Report) -> WantedCondition:
    if report.read_only:
        return _true(ConditionType.PAUSED, Reason.READ_ONLY)
    reasons = {Mode.PAUSED: Reason.PAUSED, Mode.ADVISE: Reason.ADVISE}
    reason = reasons.get(facts.spec.mode)
    if reason is None:
        return _false(ConditionType.PAUSED, Reason.RECONCILED)
    return _true(ConditionType.PAUSED, reason)


def _runaway(facts: PoolFacts, report: Report) -> WantedCondition:
    if facts.spec.guard.mode is GuardMode.OFF:
        return _false(ConditionType.RUNAWAY_SUSPECTED, Reason.GUARD_OFF)
    suspicion = report.outcome.state.deciding.guard.suspicion
    if suspicion is None:
        return _false(ConditionType.RUNAWAY_SUSPECTED, Reason.USUAL_LOAD)
    return _true(ConditionType.RUNAWAY_SUSPECTED, Reason.RUNAWAY, suspicion.evidence)


def _route(route: RouteFacts) -> WantedCondition:
    if route.problem is None:
        return _true(ConditionType.ROUTE_READY, Reason.ROUTE_PROGRAMMED)
    return _false(ConditionType.ROUTE_READY, route.problem, route.message)


def _gateway(facts: PoolFacts, now: float) -> list[WantedCondition]:
    """Nothing is said while it may still come: Prometheus needs two scrapes for a rate."""
    if facts.gateway_missing_since is None:
        return [_true(ConditionType.GATEWAY_REPORTING, Reason.GATEWAY_REPORTS)]
    if not gateway_lost(facts, now):
        return []
    message = (
        f'no fresh spillway_gateway_requests_total{{namespace="{facts.namespace}",'
        f'pool="{facts.name}"}}; replicas carry the load'
    )
    return [_false(ConditionType.GATEWAY_REPORTING, Reason.GATEWAY_NOT_SEEN, message)]


def _budget(facts: PoolFacts, report: Report, now: float) -> WantedCondition:
    if report.ledger is None:
        message = (
            "the pool's entry in the ledger (ConfigMaps with the label spillway.dev/ledger, in the "
            "operator's namespace) can't be read: remove it, and the periods begin anew"
        )
        return _false(ConditionType.BUDGET_AVAILABLE, Reason.LEDGER_UNREADABLE, message)
    if report.ungranted:
        message = "the ledger can't be read or stored; the operator's log names the call"
        return _false(ConditionType.BUDGET_AVAILABLE, Reason.LEDGER_NOT_STORED, message)
    if report.overflow is not None and report.overflow.reason is Reason.BUDGET_EXHAUSTED:
        return _false(ConditionType.BUDGET_AVAILABLE, Reason.BUDGET_EXHAUSTED)
    out_at = report.budget_ends_at(facts, now)
    if out_at is not None and facts.spec.burst is not None:
        when = local_time(out_at, facts.spec.burst.budget.time_zone)
        message = f"at this rate, out by {when}"
        return _true(ConditionType.BUDGET_AVAILABLE, Reason.BUDGET_RUNNING_OUT, message)
    return _true(ConditionType.BUDGET_AVAILABLE, Reason.BUDGET_LEFT)
