"""A real GPU's steps beside the built-in table: fits of what bench/step_time_gpu.py measured.

Run: python bench/bench_step_time.py [FILE...], by default on the recordings in bench/step_time/.

The step of B sequences that read X tokens each is fitted as c0 + c1 B + c2 B X, the step that
computes a prompt of n as c0 + c3 n + pair n^2 / 2: the terms of `spillway.core.stepcost`, by least
squares of the relative error, all coefficients at least 0. The error beside a fit is over the sizes
that went into it; that of the table is over the same sizes.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spillway.core.profiles import engine_profile, gpu_of, shape_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spillway.core.profiles import EngineProfile

RECORDINGS = Path(__file__).parent / "step_time"
MODEL = "llama-3.1-8b"


def fit(terms: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of ``terms`` (a row for each step), at least 0, by relative least squares."""
    rows = terms / seconds[:, None]
    used = list(range(terms.shape[1]))
    while used:
        # Scaled, since the columns differ by many powers of ten.
        scale = np.abs(rows[:, used]).max(axis=0)
        found = np.linalg.lstsq(rows[:, used] / scale, np.ones(len(rows)), rcond=None)[0] / scale
        if found.min() >= 0:
            break
        used.pop(int(found.argmin()))
    result = np.zeros(terms.shape[1])
    result[used] = found if used else 0.0
    return result


def decode_terms(rows: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    """1, B and B X of each step."""
    return np.array([(1.0, r["batch"], r["batch"] * r["context"]) for r in rows])


def prefill_terms(rows: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    """1, n and the pairs of each step."""
    return np.array([(1.0, r["prompt"], r["prompt"] ** 2 / 2) for r in rows])


def seconds_of(rows: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    """The median of each step."""
    return np.array([r["ms"] for r in rows]) / 1e3


def errors(predicted: NDArray[np.float64], seconds: NDArray[np.float64]) -> str:
    """Median and worst relative error, with its sign."""
    off = predicted / seconds - 1
    worst = off[np.abs(off).argmax()]
    return f"{statistics.median(np.abs(off)):.0%} median, {worst:+.0%} worst"


def compare(recording: dict[str, Any]) -> list[str]:
    """The two tables of one recording."""
    shape, gpu = shape_of(MODEL), gpu_of(recording["gpu"].lower())
    if shape is None or gpu is None:
        return [f"{recording['gpu']}: not in the built-in table"]
    table = engine_profile(shape, gpu, 1)
    spread = max(
        (r["ms_max"] - r["ms_min"]) / r["ms"] for r in recording["decode"] + recording["prefill"]
    )
    counts = (
        f"{len(recording['decode'])} decode and {len(recording['prefill'])} prefill steps; "
        f"{recording['groups']} groups of replays each, range at most {spread:.1%} of the median."
    )
    return [
        f"### {recording['gpu']}, PyTorch {recording['torch']}",
        "",
        counts,
        "",
        *_costs(recording, table),
        "",
        *_steps(recording, table),
    ]


def _costs(recording: dict[str, Any], table: EngineProfile) -> list[str]:
    decode, prefill = recording["decode"], recording["prefill"]
    base, each, context = fit(decode_terms(decode), seconds_of(decode))
    first, token, pair = fit(prefill_terms(prefill), seconds_of(prefill))
    costs = (
        ("c0, step of a decode (ms)", base * 1e3, table.base * 1e3),
        ("c1, sequence (us)", each * 1e6, table.per_sequence * 1e6),
        ("c2, token of context (ns)", context * 1e9, table.per_context_token * 1e9),
        ("c0, step of a prefill (ms)", first * 1e3, table.base * 1e3),
        ("c3, prompt token (us)", token * 1e6, table.per_prefill_token * 1e6),
        ("pair of a prompt (ns)", pair * 1e9, table.per_attention_pair * 1e9),
    )
    return [
        "| cost | measured, fitted | built-in table | table / measured |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {found:.4g} | {given:.4g} | {_ratio(given, found)} |"
            for name, found, given in costs
        ),
    ]


def _ratio(given: float, found: float) -> str:
    return f"{given / found:.2f}" if found > 0 else "-"


def _steps(recording: dict[str, Any], table: EngineProfile) -> list[str]:
    decoding = np.array([table.base, table.per_sequence, table.per_context_token])
    computing = np.array([table.base, table.per_prefill_token, table.per_attention_pair])
    lines = ["| steps | fit is off by | table is off by |", "| --- | --- | --- |"]
    decode = recording["decode"]
    fitted = fit(decode_terms(decode), seconds_of(decode))
    groups = (
        ("decode, all", decode),
        ("decode, batch up to 64", [r for r in decode if r["batch"] <= 64]),
        ("decode, batch above 64", [r for r in decode if r["batch"] > 64]),
    )
    for name, rows in groups:
        terms, seconds = decode_terms(rows), seconds_of(rows)
        lines.append(
            f"| {name} | {errors(terms @ fitted, seconds)} | {errors(terms @ decoding, seconds)} |"
        )
    prefill = recording["prefill"]
    terms, seconds = prefill_terms(prefill), seconds_of(prefill)
    own = errors(terms @ fit(terms, seconds), seconds)
    lines.append(f"| prefill | {own} | {errors(terms @ computing, seconds)} |")
    return lines


def main(paths: Sequence[str]) -> int:
    """Prints the tables of each recording."""
    for path in [Path(p) for p in paths] or sorted(RECORDINGS.glob("*.json")):
        print(f"## {path.stem}\n\n" + "\n".join(compare(json.loads(path.read_text()))), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
