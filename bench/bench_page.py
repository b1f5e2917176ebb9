"""How much faster pages are read and written here than by the client library.

    python bench/bench_page.py [page ...]

Prints, for each engine's page, milliseconds of CPU time (the best of several rounds) by the line
filter and by a full parse, and the ratio. Without arguments it reads the recorded pages of the
contract tests. Then the same for the operator's own page of 1,000 pools: written by
`spillway.adapters.pool_gauge` and by the library.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from spillway.adapters.metrics import parse_page
from spillway.adapters.telemetry import Telemetry
from spillway.api.reasons import ConditionType

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDED = Path(__file__).parent.parent / "tests" / "contract" / "data"
ROUNDS = 7
REPEAT = 10
POOLS = 1000


def milliseconds(function: Callable[[], object], repeat: int = REPEAT) -> float:
    """CPU time of one call, the best of several rounds (others share the machine)."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(repeat):
            function()
        best = min(best, (time.process_time() - began) / repeat)
    return best * 1000


def operators_page() -> None:
    """What a scrape of the operator costs with many pools."""
    telemetry, library = Telemetry(), CollectorRegistry()
    for gauge in telemetry.pool_gauges:
        library.register(gauge)
        values = [c.value for c in ConditionType] if gauge.labels == ("type",) else ["a", "b", "c"]
        for number in range(POOLS):
            for value in values if gauge.labels else [""]:
                labels = [value] * len(gauge.labels)
                gauge.set((f"team-{number // 50}", f"pool-{number}"), number / 7, *labels)
    text = telemetry.render().decode()
    lines = text.count("\n")
    ours = milliseconds(telemetry.render, repeat=1)
    theirs = milliseconds(lambda: generate_latest(library), repeat=1)
    print(
        f"\nthe operator's page, {POOLS} pools: {len(text) / 1e6:.1f} MB, {lines} lines, "
        f"{ours:.0f} ms; by the library {theirs:.0f} ms, {theirs / ours:.0f}x"
    )


def main(paths: list[Path]) -> None:
    """Print the table."""
    print(f"{'page':32} {'kB':>6} {'lines':>6} {'filter ms':>10} {'full ms':>9} {'ratio':>6}")
    for path in paths:
        text = path.read_text("utf-8")
        filtered = milliseconds(lambda text=text: parse_page(text, at=0.0))  # type: ignore[misc]
        full = milliseconds(lambda text=text: list(text_string_to_metric_families(text)))  # type: ignore[misc]
        print(
            f"{path.stem:32} {len(text) / 1024:6.0f} {text.count(chr(10)):6d} "
            f"{filtered:10.3f} {full:9.2f} {full / filtered:5.0f}x"
        )
    operators_page()


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or sorted(RECORDED.glob("vllm-*.txt")))
