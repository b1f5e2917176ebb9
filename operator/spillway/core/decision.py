"""The value that a step decides: what, why, what it costs, what the alternatives would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.api.reasons import Reason
    from spillway.core.capacity import Capacity
    from spillway.core.demand import DemandEstimate
    from spillway.core.economics import Economics
    from spillway.core.forecast import Forecast


@dataclass(frozen=True, slots=True)
class ReasonNote:
    """One reason, for machines and for a person.

    Attributes:
        reason: CamelCase constant.
        message: A sentence without its full stop. A limit's message carries no figure that moves
            from tick to tick: it becomes a condition, and each change of that is a write.
    """

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas of a pool should serve.

    Attributes:
        at: When it was decided.
        id: Short identifier that logs, events and status carry.
        previous: Serving replicas asked for before.
        desired: Serving replicas asked for; warm ones come on top.
        by_variant: ``desired`` by variant; sums up to it.
        proposed: What the policy wanted before the limits.
        wanted: What the pool would be asked for if every GPU were there for the taking.
        notes: The policy's reason first, then each limit that had a say, in order.
        hold: Nothing may be reduced: no replica drained, demoted or removed.
        write: Whether anything may be written to the cluster.
        warm: Warm replicas wanted.
        demand: Load now; None if unknown.
        forecast: Load ahead; None if unknown.
        peak_share: By how much load scatters within a minute as far as replicas feel it: a standard
            deviation, over the load.
        capacity: By variant.
        mu: Requests per second of one more replica behind the pool's one Service.
        economics: Prices and cost rates.
        burst_usable: The policy may count on burst: it is enabled, priced and within budget.
        lead_seconds: Time from a pod's creation to Ready, 95th percentile.
        shortage: Some pods find no node.
        hung: Requests get nowhere while GPUs idle.
        changed: The pool is asked for something else than before.
    """

    at: float
    id: str
    previous: int
    desired: int
    by_variant: dict[str, int]
    proposed: int
    wanted: int
    notes: tuple[ReasonNote, ...]
    hold: bool
    write: bool
    warm: int
    demand: DemandEstimate | None
    forecast: Forecast | None
    capacity: dict[str, Capacity]
    mu: float
    economics: Economics
    burst_usable: bool
    lead_seconds: float
    shortage: bool
    hung: bool
    changed: bool
    peak_share: float = 0.0

    def __str__(self) -> str:
        """One sentence for a person."""
        policy, *limits = self.notes
        verb = "stay at" if self.desired == self.previous else f"go from {self.previous} to"
        text = f"Replicas {verb} {self.desired} ({policy.reason}): {policy.message}"
        if limits:
            because = "; ".join(f"{note.message} ({note.reason})" for note in limits)
            text += f"; the policy asked for {self.proposed}, but {because}"
        return f"{text}; {self._cost()}."

    def _cost(self) -> str:
        costs = self.economics
        if costs.gpu_per_hour is None:
            return "what it costs is not known, for want of a GPU price"
        api = costs.api_per_hour or 0.0
        text = f"now ${costs.gpu_per_hour:.2f}/h for GPUs and ${api:.2f}/h for the API"
        alternatives = [
            f"all on GPUs ${costs.all_gpu_per_hour:.2f}/h" if costs.all_gpu_per_hour else "",
            f"all at the API ${costs.all_api_per_hour:.2f}/h" if costs.all_api_per_hour else "",
        ]
        known = ", ".join(filter(None, alternatives))
        return f"{text} (the same load {known})" if known else text
