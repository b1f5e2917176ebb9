"""What the load of all pools was, read once at start, so that a restart forgets no season."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from spillway.adapters.metrics.transport import AnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.adapters.metrics.answers import Key

#: A day's profile takes a day and the bins that wait (`spillway.core.forecasters.seasonal`).
HISTORY_SECONDS: Final = 2 * 86_400.0
#: Fine enough for the profile's quarters of an hour; 1,000 pools are then about 15 MB.
STEP_SECONDS: Final = 300.0

#: Pairs (time, mean requests per second), oldest first.
Series: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ArrivalHistory:
    """Past arrivals.

    Attributes:
        gateways: As gateways counted them, by namespace and pool.
        engines: As engines did, by namespace and model.
        failure: Why there is none, for a person; "" where the query was answered.
    """

    gateways: Mapping[Key, Series] = field(default_factory=lambda: MappingProxyType({}))
    engines: Mapping[Key, Series] = field(default_factory=lambda: MappingProxyType({}))
    failure: str = ""


def read_history(rows: object) -> ArrivalHistory:
    """The usable series of a range vector; what is no number or names no pool is left out.

    Args:
        rows: ``data.result`` as it came, not trusted.

    Raises:
        AnswerError: ``rows`` is no list.
    """
    if not isinstance(rows, list):
        msg = "the answer holds no list of series"
        raise AnswerError(msg)
    gateways: dict[Key, Series] = {}
    engines: dict[Key, Series] = {}
    for row in rows:
        labels = row.get("metric") if isinstance(row, dict) else None
        if not isinstance(labels, dict):
            continue
        namespace = labels.get("exported_namespace") or labels.get("namespace")
        for name, found in (("pool", gateways), ("model_name", engines)):
            if isinstance(namespace, str) and isinstance(labels.get(name), str):
                found[namespace, labels[name]] = _series(row.get("values"))
    return ArrivalHistory(gateways, engines)


def _series(values: Any) -> Series:
    """The samples; the first is left out, because its window may reach beyond the series' begin."""
    samples = []
    for pair in values if isinstance(values, list) else ():
        try:
            at, value = float(pair[0]), float(pair[1])
        except (IndexError, KeyError, TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(at) and math.isfinite(value):
            samples.append((at, max(0.0, value)))
    return tuple(samples[1:])
