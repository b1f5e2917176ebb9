"""Standard Kubernetes conditions: what is wanted now, merged with what stands in the status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from spillway.api.reasons import ConditionType
from spillway.api.status import MESSAGE_LIMIT, Condition
from spillway.api.timestamps import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.api.reasons import Reason

_ORDER: Final = {condition_type: place for place, condition_type in enumerate(ConditionType)}


@dataclass(frozen=True, slots=True)
class WantedCondition:
    """A condition as it should stand now.

    Attributes:
        type: Which condition.
        status: True, False, or None where it is not known.
        reason: Why.
        message: Details for a person.
    """

    type: ConditionType
    status: bool | None
    reason: Reason
    message: str = ""


def _status_text(status: bool | None) -> Literal["True", "False", "Unknown"]:  # noqa: FBT001
    if status is None:
        return "Unknown"
    return "True" if status else "False"


def merge_conditions(
    previous: Sequence[Condition],
    wanted: Sequence[WantedCondition],
    generation: int,
    now: float,
) -> list[Condition]:
    """The conditions to write: ``wanted``, in the order of `ConditionType`.

    A condition keeps its transition time as long as its status stays, whatever its reason and
    message become. One that is not wanted any more goes; of two of one type the later counts.

    Args:
        previous: What stands in the status.
        wanted: What should.
        generation: Generation of the spec that ``wanted`` speaks of.
        now: Seconds since the Unix epoch; the transition time of what changes.
    """
    stood = {condition.type: condition for condition in previous}
    latest = {want.type: want for want in wanted}
    merged = []
    for want in sorted(latest.values(), key=lambda want: _ORDER[want.type]):
        before = stood.get(want.type)
        status = _status_text(want.status)
        unchanged = before is not None and before.status == status
        merged.append(
            Condition(
                type=want.type.value,
                status=status,
                reason=want.reason.value,
                message=want.message[:MESSAGE_LIMIT],
                last_transition_time=(
                    before.last_transition_time if before and unchanged else format_time(now)
                ),
                observed_generation=generation,
            )
        )
    return merged
