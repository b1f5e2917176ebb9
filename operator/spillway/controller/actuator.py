"""Carries out a plan: one write a pod and a target, each on the state that it was decided on.

A conflict means that the world moved on; the next step decides again. So nothing here retries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from spillway.adapters.kube.errors import (
    ApiError,
    Conflict,
    NotFound,
    TargetUnsupported,
    Unavailable,
)
from spillway.adapters.kube.pods import PodChange, PodWriter
from spillway.adapters.kube.scale import ScaleTarget, ScaleWriter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from spillway.adapters.kube.records import PodRecord
    from spillway.adapters.telemetry import Telemetry
    from spillway.controller.teller import Teller
    from spillway.controller.watches import Watches
    from spillway.core.actions import Plan, RoleChange, ScaleTo
    from spillway.core.facts import PodFacts, PoolFacts

log = structlog.get_logger(__name__)

#: Problems told in a status; the rest are counted.
_TOLD: Final = 3


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What came of a write.

    Attributes:
        done: It was written (or was there already).
        problem: What went wrong, for a person; "" where it has only to be decided anew.
        unanswered: The API server did not answer.
    """

    done: bool
    problem: str = ""
    unanswered: bool = False


@dataclass(frozen=True, slots=True)
class _Marks:
    """What is to be written on one pod.

    Attributes:
        pod: The pod as it was when this was decided.
        change: Its new marks.
        role: The change of its role; None where only other marks change.
    """

    pod: PodFacts
    change: PodChange
    role: RoleChange | None


class Actuator:
    """Writes what a plan asks for.

    Args:
        pods: Writes pods' marks.
        scale: Writes replicas.
        teller: Tells people.
        watches: Where the pods' records are.
        telemetry: Counts writes.
        may_write: Asked before each write: whether this process leads, at this very moment.
    """

    def __init__(
        self,
        *,
        pods: PodWriter,
        scale: ScaleWriter,
        teller: Teller,
        watches: Watches,
        telemetry: Telemetry,
        may_write: Callable[[], bool],
    ) -> None:
        self._pods = pods
        self._scale = scale
        self._teller = teller
        self._watches = watches
        self._telemetry = telemetry
        self._may_write = may_write

    async def carry_out(self, facts: PoolFacts, plan: Plan, decision_id: str) -> str:
        """Do what the plan says.

        Returns:
            What could not be done, for a person; "" when all was done or has only to be decided
            anew.
        """
        writes = [
            *(partial(self._write_marks, facts, marks, decision_id) for marks in _marks(plan)),
            *(partial(self._scale_to, facts, scale, decision_id) for scale in plan.scales),
        ]
        problems: list[str] = []
        for write in writes:
            attempt = await write()
            if attempt.problem:
                problems.append(attempt.problem)
            if attempt.unanswered:
                # The rest would wait as long; it is decided anew.
                break
        more = len(problems) - _TOLD
        return "; ".join(problems[:_TOLD]) + (f"; and {more} more" if more > 0 else "")

    async def _write_marks(self, facts: PoolFacts, marks: _Marks, decision_id: str) -> _Attempt:
        pod = marks.pod
        record = self._watches.pods.get((facts.namespace, pod.name))
        if record is None or record.uid != pod.uid:
            return _Attempt(done=False)
        if record.resource_version != pod.resource_version and not _harmless(record, pod):
            return _Attempt(done=False)
        attempt = await self._attempt(
            "pod",
            lambda: self._pods.write(record, marks.change),
            f"pod {facts.namespace}/{pod.name}",
        )
        role = marks.role
        if attempt.done and role is not None and role.role is not pod.role:
            log.info(
                "role",
                pool=facts.key,
                pod=pod.name,
                before=pod.role.value,
                role=role.role.value,
                reason=role.reason.value,
                decision=decision_id,
            )
            note = f"{pod.name}: {pod.role.value} to {role.role.value}"
            self._teller.tell(facts, role.reason, note)
        return attempt

    async def _scale_to(self, facts: PoolFacts, scale: ScaleTo, decision_id: str) -> _Attempt:
        ref = next(v.target_ref for v in facts.spec.variants if v.name == scale.variant)
        target = ScaleTarget(facts.namespace, ref.api_version, ref.kind, ref.name)
        before = facts.targets[scale.variant].spec_replicas
        attempt = await self._attempt(
            "scale",
            lambda: self._scale.write(target, scale.replicas, scale.resource_version),
            str(target),
        )
        if attempt.done and before != scale.replicas:
            log.info(
                "scaled",
                pool=facts.key,
                target=str(target),
                before=before,
                replicas=scale.replicas,
                reason=scale.reason.value,
                decision=decision_id,
            )
            self._teller.tell(
                facts, scale.reason, f"{target}: {before} to {scale.replicas} replicas"
            )
        return attempt

    async def _attempt(
        self, kind: str, write: Callable[[], Awaitable[object]], what: str
    ) -> _Attempt:
        """One write if this process still leads."""
        if not self._may_write():
            return _Attempt(done=False)
        try:
            await write()
        except (Conflict, NotFound) as error:
            self._telemetry.writes.labels(kind, "conflict").inc()
            log.debug("decided on an older state", what=what, error=str(error))
            return _Attempt(done=False)
        except (ApiError, TargetUnsupported) as error:
            self._telemetry.writes.labels(kind, "failed").inc()
            log.warning("write failed", what=what, error=str(error))
            return _Attempt(
                done=False, problem=str(error), unanswered=isinstance(error, Unavailable)
            )
        self._telemetry.writes.labels(kind, "ok").inc()
        return _Attempt(done=True)


def _marks(plan: Plan) -> list[_Marks]:
    """What is to be written on each pod, in one patch; changed roles first, in the plan's order."""
    changes: dict[str, PodChange] = {}
    pods: dict[str, PodFacts] = {}

    def add(pod: PodFacts, **marks: Any) -> None:
        pods[pod.uid] = pod
        changes[pod.uid] = replace(changes.get(pod.uid, PodChange()), **marks)

    for role in plan.roles:
        add(role.pod, role=role.role, drain_deadline=role.drain_deadline)
    for cost in plan.costs:
        add(cost.pod, deletion_cost=cost.cost or 0)
    for protection in plan.protections:
        add(protection.pod, do_not_disrupt=protection.on)
    roles = {role.pod.uid: role for role in plan.roles}
    return [_Marks(pod, changes[uid], roles.get(uid)) for uid, pod in pods.items()]


def _harmless(record: PodRecord, pod: PodFacts) -> bool:
    """Whether the pod changed only in what the plan did not look at (its status, say)."""
    return record.role is pod.role and record.phase is pod.phase
