"""``spillway run`` with its surroundings altered, for tests of what they do to it.

    RIG_CLOCK        a file with the seconds by which the wall clock is ahead; empty or absent: none
    RIG_WATCH_IDLE   seconds after which a silent watch is dead, instead of 90
    RIG_CENSUS       a file that gets, on SIGUSR1, what the process holds: tasks, open files, and
                     Spillway's own objects by class, as JSON
    RIG_TRACE        where it is set, the census also has how many bytes the lines of code hold that
                     allocated most; everything takes several times as long

Only `time.time` is altered: that is what the operator takes for now. The monotonic clock goes on,
as it does when a host's clock is set.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import runpy
import signal
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

from spillway.adapters.kube import informer
from spillway.adapters.metrics import scrape
from spillway.controller import watches

_real_time = time.time


def _ahead(path: Path) -> float:
    try:
        return float(path.read_text(encoding="ascii") or 0)
    except (OSError, ValueError):
        return 0.0


def _alter(clock: str | None, idle: str | None) -> None:
    if clock is not None:
        path = Path(clock)

        def altered() -> float:
            return _real_time() + _ahead(path)

        time.time = altered
        # A default that was taken before.
        _default(scrape.EngineScraper, "clock", altered)
    if idle is not None:
        _default(informer.Informer, "idle_seconds", float(idle))
        watches.STALE_AFTER_SECONDS = 2 * float(idle)  # type: ignore[misc]


def _take_census(path: Path) -> None:
    """Write what the process holds; runs in the event loop."""
    gc.collect()
    objects: Counter[str] = Counter()
    for one in gc.get_objects():
        module = getattr(type(one), "__module__", "")
        if isinstance(module, str) and module.startswith("spillway."):
            objects[type(one).__name__] += 1
    lines: dict[str, int] = {}
    if tracemalloc.is_tracing():
        held = tracemalloc.take_snapshot().statistics("lineno")
        lines = {f"{one.traceback[0].filename}:{one.traceback[0].lineno}": one.size for one in held}
    census = {
        "lines": lines,
        "tasks": sorted(task.get_name() for task in asyncio.all_tasks()),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "objects": objects,
    }
    made = path.with_suffix(".new")
    made.write_text(json.dumps(census), encoding="utf-8")
    made.replace(path)


def _on_signal(path: Path) -> None:
    # Not here: the signal may come in the middle of anything.
    asyncio.get_running_loop().call_soon_threadsafe(_take_census, path)


def _default(kind: type[Any], name: str, value: Any) -> None:
    defaults = kind.__init__.__kwdefaults__
    if name not in defaults:
        msg = f"{kind.__name__} has no argument {name} any more"
        raise AttributeError(msg)
    defaults[name] = value


if __name__ == "__main__":
    if "RIG_TRACE" in os.environ:
        tracemalloc.start()
    _alter(os.environ.get("RIG_CLOCK"), os.environ.get("RIG_WATCH_IDLE"))
    if "RIG_CENSUS" in os.environ:
        census = Path(os.environ["RIG_CENSUS"])
        signal.signal(signal.SIGUSR1, lambda *_: _on_signal(census))
    sys.argv[0] = "spillway"
    runpy.run_module("spillway", run_name="__main__", alter_sys=False)
