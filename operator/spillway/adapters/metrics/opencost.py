"""What OpenCost says a node's GPUs cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spillway.adapters.metrics.answers import Answer


def node_gpu_prices(answer: Answer | None) -> dict[str, float]:
    """US dollars for one GPU-hour, by node; nodes without GPUs (price 0) are left out.

    Args:
        answer: Of `Signal.GPU_PRICE`; None where the query failed.
    """
    prices: dict[str, float] = {}
    for labels, usd in answer.samples if answer is not None else ():
        # With honorLabels off, `instance` is OpenCost's own address and `exported_instance` the
        # node's name; `node` is the node's in any case.
        node = labels.get("exported_node") or labels.get("node")
        if node and usd > 0:
            prices[node] = max(usd, prices.get(node, 0.0))
    return prices
