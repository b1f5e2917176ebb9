"""The clairvoyant optimum on a public trace: bound, plan, time; and what foresight alone gets.

Run: python bench/bench_optimum.py --traces FOLDER [--hours 168] [--scale 3.5] [--step 60]

FOLDER holds azure2024/ (counts) and azure2023/ (lengths) of the Azure LLM inference traces; counts
with lengths of another year are semi-synthetic. Attainments are those that the runs reached.

Rows, each run by the fluid engine in 5 s steps, with admission at the router at the true B*:

* plan: the optimum's own replicas, asked for ahead of their start;
* foresight: the marginal rule at the true capacity, given the true mean of the minute that begins;
  asked for ahead of their start, kept where they pay again within a start and a drain;
* present: the same for the minute that is over, kept for a start and a drain after they last paid:
  no forecast at all.

Between the first two lies what a rule for single moments misses that knows them, and between the
last two what a perfect forecast is worth to it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spillway.core.economics import replicas_by_marginal_rule
from spillway.core.forecast import Forecast
from spillway.sim.conditions import Conditions, LeadTime
from spillway.sim.fluid import STEP_SECONDS, run_setting
from spillway.sim.optimum import Optimum, coarser, optimum, problem_from
from spillway.sim.scaler import Asked, BurstActuator
from spillway.sim.setting import setting_of
from spillway.sim.traces import load
from spillway.sim.traces.azure import load_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.outcome import Result
    from spillway.sim.scaler import Seen, Told
    from spillway.sim.setting import Setting

FILES = {
    "conv": ("conv_10s_counts.csv.gz", "AzureLLMInferenceTrace_conv.csv.gz"),
    "code": ("code_10s_counts_first4days.csv.gz", "AzureLLMInferenceTrace_code.csv.gz"),
}
MINUTE = 60.0


@dataclass
class Known:
    """A scaler that knows how many replicas to ask for when."""

    name: str
    asked: NDArray[np.int64]
    period_seconds: float = 15.0
    configurations: int = 1
    told: Told | None = field(default=None)

    def describe(self, _: int) -> str:
        """No parameters."""
        return ""

    def begin(self, told: Told) -> None:
        """Keep what is told."""
        self.told = told

    def decide(self, seen: Seen) -> Asked:
        """What stands in the table for this moment."""
        assert self.told is not None  # noqa: S101 - engines begin before they ask
        step = min(int(seen.now / STEP_SECONDS), len(self.asked) - 1)
        return Asked(
            self.asked[step : step + 1],
            np.zeros(1),
            seen.ready * self.told.concurrency,
        )


def ahead(serving: NDArray[np.int64], seconds: float) -> NDArray[np.int64]:
    """The most that is needed in each step and so long after it: what to ask for, a start ahead."""
    steps = round(seconds / STEP_SECONDS)
    padded = np.append(serving, np.full(steps, serving[-1]))
    return np.lib.stride_tricks.sliding_window_view(padded, steps + 1).max(axis=1)


def marginal(setting: Setting, offset_seconds: float) -> NDArray[np.int64]:
    """The marginal rule for the mean of the minute that begins so much later."""
    told = setting.told
    width, shift = round(MINUTE / STEP_SECONDS), round(offset_seconds / STEP_SECONDS)
    total = np.concatenate(([0.0], np.cumsum(setting.rates)))
    at = np.arange(setting.steps)
    begin = np.clip(at + shift, 0, setting.steps - 1)
    end = np.minimum(np.maximum(at + shift + width, 1), setting.steps)
    mean = (total[end] - total[begin]) / np.maximum(1, end - begin)
    api_usd_per_hour = told.api_usd_per_request * told.requests_per_second * 3600
    found = [
        replicas_by_marginal_rule(
            Forecast(0.0, 0.0, demand, ((0.5, demand),)),
            told.requests_per_second,
            told.gpu_usd_per_replica_hour,
            api_usd_per_hour,
            told.max,
        )
        for demand in mean.tolist()
    ]
    return np.maximum(told.floor, np.array(found, dtype=np.int64))


def solved(setting: Setting, attainment: float, step: float) -> tuple[Optimum, float]:
    """The optimum, and the CPU seconds that it took."""
    coarse = coarser(setting, step)
    problem = problem_from(coarse, attainment)
    begin = time.process_time()
    return optimum(coarse.rates, step, problem), time.process_time() - begin


def show(name: str, result: Result, best: Optimum) -> None:
    """A row of the second table."""
    print(
        f"{name:22} {result.usd:10.2f} {result.api_usd:10.2f} {result.attainment:8.4f}"
        f" {best.usd_lower:10.2f} {result.usd / best.usd_lower:8.4f}"
    )


def study(name: str, folder: Path, args: argparse.Namespace) -> None:
    """Both tables of one trace."""
    counts, lengths = FILES[name]
    trace = load_counts(folder / "azure2024" / counts, load(folder / "azure2023" / lengths).lengths)
    trace = trace.window(0.0, min(trace.seconds, args.hours * 3600)).scaled(args.scale)
    attainment = args.attainment
    conditions = Conditions(lead=LeadTime(180.0, 0.0), attainment=attainment)
    setting = setting_of(trace, conditions, STEP_SECONDS)
    print(f"\n{trace.name}, {trace.seconds / 3600:g} h, x{args.scale:g}; step {args.step:g} s")
    print("attainment   bound $     plan $    gap   API $   replicas    CPU s")
    plans = {}
    for share in (attainment, *(s for s in (0.97, 0.985) if s > attainment)):
        best, cpu = solved(setting, share, args.step)
        plans[share] = best
        print(
            f"{share:10.3f} {best.usd_lower:9.2f} {best.usd_plan:10.2f} {best.gap:6.2%}"
            f" {best.api_usd:7.2f} {best.replicas.min():4d} to {best.replicas.max():<4d} {cpu:6.1f}"
        )
    print(f"{'run':22} {'$':>10} {'API $':>10} {'attained':>8} {'bound $':>10} {'ratio':>8}")
    many = round(args.step / STEP_SECONDS)
    lead = conditions.lead.median_seconds
    runs = {
        f"plan at {share}": ahead(np.repeat(best.replicas, many), lead)
        for share, best in plans.items()
    }
    kept = lead + conditions.drain_seconds
    runs["foresight"] = ahead(marginal(setting, 0.0), kept)
    runs["present"] = ahead(marginal(setting, -MINUTE)[::-1], kept)[::-1]
    for run, asked in runs.items():
        result = run_setting(setting, Known(run, asked), BurstActuator.ADMISSION)[0]
        show(run, result, solved(setting, result.attainment, args.step)[0])


def main() -> None:
    """Print the tables of each trace."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=168.0)
    parser.add_argument("--scale", type=float, default=3.5)
    parser.add_argument("--step", type=float, default=60.0)
    parser.add_argument("--attainment", type=float, default=0.95)
    parser.add_argument("--trace", choices=sorted(FILES), action="append")
    args = parser.parse_args()
    for name in args.trace or FILES:
        study(name, args.traces, args)


if __name__ == "__main__":
    main()
