"""How much faster the line filter reads an engine's page than a full parse.

    python bench/bench_page.py [page ...]

Prints, for each page, milliseconds of CPU time a page (the best of several rounds) and the ratio.
Without arguments it reads the recorded pages of the contract tests.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from spillway.adapters.metrics import parse_page

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDED = Path(__file__).parent.parent / "tests" / "contract" / "data"
ROUNDS = 7
REPEAT = 10


def milliseconds(function: Callable[[], object]) -> float:
    """CPU time of one call, the best of several rounds (others share the machine)."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(REPEAT):
            function()
        best = min(best, (time.process_time() - began) / REPEAT)
    return best * 1000


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


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or sorted(RECORDED.glob("vllm-*.txt")))
