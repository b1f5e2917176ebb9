"""Fits `spillway.core.headroom_table` to simulations of the engine, request by request.

Each point is a random kind of work (cost of a step, lengths, replicas), simulated at a ladder of
rates behind a least-request router with Poisson arrivals. Where the quantile of the requests' mean
time per output token crosses the target is the rate that the engine really sustains; the table is
the least-squares correction of the formula in `spillway.core.throughput` to it.

    python -m tools.gen_headroom simulate --points 1500 --jobs 2 --rows rows.jsonl   # an hour
    python -m tools.gen_headroom fit --rows rows.jsonl                               # writes it
    python -m tools.gen_headroom --check                   # ten points that were not fitted to
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from spillway.core import headroom, headroom_table
from spillway.core.throughput import RequestWork, guessed_share
from spillway.sim.profiles import ReplicaProfile
from spillway.sim.request import Request
from spillway.sim.stepper import Stepper

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

TABLE: Final = Path(headroom_table.__file__)
#: Shares of the mean-value line's rate that are simulated.
LADDER: Final = (0.05, 0.1, 0.16, 0.23, 0.31, 0.4, 0.5, 0.6, 0.7, 0.79, 0.87, 0.93, 0.97)
QUANTILES: Final = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
#: Attainments that the table is fitted for; half of the requests is the mean-value line's own.
FITTED: Final = (0.8, 0.9, 0.95, 0.98, 0.99)
PROMPT_TOKENS: Final = 2000
#: A prompt that takes longer than this times the answer's whole time is no work for a target on
#: the time per token.
MOST_LUMP: Final = 0.35
#: Where even a step full of prompts is not much longer than the target, the engine's own limit on
#: the tokens of a step keeps the time per token, at any rate; what suffers is the first token.
LEAST_FULL_STEP: Final = 1.5
#: Larger batches scatter so little that the mean-value line holds, and take long to simulate.
MOST_BATCH: Final = 800
#: Where half of the requests miss the target by as much, all do at every higher rate.
FAR_BEYOND: Final = 1.3
RIDGE: Final = 0.3
FOLDS: Final = 5
#: Rates below this share are too far from the line for any use of it; errors there don't count.
LEAST_COUNTED: Final = 0.15
#: Seeds from here on are for checks and are never fitted to.
CHECK_SEED: Final = 9_000_000
CHECK_POINTS: Final = 10


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of work; times in units of the target.

    Attributes:
        b: Base of a step.
        O: Output tokens.
        p: Time to compute a prompt.
        d: Time that an output token adds to a step.
        N: Replicas behind the router.
        si: Sigma of the prompts' lognormal lengths.
        so: Sigma of the answers'.
        k: Mean prompt over the tokens that a step computes at most.
    """

    b: float
    O: float  # noqa: E741 - the symbol of the model
    p: float
    d: float
    N: int
    si: float
    so: float
    k: float

    @property
    def batch(self) -> float:
        """Sequences of a replica at the mean-value line's rate."""
        return (1 - self.b) * self.O / (self.p + self.d * self.O)


