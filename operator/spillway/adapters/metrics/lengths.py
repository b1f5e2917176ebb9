"""How long the requests of each model are, from its engines' histograms: pure, no I/O."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from spillway.core.facts import LengthQuantiles
from spillway.core.lengths import median_and_p95

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.adapters.metrics.answers import Answer, Key

#: Requests a second that are not longer than the bound.
_Buckets: TypeAlias = dict[float, float]


def read_lengths(prompts: Answer | None, outputs: Answer | None) -> dict[Key, LengthQuantiles]:
    """Quantiles by namespace and model; what an answer does not tell is None in them.

    Args:
        prompts: Of `Signal.PROMPT_LENGTHS`; None where the query failed.
        outputs: Of `Signal.OUTPUT_LENGTHS`.
    """
    by_prompt, by_output = _by_model(prompts), _by_model(outputs)
    return {
        key: LengthQuantiles(
            *_quantiles(by_prompt.get(key, {})), *_quantiles(by_output.get(key, {}))
        )
        for key in by_prompt.keys() | by_output.keys()
    }


def _by_model(answer: Answer | None) -> Mapping[Key, _Buckets]:
    found: defaultdict[Key, _Buckets] = defaultdict(dict)
    for labels, rate in answer.samples if answer is not None else ():
        namespace = labels.get("exported_namespace") or labels.get("namespace")
        model = labels.get("model_name")
        bound = _bound(labels.get("le", ""))
        if namespace and model and bound is not None:
            buckets = found[namespace, model]
            # Pods that are scraped with honorLabels and without are two series of one model.
            buckets[bound] = buckets.get(bound, 0.0) + rate
    return found


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return bound if bound > 0 else None


def _quantiles(buckets: _Buckets) -> tuple[float | None, float | None]:
    bounds = sorted(buckets)
    if len(bounds) < 2 or not math.isinf(bounds[-1]):
        return None, None
    # Cumulative as exported; a counter's rate is an estimate, so one may fall short of the last.
    shares = [0.0, *(buckets[bound] for bound in bounds)]
    counts = [max(0.0, above - below) for below, above in pairwise(shares)]
    return median_and_p95(bounds[:-1], counts)
