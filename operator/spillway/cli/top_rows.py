"""What ``spillway top`` shows of a pool, from its spec and status alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from spillway.api.inferencepool import InferencePoolStatus
from spillway.api.reasons import ConditionType
from spillway.api.validation import InvalidPoolError, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spillway.api.inferencepool import BudgetStatus, CostStatus, InferencePoolSpec


@dataclass(frozen=True, slots=True)
class Row:
    """One pool.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        requests_per_second: Arrivals; None while unknown.
        capacity: What the serving replicas take in time, requests a second; None while unknown.
        queue: Requests that wait; None while unknown.
        serving: Replicas that serve.
        desired: Replicas that should.
        warm: Idle ones.
        starting: Ones on their way.
        draining: Ones on their way out.
        overflow: Share of the arrivals that leaves, 0 to 1.
        usd_per_hour: GPUs and API; None while unknown.
        saved_per_hour: Against the cheaper of all on GPUs and all at the API; None while unknown.
        budget_spent: Share of the tightest period's budget, 0 to 1; None without a budget.
        limit: The limit that had the last word; "" for none.
        ready: True, False, or None while nothing was said.
        trouble: Why it is not Ready, or can't be read.
    """

    namespace: str
    name: str
    requests_per_second: float | None = None
    capacity: float | None = None
    queue: float | None = None
    serving: int = 0
    desired: int = 0
    warm: int = 0
    starting: int = 0
    draining: int = 0
    overflow: float = 0.0
    usd_per_hour: float | None = None
    saved_per_hour: float | None = None
    budget_spent: float | None = None
    limit: str = ""
    ready: bool | None = None
    trouble: str = ""

    @property
    def utilization(self) -> float | None:
        """Arrivals as a share of capacity; None while either is unknown."""
        if self.requests_per_second is None or not self.capacity:
            return None
        return self.requests_per_second / self.capacity


#: What rows may be sorted by: the most first, what is not known last.
SORTS: Final[dict[str, Callable[[Row], float | None]]] = {
    "cost": lambda row: row.usd_per_hour,
    "load": lambda row: row.requests_per_second,
    "utilization": lambda row: row.utilization,
    "overflow": lambda row: row.overflow,
}


def row_of(raw: Mapping[str, Any]) -> Row:
    """The row of a stored pool; one that can't be read still has a row, which says so."""
    meta = raw.get("metadata") or {}
    namespace, name = str(meta.get("namespace", "")), str(meta.get("name", ""))
    try:
        spec = parse(raw).spec
        if not raw.get("status"):
            return Row(namespace, name, trouble="no status yet")
        status = InferencePoolStatus.model_validate(raw["status"])
    except InvalidPoolError as error:
        return Row(namespace, name, ready=False, trouble=f"invalid: {error.problems[0]}")
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        return Row(namespace, name, trouble=f"status.{where} can't be read")
    return _row(namespace, name, spec, status)


def _row(namespace: str, name: str, spec: InferencePoolSpec, status: InferencePoolStatus) -> Row:
    conditions = {condition.type: condition for condition in status.conditions}
    ready = conditions.get(ConditionType.READY)
    limited = conditions.get(ConditionType.SCALING_LIMITED)
    replicas, demand, each = status.replicas, status.demand, status.capacity
    return Row(
        namespace,
        name,
        requests_per_second=None if demand is None else demand.requests_per_second,
        capacity=None if each is None else each.requests_per_second * replicas.serving,
        queue=None if demand is None else demand.queue,
        serving=replicas.serving,
        desired=replicas.desired,
        warm=replicas.warm,
        starting=replicas.starting,
        draining=replicas.draining,
        overflow=status.overflow.fraction,
        usd_per_hour=None if status.cost is None else _total(status.cost),
        saved_per_hour=None if status.cost is None else _saved(status.cost),
        budget_spent=_spent(spec, status.budget),
        limit=limited.reason if limited is not None and limited.status == "True" else "",
        ready=None if ready is None else ready.status == "True",
        trouble="" if ready is None or ready.status == "True" else ready.reason,
    )


def _total(cost: CostStatus) -> float:
    return cost.gpu_per_hour + cost.api_per_hour


def _saved(cost: CostStatus) -> float | None:
    others = [usd for usd in (cost.all_gpu_per_hour, cost.all_api_per_hour) if usd is not None]
    return min(others) - _total(cost) if others else None


def _spent(spec: InferencePoolSpec, spent: BudgetStatus | None) -> float | None:
    if spec.burst is None or spent is None:
        return None
    bounds = spec.burst.budget
    shares = [
        used / float(bound) if bound else 1.0
        for used, bound in (
            (spent.spent_hour, bounds.per_hour),
            (spent.spent_day, bounds.per_day),
            (spent.spent_month, bounds.per_month),
        )
        if bound is not None
    ]
    return max(shares, default=None)


def in_order(rows: list[Row], by: str | None) -> list[Row]:
    """Rows by a key of `SORTS`, the most first; without one by namespace and name."""
    rows = sorted(rows, key=lambda row: (row.namespace, row.name))
    if by is None:
        return rows
    key = SORTS[by]

    def rank(row: Row) -> float:
        value = key(row)
        return float("inf") if value is None else -value

    return sorted(rows, key=rank)