def draw_work(seed: int) -> Work:
    """A random kind of work, spread evenly over what engines and traffic come to."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets

    def between(low: float, high: float) -> float:
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    while True:
        work = Work(
            b=between(0.04, 0.7),
            O=between(3, 800),
            p=between(0.03, 8),
            d=between(5e-4, 0.02),
            N=rng.choice([1, 1, 2, 3, 4, 6, 8]),
            si=rng.uniform(0.2, 1.3),
            so=rng.uniform(0.2, 1.4),
            k=between(0.03, 3),
        )
        if (
            work.batch < MOST_BATCH
            and work.p / work.O <= MOST_LUMP
            and work.b + work.p / work.k >= LEAST_FULL_STEP
        ):
            return work


def simulate(seed: int) -> dict[str, Any]:
    """One point: quantiles of the time per token and of the first token, by rate."""
    work = draw_work(seed)
    rng = random.Random(seed * 7 + 1)  # noqa: S311 - not for secrets
    count = int(min(20_000, max(3000, 10 * work.N * work.batch)))
    lengths = [
        (_length(rng, PROMPT_TOKENS, work.si), _length(rng, work.O, work.so)) for _ in range(count)
    ]
    prompt = sum(length for length, _ in lengths) / count
    output = sum(length for _, length in lengths) / count
    output_squared = sum(length * length for _, length in lengths) / count
    context = prompt + output_squared / (2 * output) - 0.5
    profile = ReplicaProfile(
        name="point",
        gpu="any",
        gpus=1,
        base_seconds=work.b,
        per_sequence_seconds=0.0,
        per_context_token_seconds=work.d / context,
        per_prefill_token_seconds=work.p / prompt,
        per_attention_pair_seconds=0.0,
        kv_capacity_tokens=10**9,
        max_num_seqs=10**6,
        max_num_batched_tokens=max(16, int(prompt / work.k)),
    )
    gaps = [rng.expovariate(1.0) for _ in range(count)]
    rows = []
    for share in LADDER:
        times = _run(work, profile, lengths, gaps, share, output, seed)
        rows.append((share, *times))
        if times[0][0] > FAR_BEYOND:
            break
    squared = sum(length * length for length, _ in lengths) / count
    return {
        "seed": seed,
        "x": asdict(work),
        "Om": output,
        "cvI": math.sqrt(squared / prompt**2 - 1),
        "cvO": math.sqrt(output_squared / output**2 - 1),
        "rows": rows,
    }


def _length(rng: random.Random, mean: float, sigma: float) -> int:
    return max(1, round(rng.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)))


def _run(
    work: Work,
    profile: ReplicaProfile,
    lengths: Sequence[tuple[int, int]],
    gaps: Sequence[float],
    share: float,
    output: float,
    seed: int,
) -> tuple[list[float], list[float]]:
    """Quantiles of TPOT and TTFT at a share of the line's rate, in steady state from the start."""
    seconds = work.p + work.d * output
    busy = share * (1 - work.b)
    rate = busy / seconds * work.N
    replicas = [Stepper(profile) for _ in range(work.N)]
    # As many as run in steady state, each somewhere in its answer; long answers are met more often.
    present = int(busy / seconds * output * work.b / (1 - busy))
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    for replica in replicas:
        for _ in range(present):
            while True:
                prompt, tokens = rng.choice(lengths)
                if rng.random() * output * 8 < tokens:
                    break
            rest = max(1, int(tokens * rng.random()))
            replica.submit(Request(-1, 0.0, prompt, rest, cached_tokens=prompt - 1))
    now, ended = 0.0, []
    for number, ((prompt, tokens), gap) in enumerate(zip(lengths, gaps, strict=True)):
        now += gap / rate
        for replica in replicas:
            ended += replica.advance(now)
        target = min(replicas, key=lambda replica: replica.in_flight)
        target.submit(Request(number, now, prompt, tokens))
    for replica in replicas:
        ended += replica.advance(now * 3 + 1000)
    # The first have met a pool that was made up, the last one without arrivals behind them.
    kept = [t for t in ended if len(lengths) * 0.2 <= t.request.id < len(lengths) * 0.85]
    return _quantiles(t.tpot for t in kept), _quantiles(t.ttft for t in kept)


