"""Reads the rows of an instant vector: what is a number in range is kept, the rest is named."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from spillway.adapters.metrics.transport import AnswerError

if TYPE_CHECKING:
    from spillway.adapters.metrics.queries import Query

Labels: TypeAlias = dict[str, str]
#: Namespace and name, of a pod or of a pool.
Key: TypeAlias = tuple[str, str]


_STRINGS = frozenset({str})


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query brought.

    Attributes:
        samples: Labels and value of each row that can be used; values are finite and in range.
        rejected: Labels of each row that cannot, and why.
    """

    samples: list[tuple[Labels, float]] = field(default_factory=list)
    rejected: list[tuple[Labels, str]] = field(default_factory=list)


def read_answer(rows: object, query: Query) -> Answer:
    """The usable rows of an instant vector.

    Args:
        rows: ``data.result`` as it came, not trusted.
        query: What was asked; its range tells wrong values.

    Raises:
        AnswerError: ``rows`` is no list.
    """
    if not isinstance(rows, list):
        msg = "the answer holds no list of series"
        raise AnswerError(msg)
    answer = Answer()
    lowest, highest = query.lowest, query.highest
    for row in rows:
        labels = _labels(row)
        try:
            value = float(row["value"][1])
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            answer.rejected.append((labels or {}, "malformed"))
            continue
        if labels is None:
            answer.rejected.append(({}, "malformed"))
        elif lowest <= value <= highest and math.isfinite(value):
            answer.samples.append((labels, value))
        else:
            answer.rejected.append((labels, f"value {value!r}"))
    return answer


def _labels(row: object) -> Labels | None:
    labels = row.get("metric") if isinstance(row, dict) else None
    # At once: a hundred thousand rows come here at each tick of a large fleet.
    if isinstance(labels, dict) and set(map(type, labels.values())) <= _STRINGS:
        return labels
    return None


def pod_key(labels: Labels) -> Key | None:
    """Namespace and pod that a series is about; None where it names none.

    ``exported_*`` are the workload's own labels where the scrape job put its target's in front.
    """
    namespace = labels.get("exported_namespace") or labels.get("namespace")
    pod = labels.get("exported_pod") or labels.get("pod")
    return (namespace, pod) if namespace and pod else None
