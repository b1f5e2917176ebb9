"""Pools by the hundred on a real control plane, and whether one operator keeps up with them.

Run: make bench-scale POOLS=1000 PODS=10, or python bench/bench_scale.py [--pools 1000] [--pods 10]
It starts etcd, the API server, its controllers and kwok, a real Prometheus, and a process that
serves the metrics of every pod; then, for each of the sizes 10, 100 and POOLS, an operator as it is
shipped. 1,000 pools of 10 pods take about half an hour and 6 GB of memory. --keep FILE adds the
figures to those of earlier runs, size by size, and prints them all.

Not real: the pods (kwok's), the nodes' eighty GPUs each (kwok's 1,250 nodes of eight would take the
control plane's share of two cores), and the engines' figures, which fit each other and are no
engine's.
The operator shares the cores with all the rest, which in a cluster has its own: where that is
allowed (root), it goes before them for its turn on a core. Who took how much is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.scale import figures
from bench.scale.run import Size
from bench.scale.scalerig import ScaleRig
from tests.e2e.rig.fleet.pools import Fleet


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pools", type=int, default=1000, help="of the largest size")
    parser.add_argument("--pods", type=int, default=10, help="of each pool")
    parser.add_argument(
        "--sizes", default="", help="numbers of pools, with commas, instead of 10,100,POOLS"
    )
    parser.add_argument(
        "--steady", type=float, default=180.0, metavar="SECONDS", help="of steady state a size"
    )
    parser.add_argument("--keep", type=Path, help="file with the figures of all sizes so far")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    chosen = options.sizes.split(",") if options.sizes else ["10", "100", str(options.pools)]
    options.chosen = sorted({int(text) for text in chosen if int(text) <= options.pools})
    if not options.chosen or options.chosen[0] < 1 or options.pods < 1:
        parser.error("there must be a size, and a pool and a pod in it")
    return options


def main() -> None:
    """Measure each size and print the figures."""
    options = arguments()
    console = Console(stderr=True)
    began = time.monotonic()

    def tell(text: str) -> None:
        elapsed = time.monotonic() - began
        console.print(f"[dim]{elapsed:6.0f} s[/dim]  {text}", highlight=False, soft_wrap=True)

    known = figures.load(options.keep) if options.keep else {}
    with ScaleRig(options.pods, console) as rig:
        fleet = Fleet(rig.cluster, options.pods, tell)
        for pools in options.chosen:
            fleet.grow(pools)
            tell(f"{pools} pools of {options.pods} pods: the operator starts")
            known[pools] = Size(rig, fleet, options.steady, tell).measure()
            if options.keep:
                figures.save(options.keep, known)
    if options.json:
        print(json.dumps([asdict(known[pools]) for pools in sorted(known)], indent=1))
        return
    Console(width=110).print(figures.table(list(known.values())))
    for line in (*figures.growth(list(known.values())), *figures.cores(list(known.values()))):
        print(line)


if __name__ == "__main__":
    main()