def _quantiles(values: Iterable[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in QUANTILES]


def sustained(row: dict[str, Any], quantile: int) -> float:
    """Share of the line's rate at which the quantile of TPOT crosses the target."""
    before: tuple[float, float] | None = None
    highest = 0.0
    for share, tpot, _ in row["rows"]:
        highest = max(highest, float(tpot[quantile]))
        if highest > 1:
            if before is None:
                return LADDER[0]
            low, high = math.log(max(before[1], 1e-9)), math.log(highest)
            part = min(max(-low / (high - low), 0.0), 1.0) if high > low else 0.0
            return before[0] + (float(share) - before[0]) * part
        before = float(share), highest
    return 0.995


@dataclass(frozen=True, slots=True)
class Cases:
    """Cases to fit: one for each point and attainment.

    Attributes:
        point: Number of the point.
        features: Shape (cases, 9).
        share: What was sustained.
        guess: Headroom by the formula.
        base: c0.
    """

    point: NDArray[np.int64]
    features: NDArray[np.float64]
    share: NDArray[np.float64]
    guess: NDArray[np.float64]
    base: NDArray[np.float64]

    def headroom(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """The headroom at a share of the line's rate."""
        return np.asarray((1 - share * (1 - self.base)) / self.base - 1)

    def share_at(self, room: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `headroom`."""
        share = (1 - self.base * (1 + room)) / (1 - self.base)
        return np.clip(share, headroom.LEAST_SHARE, 0.995)


def cases(rows: Sequence[dict[str, Any]]) -> Cases:
    """Features and targets of all points, at all attainments."""
    found = []
    for number, row in enumerate(rows):
        x = row["x"]
        work = RequestWork(
            base_seconds=x["b"],
            prefill_seconds=x["p"],
            token_seconds=x["d"],
            output_tokens=row["Om"],
            prefill_cv=row["cvI"],
            output_cv=row["cvO"],
            pooling=x["N"],
        )
        for attainment in FITTED:
            guess = (1 - guessed_share(work, 1.0, attainment) * (1 - x["b"])) / x["b"] - 1
            point = headroom.Point(
                base=x["b"],
                output_tokens=row["Om"],
                prefill=x["p"],
                token=x["d"],
                pooling=x["N"],
                prefill_cv=row["cvI"],
                output_cv=row["cvO"],
                attainment=attainment,
                guess=guess,
            )
            share = sustained(row, QUANTILES.index(attainment))
            found.append((number, point.features(), share, guess, x["b"]))
    return Cases(
        point=np.array([number for number, *_ in found]),
        features=np.array([features for _, features, *_ in found]),
        share=np.array([share for _, _, share, *_ in found]),
        guess=np.array([guess for *_, guess, _ in found]),
        base=np.array([base for *_, base in found]),
    )


def design(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of a quadratic: 1, each variable, each product of two."""
    size = features.shape[1]
    columns: list[NDArray[np.float64]] = [np.ones(len(features))]
    columns += [features[:, j] for j in range(size)]
    columns += [features[:, j] * features[:, k] for j in range(size) for k in range(j, size)]
    return np.stack(columns, axis=1)


def solve(some: Cases, matrix: NDArray[np.float64], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Coefficients by reweighted least squares, so that it is the rate's error that counts."""
    room = np.maximum(some.headroom(some.share), 1e-4)
    target = np.log(room / some.guess)
    slope = some.base / (1 - some.base)
    weights: NDArray[np.float64] = np.minimum((slope * room / some.share) ** 2, 1) + 1e-3
    found = np.zeros(matrix.shape[1])
    for _ in range(5):
        weighted = matrix[rows] * weights[rows][:, None]
        normal = matrix[rows].T @ weighted + RIDGE * np.eye(matrix.shape[1])
        found = np.asarray(np.linalg.solve(normal, weighted.T @ target[rows]))
        fitted = some.guess * np.exp(np.clip(matrix @ found, -3, 3))
        share = some.share_at(fitted)
        # The secant's slope, so that points the fit misses keep their weight.
        middle = slope * np.sqrt(room * fitted) / np.sqrt(some.share * share)
        weights = np.minimum(middle**2, 1) + 1e-3
    return found


def errors(some: Cases, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of the fitted over the simulated rate, where it is of use."""
    counted = some.share > LEAST_COUNTED
    return np.asarray(np.log(share / some.share)[counted])


def describe(name: str, error: NDArray[np.float64]) -> str:
    """One line about errors."""
    size = np.abs(error)
    return (
        f"{name:32} median {np.median(size):6.1%}  p90 {np.quantile(size, 0.9):6.1%}  "
        f"mean {error.mean():+6.1%}  n {len(error)}\n"
    )


def fit(rows: Sequence[dict[str, Any]]) -> str:
    """The table's text; prints what it is worth."""
    some = cases(rows)
    low, high = some.features.min(axis=0), some.features.max(axis=0)
    mean, deviation = some.features.mean(axis=0), some.features.std(axis=0)
    matrix = design((some.features - mean) / deviation)
    held_out = np.zeros(len(some.share))
    for fold in range(FOLDS):
        rest = some.point % FOLDS == fold
        found = solve(some, matrix, ~rest)
        fitted = some.guess * np.exp(np.clip(matrix @ found, -3, 3))
        held_out[rest] = some.share_at(fitted)[rest]
    error = errors(some, held_out)
    sys.stdout.write(describe("mean-value line", errors(some, np.full(len(some.share), 0.995))))
    sys.stdout.write(describe("formula alone", errors(some, some.share_at(some.guess))))
    sys.stdout.write(describe("corrected, on points held out", error))
    found = solve(some, matrix, np.ones(len(some.share), dtype=bool))
    size = some.features.shape[1]
    quadratic = np.zeros((size, size))
    quadratic[np.triu_indices(size)] = found[1 + size :]
    return "\n".join(
        (
            '"""Generated by tools/gen_headroom.py from simulations; do not edit.',
            "",
            f"{len(np.unique(some.point))} points; see `spillway.core.headroom`.",
            '"""',
            "",
            "from typing import Final",
            "",
            "# fmt: off",
            "#: Median relative error of the rate, on points that were held out of the fit.",
            f"TYPICAL_ERROR: Final = {np.median(np.abs(error)):.3f}",
            _row("LOW", low),
            _row("HIGH", high),
            _row("MEAN", mean),
            _row("DEVIATION", deviation),
            f"CONSTANT: Final = {found[0]:.4g}",
            _row("LINEAR", found[1 : 1 + size]),
            "QUADRATIC: Final = (",
            *(f"    ({_numbers(row)})," for row in quadratic),
            ")",
            "",
        )
    )


def _row(name: str, values: NDArray[np.float64]) -> str:
    return f"{name}: Final = (\n    {_numbers(values)},\n)"


def _numbers(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def check(points: int) -> int:
    """Compare the table with points that it was not fitted to; 1 where it is not what it says."""
    fresh: list[dict[str, Any]] = []
    seed = CHECK_SEED
    while len(fresh) < points:
        fresh.append(simulate(seed))
        seed += 1
    some = cases(fresh)
    corrections = np.array([_correction(row) for row in some.features])
    error = errors(some, some.share_at(some.guess * corrections))
    sys.stdout.write(describe(f"{points} fresh points", error))
    return int(bool(np.median(np.abs(error)) > 2 * headroom_table.TYPICAL_ERROR))


def _correction(features: NDArray[np.float64]) -> float:
    return headroom.correction_at(list(map(float, features)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("action", nargs="?", choices=("simulate", "fit"))
    parser.add_argument("--check", action="store_true", help="compare with fresh points")
    parser.add_argument("--points", type=int, default=1500)
    parser.add_argument("--first", type=int, default=100_000, help="first seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rows", type=Path, action="append", help="file of simulated points")
    chosen = parser.parse_args(arguments)
    if chosen.check:
        return check(CHECK_POINTS)
    if chosen.action is None or not chosen.rows:
        parser.error("simulate and fit need --rows; or give --check")
    if chosen.action == "simulate":
        seeds = range(chosen.first, chosen.first + chosen.points)
        with ProcessPoolExecutor(chosen.jobs) as pool, chosen.rows[0].open("a") as file:
            for row in pool.map(simulate, seeds):
                file.write(json.dumps(row) + "\n")
                file.flush()
        return 0
    rows = [json.loads(line) for path in chosen.rows for line in path.read_text().splitlines()]
    TABLE.write_text(fit(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
